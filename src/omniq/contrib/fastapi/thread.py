"""From a task's thread to the app's event loop, and back with what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from types import TracebackType
from typing import Any


def on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], Awaitable[Any]]) -> Any:
    """Await `call()` on the loop while this thread waits. The loop sees its context variables."""

    async def told() -> tuple[Any, BaseException | None]:
        try:
            return await call(), None
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # SystemExit is for the task, not for the app's loop
            return None, error

    try:
        value, error = asyncio.run_coroutine_threadsafe(told(), loop).result()
    except CancelledError:
        raise asyncio.CancelledError("the app's event loop ended meanwhile") from None
    if error is not None:
        raise error
    return value


class Held:
    """An async context manager that one task of the loop enters and leaves, for a thread.

    Its code may hold a task group or a timeout open meanwhile: these must end in the task that
    began them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, manager: Any) -> None:
        self._loop, self._manager = loop, manager
        self._entered: Future[Any] = Future()
        self._left: Future[bool] = Future()

    def __enter__(self) -> Any:
        self._told: asyncio.Future[BaseException | None]
        asyncio.run_coroutine_threadsafe(self._hold(), self._loop)
        return self._entered.result()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        with suppress(RuntimeError):  # the loop has ended, and the manager with it
            self._loop.call_soon_threadsafe(self._tell, error)
        return self._left.result()

    def _tell(self, error: BaseException | None) -> None:
        if not self._told.done():
            self._told.set_result(error)

    async def _hold(self) -> None:
        self._told = self._loop.create_future()
        raised: BaseException | None = None
        try:
            async with self._manager as value:
                self._entered.set_result(value)
                raised = await self._told
                if raised is not None:
                    raise raised
        except BaseException as error:
            if not self._entered.done():
                self._entered.set_exception(error)
            elif error is raised:
                self._left.set_result(False)
            else:
                self._left.set_exception(error)
        else:
            self._left.set_result(True)
