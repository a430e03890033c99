"""Time as the log knows it: one place, one clock, whatever the hosts' own clocks say."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Final, Self

from omniq.clock import SYSTEM_CLOCK
from omniq.errors import StorageError
from omniq.models.row import Ms
from omniq.storage.log.port import Log

SKEW: Final[Ms] = 1000
"""A difference between this machine's clock and the place's that people are told of."""

_LOG: Final = logging.getLogger("omniq.storage")
# The one that goes on while the machine sleeps: what is asked is how long others went on.
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", None)


def seconds() -> float:
    """Seconds since some moment; they never go back, and count a machine's sleep as well."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)


class LogClock:
    """The place's clock as it was read, and this process's own pace since."""

    __slots__ = ("_at", "_log", "_start")

    AGAIN: Final = 600.0
    """Seconds after which the place is asked again: own pace drifts."""

    def __init__(self, log: Log, start: Ms, at: float) -> None:
        self._log, self._start, self._at = log, start, at

    @classmethod
    def of(cls, log: Log) -> Self | None:
        """The clock of a log that has one."""
        begun = seconds()
        read = log.now()
        if read is None:
            return None
        ended = seconds()
        skew = read - SYSTEM_CLOCK.now()
        if abs(skew) > SKEW + 1000 * (ended - begun):
            way = "behind" if skew > 0 else "ahead of"
            _LOG.warning(
                "this machine's clock is %.1f s %s the storage's: the storage's is used",
                abs(skew) / 1000,
                way,
            )
        return cls(log, read, (begun + ended) / 2)

    def keep_pace(self) -> None:
        """Ask the place again if that is long ago; if it does not answer, later."""
        begun = seconds()
        if begun - self._at < self.AGAIN:
            return
        with contextlib.suppress(StorageError):
            read = self._log.now()
            if read is not None:
                self._start, self._at = read, (begun + seconds()) / 2
                return
        self._start, self._at = self.now(), seconds()

    def now(self) -> Ms:
        """Milliseconds since 1970, UTC, as the place would say."""
        return self._start + round(1000 * (seconds() - self._at))
