"""One event loop on a thread of its own, for callers that have no loop.

The blocking face runs every call here, so all blocking queues of a process share one loop and
their connections never meet a second one. The traps this avoids were each seen to bite:
a loop left open hangs the interpreter at exit, a loop inherited through `fork` hangs the
child, and under gevent a plain `threading.Thread` is a greenlet of the caller's own thread.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from omniq._exit import end_loop_at_exit
from omniq._threads import Answer, Desk, gevent_patched, new_answer, start_native_thread
from omniq.errors import StorageClosed, SyncInAsync

T = TypeVar("T")

EXIT_SECONDS = 5.0
"""How long all owners together may take to close when the process ends."""

LOOK = 1.0
"""Seconds after which a caller that waits sees to signals nobody woke it for."""

_log = logging.getLogger("omniq.portal")
_END: Any = object()
_desk: ContextVar[Desk[Any] | None] = ContextVar("omniq_desk", default=None)


class LoopThread:
    """Runs coroutines for threads without a loop. Starts at the first call, never at import.

    It is safe to call from many threads, and from tasks that run in worker threads. A call
    from a thread whose event loop is running raises `SyncInAsync`: it would block that loop.
    """

    def __init__(self) -> None:
        self.generation = 0
        """Grows with every fork: what was made under another number belongs to the parent."""
        self.desks = 0
        """While above 0, callers of `run` make the calls of `by_caller` as they wait."""
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting_for_end: list[Answer[None]] = []
        self._owners: dict[int, tuple[object, Callable[[], Awaitable[object]]]] = {}
        self._inherited: list[object] = []
        self._over = False

    @property
    def running(self) -> bool:
        """Whether the thread has been started (in this process) and not closed since."""
        return self._loop is not None

    def run(
        self,
        function: Callable[..., Coroutine[Any, Any, T]],
        *args: Any,
        timeout: float | None = None,
    ) -> T:
        """Await `function(*args)` on the loop and give what it gives.

        The coroutine sees the caller's context variables. It is cancelled after `timeout`
        seconds (TimeoutError), and by an interrupt of the caller, who then waits for it to
        end; a second interrupt breaks that off.
        """
        refuse_inside_loop(function)
        desk: Desk[T] | None = Desk() if self.desks and not gevent_patched() else None
        answer: Answer[T] = desk or new_answer()
        tasks: list[asyncio.Task[None]] = []

        async def call() -> None:
            _desk.set(desk)
            # Also SystemExit and KeyboardInterrupt of the coroutine go to its caller: raised
            # through the loop they would end it for everybody. At the end of the process only
            # daemon threads still wait: an error would be printed, so they get no answer.
            try:
                answer.set_result(await function(*args))
            except asyncio.CancelledError:
                if not self._over:
                    answer.set_exception(StorageClosed("OmniQ was closed during this call"))
            except BaseException as error:
                if not self._over:
                    answer.set_exception(error)

        def start() -> None:
            task = asyncio.get_running_loop().create_task(call())
            task.add_done_callback(over)
            tasks.append(task)

        def over(_: asyncio.Task[None]) -> None:
            # Cancelled before its first step: nothing of the call has run, not even its `except`.
            if not answer.done() and not self._over:
                answer.set_exception(StorageClosed("this call was interrupted"))

        def cancel() -> None:
            if tasks:
                tasks[0].cancel()
            elif not answer.done():  # the interrupt came before the call was sent
                answer.set_exception(StorageClosed("this call was interrupted"))

        loop: asyncio.AbstractEventLoop | None = None
        try:
            with self._lock:  # a loop that is being closed takes no call it would not answer
                loop = self._started()
                loop.call_soon_threadsafe(start)
            return _awaited(answer, timeout)
        except BaseException as error:
            if loop is not None and not answer.done():
                loop.call_soon_threadsafe(cancel)
                if not isinstance(error, TimeoutError):
                    with suppress(Exception):
                        answer.result()
            raise

    def submit(
        self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **named: Any
    ) -> Future[T]:
        """Start `function(*args)` on the loop and do not wait; for callers in another loop.

        The coroutine sees the caller's context variables, and is cancelled with the future.
        """
        answer: Future[T] = Future()

        def start() -> None:
            _desk.set(None)  # one of an outer `run` is not at hand: its caller waits in here
            if not answer.cancelled():
                task = loop.create_task(function(*args, **named))
                answer.add_done_callback(
                    lambda _: answer.cancelled() and loop.call_soon_threadsafe(task.cancel)
                )
                task.add_done_callback(partial(_tell, answer))

        with self._lock:
            loop = self._started()
            loop.call_soon_threadsafe(start)
        return answer

    def is_here(self) -> bool:
        """Whether the caller runs in this very loop."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Run a plain function on the loop's thread, where it meets no other call half done."""

        async def called() -> T:
            return function(*args)

        refuse_inside_loop(function)
        return self.run(called)

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Pull an async iterator, one item at a time; leaving early closes it.

        Every step is a task of its own, so a generator must not hold a task group or a
        timeout open across a `yield`.
        """
        refuse_inside_loop(items)
        return self._pulled(items)

    def _pulled(self, items: AsyncIterator[T]) -> Iterator[T]:
        async def step() -> T:
            return await anext(items, _END)

        try:
            while (item := self.run(step)) is not _END:
                yield item
        finally:
            close: Callable[[], Coroutine[Any, Any, None]] | None = getattr(items, "aclose", None)
            if close is not None and self.running:
                self.run(close)

    def keep(self, owner: object, close: Callable[[], Awaitable[object]]) -> None:
        """Remember to close this at exit, in case nobody does before."""
        self._owners[id(owner)] = owner, close

    def release(self, owner: object) -> None:
        """It was closed by its user."""
        self._owners.pop(id(owner), None)

    def leave_alone(self, inherited: object) -> None:
        """Never finalise this: its sockets are the parent's."""
        self._inherited.append(inherited)

    def close(self, timeout: float | None = None) -> None:
        """Close what is still open, the newest first, cancel the rest and end the thread.

        A later call starts a new loop, unless the process is ending. `timeout` is in seconds
        (None: `EXIT_SECONDS`).
        """
        timeout = EXIT_SECONDS if timeout is None else timeout
        with self._lock:
            loop, self._loop = self._loop, None
            closers = [close for _, close in self._owners.values()]
            self._owners.clear()
            if loop is None:
                return
            ended: Answer[None] = new_answer()
            self._waiting_for_end.append(ended)
        winding_up = []
        loop.call_soon_threadsafe(
            lambda: winding_up.append(loop.create_task(_wind_up(closers, timeout)))
        )
        try:
            ended.result(timeout + 1)
        except (TimeoutError, KeyboardInterrupt):
            # Something blocks the loop, or the user will not wait: the thread is a daemon.
            _log.debug("the loop thread did not end in time")

    def close_at_exit(self) -> None:
        """The last close. What calls in afterwards gets a `StorageClosed`."""
        self._over = True
        self.close()

    def forget(self) -> None:
        """In a forked child: leave the parent's loop and connections alone, start afresh.

        The inherited objects stay referenced: a finaliser would close sockets that the parent
        still uses.
        """
        loop, owners = self._loop, self._owners
        self._lock = threading.Lock()
        self._loop, self._owners, self._waiting_for_end = None, {}, []
        self.generation += 1
        if loop is None:
            return
        tasks = asyncio.all_tasks(loop)
        for task in tasks:  # they are pending in the parent, which is no news for this child
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        self._inherited += [loop, owners, tasks]

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            if self._over:
                raise StorageClosed("the process is ending: OmniQ has closed what was open")
            started: Answer[asyncio.AbstractEventLoop] = new_answer()
            self._waiting_for_end = []
            start_native_thread(partial(_serve, started, self._waiting_for_end), "omniq-loop")
            self._loop = started.result()
        return self._loop


