"""Stop signals of a process that is ours. In somebody else's server, leave signals alone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Self

STOP = tuple(
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGQUIT") if hasattr(signal, name)
)


class StopSignals:
    """The first stop signal asks to drain, the second to leave at once.

    Use as a context manager inside the running loop. It takes the signals itself, which only
    works in the main thread; `told`: whoever has the main thread uses `taking` there, or calls
    `tell` on each. `received` is the last signal that came, None if none has.
    """

    def __init__(self, *, told: bool = False) -> None:
        self.drain = asyncio.Event()
        self.force = asyncio.Event()
        self.received: signal.Signals | None = None
        self.within: float | None = None
        """Seconds that whoever asked to drain leaves for it, if less than configured."""
        self._told = told
        self._asked = self._forced = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._pass_on()  # what was told before
        if not self._told:
            self._stack.enter_context(self.taking())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Take the signals inside this block, which must be in the main thread."""
        before = {each: signal.signal(each, self._on_signal) for each in STOP}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def ask(self, *, within: float | None = None) -> None:
        """Ask to drain, as a first signal would. May be called from any thread."""
        self._asked, self.within = True, within
        self._pass_on()

    def tell(self, number: int) -> None:
        """A stop signal came. May be called from any thread, and before the loop runs."""
        self._forced, self._asked = self.received is not None, True
        self.received = signal.Signals(number)
        self._pass_on()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.tell(number)

    def _pass_on(self) -> None:
        # First the note, then the loop; `__enter__` does it the other way round. So one of the
        # two sees both, whichever thread is first.
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed: all is over
                loop.call_soon_threadsafe(self._say)

    def _say(self) -> None:
        if self._asked:
            self.drain.set()
        if self._forced:
            self.force.set()
