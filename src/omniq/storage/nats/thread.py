"""A thread with an event loop for one connection: the driver is asynchronous, a `Log` blocks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from omniq._exit import end_connections_at_exit
from omniq.errors import StorageClosed, StorageError

T = TypeVar("T")

END_SECONDS = 5.0
"""How long a connection may take to say goodbye."""
WAIT_SECONDS = 30.0
"""Longer than any request may take: a thread must not wait for a loop that has ended."""


class LoopThread:
    """Runs coroutines for the threads that call `run`, until `close`."""

    def __init__(self, name: str) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._goodbye: Callable[[], Awaitable[None]] | None = None
        self._closed = False
        self._chores: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()
        _running.add(self)

    def run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Await `function(*args)` on the loop and give what it gives; blocks the caller."""
        self._check()
        answer: Future[T] = Future()

        def start() -> None:
            task = self._loop.create_task(function(*args))
            task.add_done_callback(lambda done: _tell(answer, done))

        try:
            self._loop.call_soon_threadsafe(start)
        except RuntimeError:
            raise StorageClosed("the connection to NATS is closed") from None
        return answer.result()

    def wait(self, begin: Callable[[Callable[[T], None]], object]) -> T:
        """Call `begin(done)` on the loop, wait for it to call `done`, and give what it gives.

        For what is done all the time: half the way of `run`.
        """
        self._check()
        answer: list[T] = []
        bell = threading.Lock()
        bell.acquire()

        def done(what: T) -> None:
            answer.append(what)
            bell.release()

        try:
            self._loop.call_soon_threadsafe(begin, done)
        except RuntimeError:
            raise StorageClosed("the connection to NATS is closed") from None
        if not bell.acquire(timeout=WAIT_SECONDS):
            raise TimeoutError
        return answer[0]

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call a plain function on the loop, some time; nothing happens once it is closed."""
        if self.pid == os.getpid():
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(function, *args)

    def keep(self, chore: Coroutine[Any, Any, None]) -> None:
        """Run this beside all else until the end. To be called on the loop."""
        self._chores.add(self._loop.create_task(chore))

    def at_end(self, goodbye: Callable[[], Awaitable[None]]) -> None:
        """What to await on the loop before it ends."""
        self._goodbye = goodbye

    def close(self) -> None:
        """Say goodbye, cancel what is left, end the thread. Again: no effect."""
        if self._closed or self.pid != os.getpid():
            return
        self._closed = True
        _running.discard(self)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._wind_up()))
        if self._thread is not threading.current_thread():
            self._thread.join(END_SECONDS + 1)

    def _check(self) -> None:
        if self.pid != os.getpid():
            raise StorageError(
                "the connection to NATS was opened before this process was forked, and belongs "
                "to the parent: open a twin() of the storage here"
            )
        if self._closed:
            raise StorageClosed("the connection to NATS is closed")

    async def _wind_up(self) -> None:
        try:
            async with asyncio.timeout(END_SECONDS):
                if self._goodbye is not None:
                    with contextlib.suppress(Exception):
                        await self._goodbye()
                rest = asyncio.all_tasks() - {asyncio.current_task()}
                for task in rest:
                    task.cancel()
                await asyncio.gather(*rest, return_exceptions=True)
        except TimeoutError:
            pass  # the socket is closed with the process
        finally:
            self._loop.stop()

    def _serve(self) -> None:
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()


def _tell(answer: Future[T], done: asyncio.Task[T]) -> None:
    if done.cancelled():
        answer.set_exception(StorageClosed("the connection to NATS was closed during this call"))
    elif (error := done.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(done.result())


_running: weakref.WeakSet[LoopThread] = weakref.WeakSet()
_inherited: list[object] = []


def _leave_to_the_parent() -> None:
    """In a forked child: finalisers would close sockets and selectors the parent uses."""
    for thread in _running:
        tasks = asyncio.all_tasks(thread._loop)
        for task in tasks:  # pending in the parent, which is no news for this child
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        _inherited.extend((thread, tasks))
    _running.clear()


@end_connections_at_exit
def _close_all() -> None:
    for thread in tuple(_running):
        thread.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)
