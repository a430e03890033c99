# ruff: noqa: B008 - calls in defaults are FastAPI's own way
"""Dependencies no task can have, because only a request brings what they need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import (
    BackgroundTasks,
    Body,
    Depends,
    FastAPI,
    Header,
    Query,
    Request,
    Response,
    Security,
    WebSocket,
)
from fastapi.security import OAuth2PasswordBearer

import omniq
from omniq import TaskFailed
from omniq.contrib.fastapi import OmniQExtension
from omniq.contrib.fastapi.plan import plan_task
from omniq.errors import ConfigError
from omniq.serialization import FUNCTIONS
from tests.contrib.fastapi.kit import extension

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """What a test registers would fail the start of every later app."""
    known = dict(FUNCTIONS._known)
    yield
    FUNCTIONS._known.clear()
    FUNCTIONS._known.update(known)


def plain() -> str:
    return "plain"


async def coroutine() -> str:
    return "coroutine"


def by_request(request: Request) -> None: ...
def by_websocket(socket: WebSocket) -> None: ...
def by_response(response: Response) -> None: ...
def by_background(tasks: BackgroundTasks) -> None: ...
def by_query(page: int) -> None: ...
def by_marked_query(page: Annotated[int, Query()] = 1) -> None: ...
def by_header(agent: str = Header("")) -> None: ...
def by_body(item: Annotated[dict[str, Any], Body()]) -> None: ...


class ByCall:
    def __call__(self, request: Request) -> None: ...


UNFIT = [
    (by_request, "its parameter 'request' is the Request"),
    (by_websocket, "its parameter 'socket' is the WebSocket"),
    (by_response, "its parameter 'response' is the Response"),
    (by_background, "its parameter 'tasks' is the BackgroundTasks"),
    (by_query, "its parameter 'page' is read from the request's path, query or body"),
    (by_marked_query, "its parameter 'page' is read from the request (Query())"),
    (by_header, "its parameter 'agent' is read from the request (Header())"),
    (by_body, "its parameter 'item' is read from the request (Body())"),
    (ByCall(), "its parameter 'request' is the Request"),
]


@pytest.mark.parametrize(("dependency", "why"), UNFIT, ids=lambda each: str(each)[:20])
async def test_a_dependency_that_needs_a_request_fails_the_start(dependency: Any, why: str) -> None:
    def between(value: None = Depends(dependency)) -> None: ...

    def task(value: None = Depends(between)) -> None: ...

    omniq.task("fastapi.tests.unfit")(task)
    with pytest.raises(ConfigError) as caught:
        async with extension().lifespan(FastAPI()):
            raise AssertionError("it started")
    name = getattr(dependency, "__qualname__", None) or type(dependency).__qualname__
    here = "test_a_dependency_that_needs_a_request_fails_the_start.<locals>"
    assert str(caught.value) == (
        f"task {here}.task cannot use Depends({here}.between) -> Depends({name}): {why}, and a "
        "task runs without a request. Pass the task what it needs as an argument "
        "(`await queue.enqueue(f, (user.id,))`), or write a dependency that does without, such "
        "as one that opens a session of its own"
    )


async def test_a_login_of_the_request_is_refused_too() -> None:
    login = OAuth2PasswordBearer(tokenUrl="token")

    def user(token: str = Security(login, scopes=["me"])) -> None: ...

    def task(who: None = Depends(user)) -> None: ...

    omniq.task("fastapi.tests.login")(task)
    with pytest.raises(ConfigError, match=r"'request' is the (Request|HTTPConnection)"):
        async with extension().lifespan(FastAPI()):
            raise AssertionError("it started")


async def test_a_task_nobody_registered_fails_with_the_same_words() -> None:
    def task(value: None = Depends(by_request)) -> None: ...

    omniq_ = extension()
    async with omniq_.lifespan(FastAPI()):
        handle = await omniq_.queue.enqueue(task, retries=0)
        with pytest.raises(TaskFailed, match="'request' is the Request"):
            await handle.result(60)


async def test_an_override_that_needs_a_request_fails_the_task() -> None:
    def task(value: str = Depends(plain)) -> None: ...

    omniq_ = extension()
    app = FastAPI()
    app.dependency_overrides[plain] = by_request
    async with omniq_.lifespan(app):
        handle = await omniq_.queue.enqueue(task, retries=0)
        with pytest.raises(TaskFailed, match=r"Depends\(by_request\): its parameter 'request'"):
            await handle.result(60)


async def test_an_override_may_stand_for_what_needs_a_request() -> None:
    def task(value: str = Depends(by_request)) -> str:
        return value

    omniq.task("fastapi.tests.overridden")(task)
    omniq_ = extension()
    app = FastAPI()
    app.dependency_overrides[by_request] = plain
    async with omniq_.lifespan(app):
        assert await (await omniq_.queue.enqueue(task)).result(60) == "plain"


async def test_depends_of_nothing_is_refused() -> None:
    def task(value=Depends()) -> None: ...  # type: ignore[no-untyped-def]

    with pytest.raises(ConfigError, match="names no dependency"):
        plan_task(task)


async def test_a_parameter_that_cannot_be_named_is_refused() -> None:
    def task(value: str = Depends(plain), /) -> None: ...

    with pytest.raises(ConfigError, match="cannot stand before a `/`"):
        plan_task(task)


async def test_a_plain_task_outside_of_its_app_says_what_is_missing() -> None:
    omniq_ = OmniQExtension(storage_type="memory")

    def task(value: str = Depends(coroutine)) -> str:
        return value

    async with omniq_.queue as queue:
        handle = await queue.enqueue(task, retries=0)
        with pytest.raises(TaskFailed, match="start the app"):
            await handle.result(60)
