"""Turns between processes that write one log.

Who has just written knows the newest segment and need not read, so it would write the next
one too, and the one after: measured with four processes and no rule, one did all the work.
So a winner that is not alone pauses for as long as others need to read what it wrote; and
every few wins in any case, since one who always wins never hears that others wait.
"""

from __future__ import annotations

import random
import time

from omniq.storage.log.pulse import seconds

RECENT = 5.0
"""Seconds for which others are taken to be there after they have written."""
CROWDED = 1.0
"""Seconds for which turns are asked for after a commit was lost to another."""
EVERY = 8
"""Wins in a row after which a pause is made whoever is there, long enough for anybody who
tries in vain to get in. Where nobody does, the next such pause is twice as far, up to a limit."""
RARELY = 32
LONGEST = 0.25
"""Seconds a read is taken to need at most, whatever disturbed it."""


class Turns:
    """When this process may try to write next."""

    def __init__(self) -> None:
        self._wins, self._every = 0, EVERY
        self._not_before = 0.0
        self._others = self._lost = float("-inf")
        self._put = self._read = 0.0

    def wait(self) -> None:
        """Pause, if it is others' turn."""
        left = self._not_before - seconds()
        if left > 0:
            time.sleep(left)

    def crowded(self) -> bool:
        """Whether commits have been lost to others just now."""
        return seconds() - self._lost < CROWDED

    def won(self, put: float) -> None:
        """A commit went through; the put took so many seconds."""
        now = seconds()
        self._put = _mean(self._put, min(put, LONGEST))
        self._wins += 1
        if self._wins >= self._every:
            self._wins, self._every = 0, min(RARELY, 2 * self._every)
            self._not_before = now + 2 * (self._read or self._put) + self._put
        elif now - self._others < RECENT:
            self._not_before = now + self._read + random.uniform(0, self._put / 2)

    def lost(self) -> None:
        """Another was first."""
        self._lost = seconds()
        self.others()

    def others(self) -> None:
        """Others have written."""
        self._others = seconds()
        self._wins, self._every = 0, EVERY

    def read(self, took: float) -> None:
        """A segment of another's was read and played in so many seconds."""
        self._read = _mean(self._read, min(took, LONGEST))


def _mean(mean: float, new: float) -> float:
    """A running mean that forgets."""
    return new if not mean else mean + (new - mean) / 8
