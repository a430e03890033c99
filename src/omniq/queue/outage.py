"""Tells of a store that does not answer: at once, then ever more rarely, and when it is back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

FIRST: Final = 5.0
"""Seconds before it is told of a second time; each pause doubles the one before."""
LONGEST: Final = 60.0


class Outage:
    """What several callers of one store see of its being away, told as one thing.

    Each names what fails by the words it is told with. It is over when none of them fails any
    more. May be told from any thread.
    """

    def __init__(self, log: logging.Logger, *, now: Callable[[], float] = time.monotonic) -> None:
        self._log, self._now = log, now
        self._failing: set[str] = set()
        self._lock = threading.Lock()
        self._since = self._next = self._pause = 0.0

    @property
    def on(self) -> bool:
        """Whether something fails now."""
        return bool(self._failing)

    def failed(self, what: str, error: BaseException) -> None:
        """A call failed, and will be made again."""
        with self._lock:
            now, new, why = self._now(), not self._failing, str(error) or type(error).__name__
            self._failing.add(what)
            if new:
                self._since, self._pause = now, FIRST
                self._log.warning("%s, trying again: %s", what, why)
            elif now >= self._next:
                self._pause = min(2 * self._pause, LONGEST)
                self._log.warning("%s, for %.0f s now: %s", what, now - self._since, why)
            else:
                return
            self._next = now + self._pause

    def given_up(self, what: str) -> None:
        """A call that failed will not be made again, so it tells no more of the store."""
        with self._lock:
            self._failing.discard(what)

    def answered(self, what: str) -> None:
        """A call went through."""
        if what not in self._failing:
            return
        with self._lock:
            was_on = self.on
            self._failing.discard(what)
            if was_on and not self.on:
                # As loud as the warning it answers: whoever was shown that one waits for this.
                away = self._now() - self._since
                self._log.warning("the store answers again, after %.1f s", away)
