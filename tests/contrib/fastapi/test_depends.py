# ruff: noqa: B008 - calls in defaults are FastAPI's own way
"""`Depends()` in tasks: filled in without a request, torn down whatever happens."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import pytest
from fastapi import (
    Depends,
    FastAPI,
)

import omniq
from omniq import AsyncOmniQ, TaskContext, TaskFailed
from omniq.contrib.fastapi import OmniQExtension, QueueDep, queue_dependency
from omniq.queue.engine import Loaded
from omniq.serialization import FUNCTIONS
from omniq.testing import eager
from tests.contrib.fastapi.kit import add, extension

if TYPE_CHECKING:
    from decimal import Decimal

pytestmark = pytest.mark.asyncio
LANES = ["async", "thread"]
seen: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    before = dict(FUNCTIONS._known), dict(FUNCTIONS._cache)
    seen.clear()
    yield
    for now, then in zip((FUNCTIONS._known, FUNCTIONS._cache), before, strict=True):
        now.clear()  # type: ignore[attr-defined]
        now.update(then)  # type: ignore[attr-defined]


class Session:
    def __init__(self, kind: str) -> None:
        self.kind, self.open = kind, True


def plain() -> str:
    seen.append(("plain", threading.get_ident()))
    return "plain"


async def coroutine() -> str:
    seen.append(("coroutine", id(asyncio.get_running_loop())))
    return "coroutine"


def generator() -> Iterator[Session]:
    seen.append("open generator")
    session = Session("generator")
    try:
        yield session
    except ValueError as error:
        seen.append(f"told of {error}")
        raise
    finally:
        session.open = False
        seen.append("close generator")


async def async_generator(name: Annotated[str, Depends(coroutine)]) -> AsyncIterator[Session]:
    with anyio.CancelScope():  # left by another task than entered: an error
        seen.append("open async generator")
        session = Session(f"async generator of {name}")
        try:
            yield session
        except ValueError as error:
            seen.append(f"told of {error}")
            raise
        finally:
            session.open = False
            seen.append("close async generator")


class Pager:
    def __init__(self, size: int = 10, kind: str = Depends(plain)) -> None:
        self.size, self.kind = size, kind


class Asker:
    async def __call__(self, session: Annotated[Session, Depends(generator)]) -> str:
        return f"asked {session.kind}"


def use(
    word: str,
    first: Annotated[Session, Depends(generator)],
    pager: Annotated[Pager, Depends()],
    context: TaskContext,
    second: Session = Depends(async_generator),
    asked: str = Depends(Asker()),
    wrapped: str = Depends(functools.partial(plain)),
    number: Decimal | None = None,
) -> list[Any]:
    assert first.open and second.open and number is None
    assert omniq.current() is context
    seen.append(("use", threading.get_ident()))
    return [word, first.kind, second.kind, asked, pager.size, pager.kind, wrapped, context.attempt]


async def use_async(
    word: str,
    first: Annotated[Session, Depends(generator)],
    pager: Annotated[Pager, Depends()],
    context: TaskContext,
    second: Session = Depends(async_generator),
    asked: str = Depends(Asker()),
    wrapped: str = Depends(functools.partial(plain)),
) -> list[Any]:
    await asyncio.sleep(0)
    return use(word, first, pager, context, second, asked, wrapped)


EXPECTED = ["hi", "generator", "async generator of coroutine", "asked generator", 10]
EXPECTED = [*EXPECTED, "plain", "plain", 1]


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("func", [use, use_async])
async def test_every_kind_of_dependency_in_every_lane(lane: Any, func: Any) -> None:
    omniq_ = extension(worker_type=lane)
    async with omniq_.lifespan(FastAPI()):
        assert await (await omniq_.queue.enqueue(func, ("hi",))).result(60) == EXPECTED
    names = [each if isinstance(each, str) else each[0] for each in seen]
    assert sorted(names[:-3]) == sorted(
        ["open generator", "open async generator", "coroutine", "plain", "plain"]
    ), "each once, but what was asked for under two names"
    assert names[-3:] == ["use", "close async generator", "close generator"]


@pytest.mark.parametrize("lane", LANES)
async def test_a_plain_task_has_plain_dependencies_in_its_thread_and_others_in_the_apps_loop(
    lane: Any,
) -> None:
    omniq_ = extension(worker_type=lane)
    async with omniq_.lifespan(FastAPI()):
        await (await omniq_.queue.enqueue(use, ("hi",))).result(60)
    found = {each[0]: each[1] for each in seen if isinstance(each, tuple)}
    assert found["plain"] == found["use"] != threading.get_ident()
    assert found["coroutine"] == id(asyncio.get_running_loop())


async def test_blocking_dependencies_of_a_coroutine_task_do_not_block_the_loop() -> None:
    omniq_ = extension()
    async with omniq_.lifespan(FastAPI()):
        await (await omniq_.queue.enqueue(use_async, ("hi",))).result(60)
    threads = [each[1] for each in seen if each[0] == "plain"]
    assert threads and threading.get_ident() not in threads


def fails(first: Session = Depends(generator), second: Session = Depends(async_generator)) -> None:
    raise ValueError("no")


async def fails_async(
    first: Session = Depends(generator), second: Session = Depends(async_generator)
) -> None:
    raise ValueError("no")


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("func", [fails, fails_async])
async def test_a_failure_is_told_to_what_was_opened(lane: Any, func: Any) -> None:
    omniq_ = extension(worker_type=lane)
    async with omniq_.lifespan(FastAPI()):
        handle = await omniq_.queue.enqueue(func, retries=0)
        with pytest.raises(TaskFailed, match="no"):
            await handle.result(60)
    assert seen.count("told of no") == 2
    assert seen[-1] == "close generator"


def swallows() -> Iterator[int]:
    try:
        yield 1
    except ValueError:
        seen.append("swallowed")


async def swallows_async() -> AsyncIterator[int]:
    try:
        yield 1
    except ValueError:
        seen.append("swallowed")


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("dependency", [swallows, swallows_async])
async def test_a_dependency_cannot_hide_a_failure(lane: Any, dependency: Any) -> None:
    def task(value: int = Depends(dependency)) -> None:
        raise ValueError("still told")

    omniq_ = extension(worker_type=lane)
    async with omniq_.lifespan(FastAPI()):
        handle = await omniq_.queue.enqueue(task, retries=0)
        with pytest.raises(TaskFailed, match="still told"):
            await handle.result(60)
    assert seen == ["swallowed"]


async def fails_to_open() -> AsyncIterator[int]:
    raise LookupError("no database")
    yield 1


async def fails_to_close() -> AsyncIterator[int]:
    yield 1
    raise LookupError("no commit")


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize(
    ("dependency", "message"), [(fails_to_open, "no database"), (fails_to_close, "no commit")]
)
async def test_what_fails_around_a_task_fails_it(lane: Any, dependency: Any, message: str) -> None:
    def task(
        first: Annotated[Session, Depends(generator)], value: int = Depends(dependency)
    ) -> int:
        return value

    omniq_ = extension(worker_type=lane)
    async with omniq_.lifespan(FastAPI()):
        handle = await omniq_.queue.enqueue(task, retries=0)
        with pytest.raises(TaskFailed, match=message):
            await handle.result(60)
    assert seen == ["open generator", "close generator"]


async def leaves(value: Annotated[str, Depends(coroutine)]) -> None:
    raise SystemExit(3)


async def test_a_dependency_that_wants_to_leave_does_not_end_the_server() -> None:
    async def leaving() -> str:
        raise SystemExit(3)

    def task(value: str = Depends(leaving)) -> str:
        return value

    omniq_ = extension()
    async with omniq_.lifespan(FastAPI()):
        for func in (task, leaves):
            handle = await omniq_.queue.enqueue(func, retries=0)
            with pytest.raises(TaskFailed, match="SystemExit"):
                await handle.result(60)
        assert await (await omniq_.queue.enqueue(add, (1, 2))).result(60) == 3


def the_attempt() -> int:
    return omniq.current().attempt


async def the_id(attempt: Annotated[int, Depends(the_attempt)]) -> str:
    return f"{omniq.current().id} {attempt}"


def tells(told: str = Depends(the_id)) -> str:
    return told


async def tells_async(told: str = Depends(the_id)) -> str:
    return told


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("func", [tells, tells_async])
async def test_dependencies_see_the_running_task(lane: Any, func: Any) -> None:
    omniq_ = extension(worker_type=lane)
    async with omniq_.lifespan(FastAPI()):
        handle = await omniq_.queue.enqueue(func)
        assert await handle.result(60) == f"{handle} 1"


async def test_made_once_per_task_unless_it_says_otherwise() -> None:
    made = iter(range(100))

    def number() -> int:
        return next(made)

    @omniq.task("fastapi.tests.numbers")
    def task(
        a: int = Depends(number),
        b: int = Depends(number),
        c: int = Depends(number, use_cache=False),
    ) -> list[int]:
        return [a, b, c]

    omniq_ = extension()
    async with omniq_.lifespan(FastAPI()):
        assert await (await omniq_.queue.enqueue(task)).result(60) == [0, 0, 1]
        assert await (await omniq_.queue.enqueue(task)).result(60) == [2, 2, 3]


async def test_overrides_of_the_app_hold_in_tasks() -> None:
    def other() -> Iterator[Session]:
        yield Session("other")

    async def task(session: Annotated[Session, Depends(generator)]) -> str:
        return session.kind

    omniq_ = extension()
    app = FastAPI(lifespan=omniq_.lifespan)
    async with omniq_.lifespan(app):
        assert await (await omniq_.queue.enqueue(task)).result(60) == "generator"
        app.dependency_overrides[generator] = other
        assert await (await omniq_.queue.enqueue(task)).result(60) == "other"


async def test_a_task_gets_the_queues_of_its_app() -> None:
    mails = extension(name="emails")

    @omniq.task("fastapi.tests.follow_up")
    async def follow_up(
        queue: QueueDep, emails: Annotated[AsyncOmniQ, Depends(queue_dependency("emails"))]
    ) -> str:
        assert emails is mails.queue
        return await queue.enqueue(add, (1, 2))

    omniq_ = extension()
    app = FastAPI(lifespan=omniq_.lifespan)
    mails.init_app(app)
    async with app.router.lifespan_context(app):
        task = await (await omniq_.queue.enqueue(follow_up)).result(60)
        assert await omniq_.queue.get_result(task, 60) == 3


async def test_positions_count_what_the_caller_gives_and_names_win() -> None:
    def task(
        session: Annotated[Session, Depends(generator)], a: int, *rest: int, b: int = 0, **more: int
    ) -> list[Any]:
        return [getattr(session, "kind", session), a, rest, b, more]

    omniq_ = extension()
    async with omniq_.lifespan(FastAPI()):
        enqueue = omniq_.queue.enqueue
        handle = await enqueue(task, (1, 2, 3), {"b": 4, "c": 5})
        assert await handle.result(60) == ["generator", 1, (2, 3), 4, {"c": 5}]
        handle = await enqueue(task, (1,), {"session": "mine"})
        assert await handle.result(60) == ["mine", 1, (), 0, {}]
        handle = await enqueue(task, retries=0)
        with pytest.raises(TaskFailed, match=r"task\(\): missing a required argument: 'a'"):
            await handle.result(60)


async def test_a_task_cancelled_meanwhile_is_torn_down() -> None:
    started = asyncio.Event()

    @omniq.task("fastapi.tests.long")
    async def task(second: Annotated[Session, Depends(async_generator)]) -> None:
        started.set()
        await asyncio.sleep(600)

    omniq_ = extension()
    async with omniq_.lifespan(FastAPI()):
        handle = await omniq_.queue.enqueue(task)
        await started.wait()
        await handle.cancel()
        with pytest.raises(omniq.TaskCancelled):
            await handle.result(60)
    assert seen[-1] == "close async generator"


async def test_a_task_without_dependencies_is_left_as_it_is() -> None:
    omniq_ = extension()
    (around,) = omniq_.queue.around

    def words(text: str, number: int = 3) -> None: ...

    for func in (add, words, lambda: 1, len, functools.partial(words, "x"), "".join):
        call = Loaded(func, (), {}, False)
        assert around(call) is call


@pytest.mark.parametrize("func", [use, use_async])
async def test_eager_tasks_have_dependencies_too(func: Any) -> None:
    omniq_ = extension()
    with eager(omniq_.queue, raise_errors=True):
        async with omniq_.lifespan(FastAPI()):
            handle = await omniq_.queue.enqueue(func, ("hi",))
            assert await handle.result() == EXPECTED


async def test_a_queue_made_elsewhere_serves_one_app_after_the_other() -> None:
    async with AsyncOmniQ(storage_type="memory") as queue:
        for _ in range(2):
            omniq_ = OmniQExtension(queue=queue, announce=False)
            async with omniq_.lifespan(FastAPI()):
                assert await (await queue.enqueue(use, ("hi",))).result(60) == EXPECTED
        assert len(queue.around) == 1
