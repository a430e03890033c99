"""Four ways to start with an app, alone and together."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from omniq import AsyncOmniQ, OmniQ
from omniq.contrib import fastapi as omniq
from omniq.contrib import starlette as bare
from omniq.contrib.fastapi import OmniQExtension, QueueDep
from omniq.contrib.role import acting_as
from omniq.errors import ConfigError, StorageError
from tests.contrib.fastapi.kit import add, bare_extension, extension, served

pytestmark = pytest.mark.asyncio
order: list[str] = []


@asynccontextmanager
async def database(app: Any) -> AsyncIterator[dict[str, str]]:
    order.append("database open")
    yield {"database": "theirs"}
    order.append("database closed")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    order.clear()


async def enqueue_add(queue: QueueDep, x: int, y: int) -> str:
    return await queue.enqueue(add, (x, y))


def with_route(app: FastAPI) -> FastAPI:
    app.post("/add")(enqueue_add)
    return app


def by_lifespan() -> FastAPI:
    return FastAPI(lifespan=omniq.lifespan)


def by_init_app() -> FastAPI:
    app = FastAPI()
    omniq.init_app(app)
    return app


def by_router() -> FastAPI:
    app = FastAPI()
    app.include_router(omniq.router)
    return app


def by_nested_router() -> FastAPI:
    inner = APIRouter()
    inner.include_router(omniq.router, prefix="/inner")
    app = FastAPI()
    app.include_router(inner, prefix="/outer")
    return app


def by_context() -> FastAPI:
    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with database(app), omniq.lifespan_context(app) as state:
            yield {**state, "mine": 1}

    return FastAPI(lifespan=own)


WAYS = [by_lifespan, by_init_app, by_router, by_nested_router, by_context]


@pytest.mark.parametrize("way", WAYS)
async def test_without_any_setting_tasks_run_in_the_app(way: Any, here: Path) -> None:
    app = with_route(way())
    async with served(app) as client:
        answer = await client.post("/add", params={"x": 5, "y": 10})
        assert answer.status_code == 200, answer.text
        assert await app.state.omniq.get_result(answer.json(), timeout=60) == 15
        assert [card.embedded for card in await app.state.omniq.workers()] == [True]
        assert (await client.get("/omniq/health")).json() == {"status": "ok"}
        assert app.state.omniq is omniq.queue
    assert (here / ".omniq" / ".gitignore").read_text() == "*\n"
    assert not hasattr(app.state, "omniq"), "what has ended is not found any more"


@pytest.mark.parametrize("way", WAYS)
async def test_it_runs_under_starlettes_test_client(way: Any) -> None:
    app = with_route(way())
    with TestClient(app) as client:
        task = client.post("/add", params={"x": 20, "y": 22}).json()
        assert client.portal is not None
        assert client.portal.call(app.state.omniq.get_result, task, 60) == 42


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"worker": "false"}, "worker='false'): write True, False or None"),
        ({"dashboard": "no"}, "dashboard='no'): write True, False or None"),
        ({"url": "shop.example"}, "for example url='https://shop.example/api'"),
        ({"queue": OmniQ(storage_type="memory")}, "wants an AsyncOmniQ"),
    ],
)
async def test_settings_that_would_mean_something_else_are_refused(
    options: dict[str, Any], why: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        OmniQExtension(**options)
    assert why in str(caught.value)


@pytest.mark.parametrize("mounted", [False, True])
async def test_a_dashboard_that_nothing_closes_stops_the_start(mounted: bool) -> None:
    auth: Any = ("ada", "")  # as of a variable that is not set
    omniq_ = extension() if mounted else extension(auth=auth)
    app = FastAPI(lifespan=omniq_.lifespan)
    if mounted:
        app.mount("/a", omniq_.dashboard())
        app.mount("/b", omniq_.dashboard(auth))
    with pytest.raises(ConfigError, match="is the variable set"):
        async with app.router.lifespan_context(app):
            raise AssertionError("it started")


async def test_nothing_happens_before_it_is_asked_for(here: Path) -> None:
    assert omniq.lifespan is not None and not list(here.iterdir())
    FastAPI(lifespan=omniq.lifespan)
    by_init_app()
    assert not list(here.iterdir())


async def test_starlette_alone_in_three_ways() -> None:
    async def start(request: Any) -> PlainTextResponse:
        return PlainTextResponse(await bare.get_queue(request).enqueue(add, (1, 2)))

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with bare.lifespan_context(app) as state:
            yield state

    routes = [Route("/", start)]
    late = Starlette(routes=routes)
    bare.init_app(late)
    apps = [Starlette(routes=routes, lifespan=each) for each in (bare.lifespan, own)]
    for app in (*apps, late):
        async with served(app) as client:
            task = (await client.get("/")).text
            assert await app.state.omniq.get_result(task, timeout=60) == 3
            assert (await client.get("/omniq/health")).json() == {"status": "ok"}


async def test_the_apps_own_lifespan_goes_around_what_init_app_adds() -> None:
    omniq_ = extension()
    app = FastAPI(lifespan=database)
    omniq_.init_app(app)
    omniq_.init_app(app)
    async with app.router.lifespan_context(app) as state:
        assert state == {"database": "theirs", "omniq": omniq_.queue}
        await omniq_.queue.enqueue(slow)
        await slow_started.wait()
    assert order == ["database open", "task done", "database closed"]


slow_started = asyncio.Event()


async def slow() -> None:
    slow_started.set()
    await asyncio.sleep(0.2)
    order.append("task done")


async def test_started_twice_it_runs_once() -> None:
    omniq_ = extension()
    app = with_route(FastAPI(lifespan=omniq_.lifespan))
    app.include_router(omniq_.router)
    app.include_router(omniq_.router, prefix="/again")
    omniq_.init_app(app)
    async with served(app) as client:
        task = (await client.post("/add", params={"x": 1, "y": 2})).json()
        assert await omniq_.queue.get_result(task, 60) == 3
        assert len(await omniq_.queue.workers()) == 1
        mounts = [route for route in app.routes if getattr(route, "path", "") == "/omniq"]
        assert len(mounts) == 1


async def test_the_inner_end_of_two_does_not_stop_the_outer() -> None:
    omniq_ = extension()
    app = FastAPI()
    async with omniq_.lifespan_context(app):
        async with omniq_.lifespan_context(app):
            pass
        assert app.state.omniq is omniq_.queue
        assert await (await omniq_.queue.enqueue(add, (1, 2))).result(60) == 3


async def test_two_apps_of_one_extension_share_its_queue() -> None:
    omniq_ = extension()
    one, two = FastAPI(), FastAPI()
    async with omniq_.lifespan(one):
        async with omniq_.lifespan(two):
            assert one.state.omniq is two.state.omniq
        assert not hasattr(two.state, "omniq")
        assert await (await omniq_.queue.enqueue(add, (1, 2))).result(60) == 3


async def test_the_lifespans_state_reaches_requests() -> None:
    app = FastAPI(lifespan=extension().lifespan)

    @app.get("/")
    async def seen(request: Request) -> bool:
        return isinstance(request.state.omniq, AsyncOmniQ)

    with TestClient(app) as client:
        assert client.get("/").json() is True


async def test_a_queue_that_cannot_open_fails_the_start_with_its_cause(here: Path) -> None:
    (here / "taken").mkdir()
    omniq_ = OmniQExtension(storage_url=f"sqlite:///{here}/taken")
    app = FastAPI(lifespan=database)
    omniq_.init_app(app)
    with pytest.raises(StorageError, match="directory"), TestClient(app):
        raise AssertionError("it started")
    assert not hasattr(app.state, "omniq")


async def test_a_worker_process_enters_the_app_without_a_second_worker() -> None:
    omniq_ = OmniQExtension()
    app = FastAPI(lifespan=omniq_.lifespan)
    with acting_as("worker"):
        async with app.router.lifespan_context(app):
            task = await omniq_.queue.enqueue(add, (1, 2))
            assert await omniq_.queue.workers() == []
            assert (await task.status()) == "pending"


async def test_without_a_worker_tasks_wait_for_one() -> None:
    omniq_ = OmniQExtension(worker=False)
    async with omniq_.lifespan(FastAPI()):
        await omniq_.queue.enqueue(add, (1, 2))
        assert await omniq_.queue.workers() == []


async def test_the_app_can_be_started_again() -> None:
    omniq_ = extension()
    app = FastAPI(lifespan=omniq_.lifespan)
    for _ in range(2):
        async with app.router.lifespan_context(app):
            assert await (await omniq_.queue.enqueue(add, (1, 2))).result(60) == 3


async def test_the_app_can_be_started_again_on_another_loop() -> None:
    app = with_route(FastAPI(lifespan=OmniQExtension().lifespan))
    for _ in range(2):
        with TestClient(app) as client:
            task = client.post("/add", params={"x": 20, "y": 22}).json()
            assert client.portal is not None
            assert client.portal.call(app.state.omniq.get_result, task, 60) == 42


async def test_one_extension_on_two_loops_at_once_is_refused() -> None:
    app = FastAPI(lifespan=extension().lifespan)
    with (
        TestClient(app),
        pytest.raises(ConfigError, match="on another event loop"),
        TestClient(app),
    ):
        raise AssertionError("it started")


async def test_several_queues() -> None:
    mails = extension(name="emails")
    app = FastAPI(lifespan=extension().lifespan)
    mails.init_app(app)
    async with served(app) as client:
        assert app.state.omniq is not app.state.omniq_emails
        assert await (await app.state.omniq_emails.enqueue(add, (2, 2))).result(60) == 4
        assert (await client.get("/omniq/health")).status_code == 200
        assert (await client.get("/omniq-emails/health")).status_code == 200


async def test_two_of_one_name_are_refused() -> None:
    app = FastAPI(lifespan=extension().lifespan)
    extension().init_app(app)
    with pytest.raises(ConfigError) as caught:
        async with app.router.lifespan_context(app):
            raise AssertionError("it started")
    assert str(caught.value) == (
        "two OmniQ extensions of one app are both named 'queue': give one of them a name of its "
        "own, such as OmniQExtension(name='emails')"
    )


async def test_a_name_that_no_attribute_can_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="has to be a Python identifier"):
        bare_extension(name="my queue")


async def test_a_queue_made_elsewhere_takes_no_settings_here() -> None:
    with pytest.raises(ConfigError, match="both queue= and settings"):
        OmniQExtension(queue=AsyncOmniQ(), max_workers=3)


async def test_memory_without_a_worker_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"worker=False\) cannot work with memory"):
        extension(worker=False)


async def test_what_is_not_an_app_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"wants the Starlette or FastAPI app"):
        omniq.init_app(APIRouter())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"lifespan=omniq.lifespan \(not called\)"):
        async with extension().lifespan("app"):  # type: ignore[arg-type]
            raise AssertionError("it started")


async def test_signal_handlers_of_the_host_stay() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with extension().lifespan(FastAPI()):
        during = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert during == before
