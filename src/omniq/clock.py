"""Time, injectable: every stamp in OmniQ is integer milliseconds since 1970 (UTC)."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What storages and rules ask for the time."""

    def now(self) -> int:
        """Milliseconds since 1970, UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    __slots__ = ()

    def now(self) -> int:
        return time.time_ns() // 1_000_000


class ManualClock:
    """A clock that moves only when told to; for tests that travel in time."""

    __slots__ = ("_now",)

    def __init__(self, start: int = 1_800_000_000_000) -> None:
        self._now = start

    def now(self) -> int:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`."""
        self._now += round(seconds * 1000)


SYSTEM_CLOCK: Clock = SystemClock()
