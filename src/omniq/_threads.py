"""A native thread and an answer from it, also under gevent.

Where gevent has replaced `threading`, a new `Thread` is a greenlet of the caller's own thread,
and a lock waited for across threads ends in `LoopExit` as soon as the hub has nothing else to
do. So the thread comes from the saved original, and the answer rings a hub's own bell. gevent
is never imported unless the program has patched itself with it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Answer(Protocol[T]):
    """Set once in one thread, waited for in another."""

    def done(self) -> bool: ...

    def set_result(self, result: T, /) -> None: ...

    def set_exception(self, exception: BaseException, /) -> None: ...

    def result(self, timeout: float | None = None) -> T:
        """The value or the error, when it is there; TimeoutError after `timeout` seconds."""
        ...


def new_answer() -> Answer[Any]:
    """To be made in the thread that will wait for it."""
    return _GeventAnswer() if gevent_patched() else Future()


class Desk(Future[T]):
    """An answer whose waiter makes calls for the other side while it waits."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self.add_done_callback(lambda _: self._calls.put(None))

    async def make(self, call: Callable[[], Any]) -> Any:
        """Make a call in the thread that waits. From a loop in another thread."""
        loop, context = asyncio.get_running_loop(), copy_context()
        made: asyncio.Future[Any] = loop.create_future()

        def here() -> None:
            value = context.run(call)
            loop.call_soon_threadsafe(_give, made, value)

        self._calls.put(here)
        return await made

    def result(self, timeout: float | None = None) -> T:
        while not self.done():
            try:
                call = self._calls.get(timeout=timeout)
            except Empty:
                raise TimeoutError from None
            if call is not None:
                call()
        # What was asked for before the answer came: somebody else on the loop still waits for it.
        with suppress(Empty):
            while True:
                if (call := self._calls.get_nowait()) is not None:
                    call()
        return super().result()


def _give(made: asyncio.Future[Any], value: Any) -> None:
    if not made.done():  # whoever wanted it has been cancelled meanwhile
        made.set_result(value)


def start_native_thread(target: Callable[[], None], name: str) -> None:
    """Start a daemon thread of the operating system."""
    if not gevent_patched():
        threading.Thread(target=target, name=name, daemon=True).start()
        return
    import gevent
    from gevent import monkey

    # The new thread's hub needs what the first hub imports; without one there, gevent would
    # wait for the import lock by means of the hub it is about to make.
    gevent.get_hub()
    monkey.get_original("_thread", "start_new_thread")(target, ())


def gevent_patched() -> bool:
    """Whether this program's `threading` is gevent's."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


class _GeventAnswer(Generic[T]):
    def __init__(self) -> None:
        import gevent
        from gevent.event import Event

        self._event = Event()
        self._bell = gevent.get_hub().loop.async_()
        self._value: T | None = None
        self._error: BaseException | None = None
        self._done = False

    def done(self) -> bool:
        return self._done

    def set_result(self, result: T, /) -> None:
        self._value, self._done = result, True
        self._bell.send()

    def set_exception(self, exception: BaseException, /) -> None:
        self._error, self._done = exception, True
        self._bell.send()

    def result(self, timeout: float | None = None) -> T:
        # Listening starts before the look, so an answer that comes in between is heard.
        self._bell.start(self._event.set)
        try:
            if not self._done and not self._event.wait(timeout):
                raise TimeoutError
        finally:
            self._bell.stop()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set, as there is no error
