"""Stop signals of a process that is ours. In somebody else's server, leave signals alone."""

from __future__ import annotations

import asyncio
import signal
from types import FrameType
from typing import Any, Self

STOP = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """The first SIGINT or SIGTERM asks to drain, the second to leave at once.

    Use as a context manager in the main thread, inside the running loop. `received` is the
    last signal that came, None if none has.
    """

    def __init__(self) -> None:
        self.drain = asyncio.Event()
        self.force = asyncio.Event()
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for each in STOP:
            self._before[each] = signal.signal(each, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for each, before in self._before.items():
            signal.signal(each, before)

    def ask(self) -> None:
        """Ask to drain, as a first signal would. May be called from any thread."""
        self._loop.call_soon_threadsafe(self.drain.set)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        again, self.received = self.received is not None, signal.Signals(number)
        self._loop.call_soon_threadsafe((self.force if again else self.drain).set)
