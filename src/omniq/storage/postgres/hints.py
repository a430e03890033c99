"""Claims that skip what they have claimed before, while a long snapshot keeps it in the index.

Claimed rows stay in the ready index until no open snapshot (a backup, a forgotten transaction)
can see them any more. Then each claim walks over all those before it, and becomes slower and
slower. Once that shows (a claim walked thousands of entries more than it took), the next claims
begin behind the last key taken. What comes in below that key meanwhile (a higher priority, a
late commit) is found when the hint is dropped: after half a second, or by a claim that comes
back short. As long as nothing is held, there are no hints and the order is exact.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from omniq.models.filters import Slot
from omniq.models.row import Ms, TaskRow

PATIENCE: Final = 2000
"""Index entries a claim may walk in vain."""
LASTS: Final = 0.5
"""Seconds until a claim looks from the start again."""


class Key(NamedTuple):
    """What orders ready rows."""

    rank: int
    run_at: Ms
    id: str


class Hints:
    """The last key taken of each queue and lane, where it is needed."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str], tuple[Key, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def ask(self, slots: Sequence[Slot]) -> list[Key | None]:
        """Where each slot's claim begins; None: at the start."""
        if not self._keys:
            return [None] * len(slots)
        now = time.monotonic()
        found: list[Key | None] = []
        for slot in slots:
            key, until = self._keys.get((slot.queue, slot.lane), (None, 0.0))
            if key is not None and until <= now:
                del self._keys[slot.queue, slot.lane]
                key = None
            found.append(key)
        return found

    def learn(
        self,
        slots: Sequence[Slot],
        used: Sequence[Key | None],
        walked: Sequence[int | None],
        taken: Sequence[TaskRow],
    ) -> bool:
        """Remember where to go on; whether a hinted slot came back empty."""
        empty = False
        for slot, hint, steps in zip(slots, used, walked, strict=False):
            if steps is None:
                continue
            if hint is None and steps <= PATIENCE:
                continue
            line = (slot.queue, slot.lane)
            rows = [row for row in taken if (row.queue, row.lane) == line]
            if hint is not None and len(rows) < slot.limit:
                self._keys.pop(line, None)
                empty = empty or not rows
            elif rows and (hint is not None or steps > PATIENCE + len(rows)):
                until = time.monotonic() + LASTS
                if hint is not None:
                    until = self._keys.get(line, (hint, until))[1]
                self._keys[line] = max(map(_key, rows)), until
        return empty


def _key(row: TaskRow) -> Key:
    return Key(-row.priority, row.run_at, row.id)
