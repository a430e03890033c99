"""An event loop that runs in the thread which uses the log, while that thread waits.

The driver is asynchronous, a `Log` blocks. A thread of the driver's own would cost two hand-overs
for every commit; so the loop runs whenever the log's thread waits for an answer, or rests.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from omniq.errors import StorageClosed, StorageError

T = TypeVar("T")

END_SECONDS = 5.0
"""How long a connection may take to say goodbye."""


class OwnLoop:
    """Used by one thread at a time, but for `soon` and `wake`."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._goodbye: Callable[[], Awaitable[None]] | None = None
        self._chores: set[asyncio.Task[None]] = set()
        self._closed = False
        _open.add(self)

    def run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """Await `function(*args)` and give what it gives."""
        self._check()
        task = self._loop.create_task(function(*args))
        task.add_done_callback(lambda _: self._loop.stop())
        while not task.done():
            self._loop.run_forever()
        return task.result()

    def wait(self, begin: Callable[[Callable[[T], None]], object]) -> T:
        """Call `begin(done)`, wait for it to call `done`, and give what it gives."""
        self._check()
        answer: list[T] = []

        def done(what: T) -> None:
            answer.append(what)
            self._loop.stop()

        self._loop.call_soon(begin, done)
        while not answer:
            self._loop.run_forever()
        return answer[0]

    def rest(self, seconds: float | None) -> None:
        """Let the connection live until `wake`, or for so many seconds."""
        self._check()
        timer = None if seconds is None else self._loop.call_later(seconds, self._loop.stop)
        self._loop.run_forever()
        if timer is not None:
            timer.cancel()

    def wake(self) -> None:
        """End a `rest`, the next one if there is none now. From any thread."""
        self.soon(self._loop.stop)

    def soon(self, function: Callable[..., object], *args: Any) -> None:
        """Call a plain function on the loop when it runs. From any thread."""
        if self.pid == os.getpid():
            with contextlib.suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(function, *args)

    def keep(self, chore: Coroutine[Any, Any, None]) -> None:
        """Run this beside all else until the end. To be called on the loop."""
        self._chores.add(self._loop.create_task(chore))

    def at_end(self, goodbye: Callable[[], Awaitable[None]]) -> None:
        """What to await on the loop before it ends."""
        self._goodbye = goodbye

    def close(self) -> None:
        """Say goodbye and cancel what is left. Again: no effect."""
        if self._closed or self.pid != os.getpid():
            return
        try:
            self.run(self._wind_up)
            self.run(self._loop.shutdown_asyncgens)
        finally:
            self._closed = True
            _open.discard(self)
            self._loop.close()

    def _check(self) -> None:
        if self.pid != os.getpid():
            raise StorageError(
                "the connection to NATS was opened before this process was forked, and belongs "
                "to the parent: open a twin() of the storage here"
            )
        if self._closed:
            raise StorageClosed("the connection to NATS is closed")

    async def _wind_up(self) -> None:
        # What does not end in time ends with the process.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                if self._goodbye is not None:
                    with contextlib.suppress(Exception):
                        await self._goodbye()
                rest = asyncio.all_tasks() - {asyncio.current_task()}
                for task in rest:
                    task.cancel()
                await asyncio.gather(*rest, return_exceptions=True)


_open: weakref.WeakSet[OwnLoop] = weakref.WeakSet()
_inherited: list[object] = []


def _leave_to_the_parent() -> None:
    """In a forked child: finalisers would close sockets and selectors the parent uses."""
    for loop in _open:
        tasks = asyncio.all_tasks(loop._loop)
        for task in tasks:  # pending in the parent, which is no news for this child
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        _inherited.extend((loop, tasks))
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)
