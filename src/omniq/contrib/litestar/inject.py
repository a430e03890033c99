"""Dependencies of the app in its tasks: what a queue puts around every call its workers make."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Generator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from msgspec.structs import replace

from omniq.contrib.litestar.needs import STATE, Function, Graph, Needs, Step
from omniq.queue.engine import Loaded
from omniq.serialization import FUNCTIONS

if TYPE_CHECKING:
    from litestar import Litestar

_log = logging.getLogger("omniq.litestar")


class Injector:
    """Fills in what a call's function wants of `app`; made when the app starts, in its loop."""

    def __init__(self, app: Litestar) -> None:
        self._state, self._loop = app.state, asyncio.get_running_loop()
        self._graph = Graph(app.dependencies, app.signature_namespace)
        self._needs: WeakKeyDictionary[Function, Needs | None] = WeakKeyDictionary()

    def __call__(self, call: Loaded) -> Loaded:
        needs = self._needs_of(call.func)
        if needs is None:
            return call
        fill = self._beside_coroutine if call.is_async else self._beside_plain
        return replace(call, func=fill(call.func, needs))

    def check_known(self) -> None:
        """Look at the tasks of this process before one runs; raises ConfigError.

        A name that this app does not provide may be another app's, so that is only told.
        """
        for name in FUNCTIONS.names():
            func = FUNCTIONS.refer(name).func
            needs = None if func is None else self._needs_of(func)
            if func is None or needs is None:
                continue
            for wanted in needs.marked:
                if self._graph.knows(wanted):
                    self._graph.steps(func, wanted)
                else:
                    _log.warning("task %s wants %r, which this app does not provide", name, wanted)

    def _needs_of(self, func: Function) -> Needs | None:
        try:
            return self._needs[func]
        except TypeError:  # it cannot be kept
            return self._graph.needs(func)
        except KeyError:
            needs = self._needs[func] = self._graph.needs(func)
            return needs

    def _beside_coroutine(self, func: Function, needs: Needs) -> Function:
        async def filled(*args: Any, **kwargs: Any) -> Any:
            given, steps = self._split(func, needs, args, kwargs)
            made = _Made(steps, self._state)
            values, failed = await made.begin(), None
            try:
                return await _call(func, needs, given, values)
            except BaseException as error:
                failed = error
                raise
            finally:
                await made.end(failed)

        return filled

    def _beside_plain(self, func: Function, needs: Needs) -> Function:
        """The function's thread is a worker's; what it wants is made and ended in the app's loop,
        by one asyncio task, since much of it must be closed where it was opened."""

        def filled(*args: Any, **kwargs: Any) -> Any:
            given, steps = self._split(func, needs, args, kwargs)
            made = _Made(steps, self._state)
            ready: Future[dict[str, Any]] = Future()
            ended: asyncio.Future[BaseException | None] = self._loop.create_future()
            holding = asyncio.run_coroutine_threadsafe(_hold(made, ready, ended), self._loop)
            values, failed = ready.result(), None
            try:
                return _call(func, needs, given, values)
            except BaseException as error:
                failed = error
                raise
            finally:
                self._loop.call_soon_threadsafe(ended.set_result, failed)
                holding.result()

        return filled

    def _split(
        self, func: Function, needs: Needs, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], list[Step]]:
        """What the task was enqueued with, by parameter, and what is to be made for the rest."""
        by_name = {name: kwargs.pop(name) for name in needs.marked if name in kwargs}
        try:
            given = needs.given.bind_partial(*args, **kwargs).arguments | by_name
        except TypeError as error:
            raise TypeError(f"{func.__qualname__}(): {error}") from None
        wanted = [name for name in (*needs.marked, *needs.open) if name not in given]
        steps = {step.name: step for name in wanted for step in self._graph.steps(func, name)}
        return given, list(steps.values())


class _Made:
    """Dependencies, made in order and ended in reverse. A failure is thrown into generators."""

    def __init__(self, steps: list[Step], state: Any) -> None:
        self._steps, self._values = steps, {STATE: state}
        self._open: list[Any] = []

    async def begin(self) -> dict[str, Any]:
        try:
            for step in self._steps:
                self._values[step.name] = await self._make(step)
        except BaseException as error:
            await self.end(error)
            raise
        return self._values

    async def _make(self, step: Step) -> Any:
        provide = step.provide
        made = await provide(**{name: self._values[name] for name in step.takes})
        if provide.has_sync_generator_dependency:
            value = next(made)
        elif provide.has_async_generator_dependency:
            value = await anext(made)
        else:
            return made
        self._open.append(made)
        return value

    async def end(self, error: BaseException | None) -> None:
        raised: BaseException | None = None
        while self._open:
            try:
                await _leave(self._open.pop(), error)
            except BaseException as another:
                raised = another if another is not error else raised
        if raised is not None:
            raise raised from error


async def _hold(
    made: _Made, ready: Future[dict[str, Any]], ended: asyncio.Future[BaseException | None]
) -> None:
    """Keep what was made until the function has ended."""
    try:
        ready.set_result(await made.begin())
    except BaseException as error:
        ready.set_exception(error)
        return
    failed: BaseException | None = None
    try:
        failed = await ended
    except BaseException as error:  # the loop ends first
        failed = error
        raise
    finally:
        await made.end(failed)


async def _leave(generator: Any, error: BaseException | None) -> None:
    try:
        if isinstance(generator, Generator):
            generator.send(None) if error is None else generator.throw(error)
        else:
            await (anext(generator) if error is None else generator.athrow(error))
    except (StopIteration, StopAsyncIteration):
        return
    raise RuntimeError(f"the provider {generator.__qualname__}() yields more than once")


def _call(func: Function, needs: Needs, given: dict[str, Any], made: dict[str, Any]) -> Any:
    values = {name: made[name] for name in (*needs.marked, *needs.open) if name not in given}
    bound = inspect.BoundArguments(needs.whole, {**given, **values})
    return func(*bound.args, **bound.kwargs)
