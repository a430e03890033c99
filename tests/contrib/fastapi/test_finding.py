"""A route finds its app's queue, wherever it is mounted; and says what to do where there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio.from_thread
import pytest
from fastapi import Depends, FastAPI, WebSocket
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from omniq import AsyncOmniQ, AsyncTaskHandle, OmniQ
from omniq.contrib import starlette as bare
from omniq.contrib.fastapi import QueueDep, get_queue, queue_dependency
from omniq.errors import ConfigError, NotStarted
from omniq.sync import TaskHandle
from tests.contrib.fastapi.kit import add, bare_extension, client, extension, served

pytestmark = pytest.mark.asyncio
EmailQueue = Annotated[AsyncOmniQ, Depends(queue_dependency("emails"))]
PARAMS = {"x": 5, "y": 10}


class Accepted(BaseModel):
    task: AsyncTaskHandle[int]
    blocking: TaskHandle[int] | None = None


def app_with_routes(**options: Any) -> FastAPI:
    app = FastAPI(**options)

    @app.post("/add")
    async def start(queue: QueueDep, x: int, y: int) -> AsyncTaskHandle[int]:
        return await queue.enqueue(add, (x, y))

    @app.post("/dict")
    async def in_dict(queue: QueueDep) -> Any:
        return {"task": await queue.enqueue(add, (1, 2))}

    @app.post("/model")
    async def in_model(queue: QueueDep) -> Accepted:
        return Accepted(task=await queue.enqueue(add, (1, 2)))

    @app.websocket("/ws")
    async def socket(websocket: WebSocket, queue: QueueDep) -> None:
        await websocket.accept()
        await websocket.send_text(await queue.enqueue(add, (1, 2)))
        await websocket.close()

    @app.post("/email")
    async def email(queue: EmailQueue) -> str:
        return await queue.enqueue(add, (1, 2))

    return app


async def test_a_route_gets_the_queue_and_may_answer_with_the_handle() -> None:
    app = app_with_routes(lifespan=extension().lifespan)
    async with served(app) as browser:
        task = (await browser.post("/add", params=PARAMS)).json()
        assert await app.state.omniq.get_result(task, 60) == 15
        for path in ("/dict", "/model"):
            task = (await browser.post(path)).json()["task"]
            assert await app.state.omniq.get_result(task, 60) == 3


async def test_clients_are_told_that_a_handle_is_a_string() -> None:
    schema = app_with_routes().openapi()
    answer = schema["paths"]["/add"]["post"]["responses"]["200"]["content"]["application/json"]
    assert (answer["schema"]["type"], answer["schema"]["format"]) == ("string", "uuid")
    told = schema["components"]["schemas"]["Accepted"]["properties"]
    assert told["task"]["type"] == "string"
    assert told["blocking"]["anyOf"][0]["type"] == "string"


async def test_a_handle_of_the_blocking_face_is_a_string_too() -> None:
    def blocking() -> None:
        with OmniQ(storage_type="memory") as queue:
            handle = queue.enqueue(add, (1, 2))
            made = Accepted(task=handle, blocking=handle)  # type: ignore[arg-type]
            assert made.model_dump_json() == f'{{"task":"{handle}","blocking":"{handle}"}}'

    await asyncio.to_thread(blocking)


async def test_a_websocket_gets_it_too() -> None:
    app = app_with_routes(lifespan=extension().lifespan)
    with TestClient(app) as browser, browser.websocket_connect("/ws") as socket:
        task = socket.receive_text()
        assert browser.portal is not None
        assert browser.portal.call(app.state.omniq.get_result, task, 60) == 3


def nested(inner: FastAPI | Starlette, omniq: Any) -> FastAPI:
    middle, outer = FastAPI(), FastAPI(lifespan=omniq.lifespan)
    middle.mount("/inner", inner)
    outer.mount("/middle", middle)
    return outer


async def test_a_mounted_app_finds_the_queue_of_the_app_around_it() -> None:
    omniq = extension()
    outer = nested(app_with_routes(), omniq)
    async with served(outer) as browser:  # a transport that carries no state
        answer = await browser.post("/middle/inner/add", params=PARAMS)
        assert await omniq.queue.get_result(answer.json(), 60) == 15
    with TestClient(outer) as again:  # one that does
        assert again.post("/middle/inner/add", params=PARAMS).status_code == 200


async def test_a_mounted_app_with_a_queue_of_its_own_gets_that() -> None:
    theirs, ours = extension(), extension()
    inner = app_with_routes()

    @asynccontextmanager
    async def both(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with theirs.lifespan_context(app) as state, ours.lifespan_context(inner):
            yield state

    outer = FastAPI(lifespan=both)
    outer.mount("/inner", inner)
    async with served(outer) as browser:
        task = (await browser.post("/inner/add", params=PARAMS)).json()
        assert await ours.queue.get_result(task, 60) == 15
    with TestClient(outer) as again:
        task = again.post("/inner/add", params=PARAMS).json()
        assert again.portal is not None
        assert again.portal.call(ours.queue.get_result, task, 60) == 15


async def test_starlettes_helper_in_a_mounted_app() -> None:
    async def start(request: HTTPConnection) -> PlainTextResponse:
        queue = bare.get_queue(request)
        mails = bare.get_queue(request, "emails")
        assert queue is not mails
        return PlainTextResponse(await mails.enqueue(add, (1, 2)))

    omniq, mails = bare_extension(), bare_extension(name="emails")
    app = Starlette(
        routes=[Mount("/a", app=Starlette(routes=[Mount("/b", routes=[Route("/", start)])]))],
        lifespan=omniq.lifespan,
    )
    mails.init_app(app)
    async with served(app) as browser:
        assert await mails.queue.get_result((await browser.get("/a/b/")).text, 60) == 3


async def test_a_test_may_replace_the_queue() -> None:
    app = app_with_routes()
    async with AsyncOmniQ(storage_type="memory") as other:
        app.dependency_overrides[get_queue] = lambda: other
        app.dependency_overrides[queue_dependency("emails")] = lambda: other
        async with client(app) as browser:
            task = (await browser.post("/add", params=PARAMS)).json()
            assert await other.get_result(task, 60) == 15
            assert (await browser.post("/email")).status_code == 200


async def test_named_queues() -> None:
    mails = extension(name="emails")
    app = app_with_routes(lifespan=mails.lifespan)
    async with served(app) as browser:
        task = (await browser.post("/email")).json()
        assert await mails.queue.get_result(task, 60) == 3
    assert queue_dependency("emails") is queue_dependency("emails")
    assert queue_dependency("queue") is get_queue


async def test_a_test_client_that_is_not_entered_says_so() -> None:
    app = app_with_routes(lifespan=extension().lifespan)
    with pytest.raises(NotStarted) as caught:
        TestClient(app).post("/add", params=PARAMS)
    assert str(caught.value) == (
        "OmniQ is not started in this app, so there is no queue for this route. Start it with "
        "the app: write lifespan=omniq.lifespan where the app is made, or omniq.init_app(app). "
        "Only the outermost app is started: not one that is mounted. In a test, enter the app's "
        "lifespan: `with TestClient(app) as client:`, or `async with "
        "app.router.lifespan_context(app):` around httpx."
    )


async def test_an_app_that_has_ended_says_so() -> None:
    app = app_with_routes(lifespan=extension().lifespan)
    async with served(app):
        pass
    async with client(app) as browser:
        with pytest.raises(NotStarted, match="not started in this app"):
            await browser.post("/add", params=PARAMS)


async def test_a_name_nobody_started_is_answered_with_the_one_that_was_meant() -> None:
    app = FastAPI(lifespan=extension().lifespan)
    extension(name="emails").init_app(app)
    wrong = Depends(queue_dependency("emials"))

    @app.get("/")
    async def route(queue: AsyncOmniQ = wrong) -> None:
        raise AssertionError("there is no such queue")

    async with served(app) as browser:
        with pytest.raises(NotStarted) as caught:
            await browser.get("/")
    assert str(caught.value) == (
        "this app has started no queue named 'emials'; did you mean 'emails'? (started: queue, "
        "emails). Each name is an extension of its own: "
        "OmniQExtension(name='emials').init_app(app)"
    )


async def test_a_name_that_is_like_none_is_not_told_twice_what_there_is() -> None:
    app = FastAPI(lifespan=extension().lifespan)

    @app.get("/")
    async def route(queue: EmailQueue) -> None: ...

    async with served(app) as browser:
        with pytest.raises(NotStarted) as caught:
            await browser.get("/")
    assert "no queue named 'emails' (started: queue)" in str(caught.value)


async def test_a_plain_route_reaches_the_queue_through_the_apps_loop() -> None:
    app = FastAPI(lifespan=extension().lifespan)

    @app.post("/")
    def route(queue: QueueDep) -> str:
        return anyio.from_thread.run(queue.enqueue, add, (5, 10))

    async with served(app) as browser:
        task = (await browser.post("/")).json()
        assert await app.state.omniq.get_result(task, 60) == 15


async def test_a_name_that_cannot_be_one_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="such as queue_dependency"):
        queue_dependency("my queue")