def _tell(answer: Future[T], task: asyncio.Task[T]) -> None:
    # Not asked before: whoever waits may cancel it in another thread at any moment.
    with suppress(InvalidStateError):
        if task.cancelled():
            answer.set_exception(StorageClosed("OmniQ was closed during this call"))
        elif (error := task.exception()) is not None:
            answer.set_exception(error)
        else:
            answer.set_result(task.result())


async def by_caller(call: Callable[[], T]) -> T:
    """Make a call in the thread that waits for this one in `run`, or in a thread of its own."""
    desk = _desk.get()
    if desk is None or desk.done():
        return await asyncio.to_thread(call)
    value: T = await desk.make(call)
    return value


def _awaited(answer: Answer[T], timeout: float | None) -> T:
    """Wait in slices: a signal that the system gave to another thread wakes nobody here."""
    while timeout is None:
        try:
            return answer.result(LOOK)
        except TimeoutError:
            if answer.done():  # meanwhile, or with this very error
                break
    return answer.result(timeout)


def refuse_inside_loop(called: object) -> None:
    """Raise `SyncInAsync`, with what to write instead, if this thread's loop is running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise SyncInAsync(_instead(called))


def _instead(called: object) -> str:
    while isinstance(called, partial):
        called = called.func
    name = getattr(called, "__name__", "this call")
    owner = getattr(called, "__self__", None)
    if owner is None:
        here, there, write = f"{name}()", "OmniQ's async classes", "await"
    else:
        blocking = type(owner).__name__.removeprefix("Async")
        there = type(owner).__name__.removeprefix("Sync")
        if name in ("__aenter__", "__aexit__"):
            here, write = f"with {blocking}(...)", f"async with {there}(...)"
        else:
            here, write = f"{blocking}.{name}()", f"await ....{name}(...)"
            if not inspect.iscoroutinefunction(called):
                write = write.removeprefix("await ")
    return (
        f"`{here}` would block the event loop that is running here; "
        f"in async code use {there} and write `{write}`"
    )


def _serve(started: Answer[asyncio.AbstractEventLoop], waiting_for_end: list[Answer[None]]) -> None:
    loop = asyncio.new_event_loop()
    started.set_result(loop)
    stopped = False
    try:
        while not stopped:
            try:
                loop.run_forever()
                stopped = True
            except (KeyboardInterrupt, SystemExit):
                # Raised by one task, whose awaiters get it; the others go on.
                _log.debug("a task tried to end the process", exc_info=True)
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
        for ended in waiting_for_end:
            ended.set_result(None)


async def _wind_up(closers: list[Callable[[], Awaitable[object]]], timeout: float) -> None:
    try:
        async with asyncio.timeout(timeout):
            for close in reversed(closers):
                await _quietly(close())
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
    except TimeoutError:
        _log.warning("not everything closed within %s s", timeout)
    finally:
        asyncio.get_running_loop().stop()


async def _quietly(closing: Awaitable[object]) -> None:
    try:
        await closing
    except Exception:
        _log.warning("closing failed", exc_info=True)


portal = LoopThread()
"""The one of this process."""

os.register_at_fork(after_in_child=portal.forget)
end_loop_at_exit(portal.close_at_exit)
