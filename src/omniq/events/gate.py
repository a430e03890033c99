"""Which events are worth keeping: a level that can be changed while running."""

from __future__ import annotations

from typing import Literal

from omniq.errors import ConfigError, did_you_mean
from omniq.models.event import TaskEvent
from omniq.models.status import EventType

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR", "DISABLED"]

_ORDER = {"DEBUG": 0, "INFO": 1, "WARNING": 2, "ERROR": 3, "DISABLED": 9}

_LEVEL_OF = {
    EventType.ENQUEUED: 0,
    EventType.SCHEDULED: 0,
    EventType.EXECUTING: 0,
    EventType.COMPLETE: 0,
    EventType.CANCELLED: 1,
    EventType.WORKER_STARTED: 1,
    EventType.WORKER_STOPPED: 1,
    EventType.ERROR: 2,
    EventType.RETRY: 2,
    EventType.EXPIRED: 2,
    EventType.UNKNOWN_FUNCTION: 2,
    EventType.LEASE_LOST: 2,
    EventType.DEAD: 3,
    EventType.ACTION: 3,
}


class EventGate:
    """Makes events of a high enough level and drops the others before they cost anything.

    The ordinary course of a task (enqueued, started, complete) can be read from its row, so
    these events are kept at DEBUG only; INFO keeps what the row does not tell. `enqueued`,
    `executing` and `complete` say whether the most frequent ones are kept.
    """

    __slots__ = ("_keep", "_level", "complete", "enqueued", "executing", "retention")

    def __init__(self, level: Level = "INFO", retention: float = 7 * 86_400.0) -> None:
        self.retention = round(retention * 1000)
        self.level = level

    @property
    def level(self) -> Level:
        return self._level

    @level.setter
    def level(self, level: Level) -> None:
        if level not in _ORDER:
            raise ConfigError(f"event level {level!r} is unknown{did_you_mean(level, _ORDER)}")
        self._level = level
        self._keep = frozenset(t for t, n in _LEVEL_OF.items() if n >= _ORDER[level])
        self.enqueued = EventType.ENQUEUED in self._keep
        self.executing = EventType.EXECUTING in self._keep
        self.complete = EventType.COMPLETE in self._keep

    def __contains__(self, type: EventType) -> bool:
        return type in self._keep

    def pick(self, *events: TaskEvent) -> tuple[TaskEvent, ...]:
        """Those of `events` that are to be kept, each with its retention stamp left as it is."""
        return tuple(e for e in events if e.type in self._keep)
