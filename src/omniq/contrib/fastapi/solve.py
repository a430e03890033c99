"""Dependencies of a task, made before it and torn down after it.

One algorithm for both kinds of functions. Beside a coroutine function it runs as a coroutine;
beside a plain one, in that one's thread, where nothing it awaits is ever pending: what needs
the event loop is done there while the thread waits.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool

from omniq.contrib.fastapi.plan import QUEUE, Dependency, Need, needs_of
from omniq.contrib.fastapi.thread import Held, on_loop
from omniq.core import AsyncOmniQ
from omniq.errors import NotStarted
from omniq.workers.context import current

T = TypeVar("T")


class Outside(Protocol):
    """What the app around the tasks knows."""

    @property
    def overrides(self) -> Mapping[Any, Any]: ...
    def queue(self, name: str) -> AsyncOmniQ: ...
    def home(self) -> asyncio.AbstractEventLoop | None: ...


class Side(Protocol):
    """Where dependencies are called."""

    async def plain(self, call: Callable[[], Any]) -> Any: ...
    async def awaited(self, call: Callable[[], Awaitable[Any]]) -> Any: ...
    async def entered(self, manager: Any, stack: AsyncExitStack) -> Any: ...
    async def async_entered(self, manager: Any, stack: AsyncExitStack) -> Any: ...


class LoopSide:
    """In the running event loop: blocking dependencies go to threads, as FastAPI does it."""

    async def plain(self, call: Callable[[], Any]) -> Any:
        return await run_in_threadpool(call)

    async def awaited(self, call: Callable[[], Awaitable[Any]]) -> Any:
        return await call()

    async def entered(self, manager: Any, stack: AsyncExitStack) -> Any:
        return await stack.enter_async_context(contextmanager_in_threadpool(manager))

    async def async_entered(self, manager: Any, stack: AsyncExitStack) -> Any:
        return await stack.enter_async_context(manager)


class OwnLoopSide(LoopSide):
    """In a loop that one thread keeps for one task at a time: blocking it harms nobody."""

    async def plain(self, call: Callable[[], Any]) -> Any:
        return call()

    async def entered(self, manager: Any, stack: AsyncExitStack) -> Any:
        return stack.enter_context(manager)


class ThreadSide:
    """In a plain function's thread; coroutines run on the app's own loop meanwhile."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    async def plain(self, call: Callable[[], Any]) -> Any:
        return call()

    async def awaited(self, call: Callable[[], Awaitable[Any]]) -> Any:
        return on_loop(self._home(), call)

    async def entered(self, manager: Any, stack: AsyncExitStack) -> Any:
        return stack.enter_context(manager)

    async def async_entered(self, manager: Any, stack: AsyncExitStack) -> Any:
        return stack.enter_context(Held(self._home(), manager))

    def _home(self) -> asyncio.AbstractEventLoop:
        loop = self._outside.home()
        if loop is None or loop is asyncio._get_running_loop():
            raise NotStarted(
                "a dependency of this plain task function is a coroutine, which runs on the "
                "app's event loop, and that does not run beside it: start the app (`async with "
                "app.router.lifespan_context(app):`), or make the task a coroutine function"
            )
        return loop


async def around_call(
    needs: tuple[Need, ...],
    outside: Outside,
    side: Side,
    call: Callable[[dict[str, Any]], Awaitable[T]],
) -> T:
    """Fill in the needs, call, tear down: the newest first, told of the failure if there is one."""
    failed: BaseException
    async with AsyncExitStack() as stack:
        try:
            return await call(await _Solver(outside, side, stack).values(needs))
        except BaseException as error:
            failed = error
            raise
    # A dependency kept the error to itself: the task has failed all the same.
    raise failed


class _Solver:
    """The dependencies of one run; each is made once, unless it asks for more."""

    def __init__(self, outside: Outside, side: Side, stack: AsyncExitStack) -> None:
        self._outside, self._side, self._stack = outside, side, stack
        self._made: dict[Dependency, Any] = {}

    async def values(self, needs: tuple[Need, ...]) -> dict[str, Any]:
        return {need.name: await self._value(need) for need in needs}

    async def _value(self, need: Need) -> Any:
        if need.call is None:
            return current()
        call = self._outside.overrides.get(need.call, need.call)
        if (name := getattr(call, QUEUE, None)) is not None:
            return self._outside.queue(name)
        if need.use_cache and call in self._made:
            return self._made[call]
        values = await self.values(needs_of(call))
        value = await self._enter(call, partial(call, **values))
        self._made[call] = value
        return value

    async def _enter(self, call: Dependency, ready: Callable[[], Any]) -> Any:
        side, stack = self._side, self._stack
        if _is(call, inspect.isasyncgenfunction):
            return await side.async_entered(asynccontextmanager(ready)(), stack)
        if _is(call, inspect.isgeneratorfunction):
            return await side.entered(contextmanager(ready)(), stack)
        if _is(call, inspect.iscoroutinefunction):
            return await side.awaited(ready)
        return await side.plain(ready)


def _is(call: Any, kind: Callable[[Any], bool]) -> bool:
    """Whether calling it is of that kind; also for partials, wrapped functions and objects."""
    while isinstance(call, partial):
        call = call.func
    if kind(call) or kind(inspect.unwrap(call)):
        return True
    return not isinstance(call, type) and kind(type(call).__call__)


def finished(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives that never waits for a loop."""
    try:
        work.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    work.close()
    raise RuntimeError("a dependency of a plain task function waited for an event loop")
