"""What one batch gathers on its way: answers, signals, events."""

from __future__ import annotations

import sqlite3
from typing import Any

from omniq.models.event import TaskEvent
from omniq.models.row import Ms
from omniq.models.status import Status
from omniq.models.units import Applied, Receipt
from omniq.storage.sqlite.rows import Many, encode_json

_INSERT_EVENTS = Many(
    "INSERT INTO omniq_event (task, epoch, n, at, type, queue, name, worker, keep_until, data) "
    "VALUES {rows} ON CONFLICT (task, epoch, n) DO NOTHING",
    10,
)
_INSERT_RESULTS = Many(
    "INSERT INTO omniq_result (id, epoch, until, value) VALUES {rows} ON CONFLICT (id) DO UPDATE "
    "SET "
    "epoch = excluded.epoch, until = excluded.until, value = excluded.value "
    "WHERE omniq_result.epoch <= excluded.epoch",
    4,
)
_REFUSED = Applied.REFUSED


class Commit:
    """One transaction in the making, over a cursor that is inside it."""

    __slots__ = (
        "_told",
        "cursor",
        "missing",
        "now",
        "outcome",
        "refused",
        "stranded",
        "taken",
        "topics",
        "unreleased",
        "woken",
    )

    def __init__(self, cursor: sqlite3.Cursor, now: Ms, units: int) -> None:
        self.cursor = cursor
        self.now = now
        self.outcome: list[Applied] = [_REFUSED] * units
        self.topics: set[str] = set()
        """What to signal once it is committed."""
        self.woken: set[str] = set()
        self.stranded: list[str] = []
        self.unreleased = False
        self.taken: dict[int, str] = {}
        self.missing: dict[int, tuple[str, ...]] = {}
        self.refused: dict[int, int] = {}
        self._told: list[tuple[int, tuple[TaskEvent, ...]]] = []

    def one(self, sql: str, *values: Any) -> Any:
        """The first row of an answer, or None."""
        return self.cursor.execute(sql, values).fetchone()

    def run(self, sql: str, *values: Any) -> int:
        """How many rows a statement changed."""
        return self.cursor.execute(sql, values).rowcount

    def tell(self, at: int, events: tuple[TaskEvent, ...]) -> None:
        """Keep the events of unit `at`; they are stored together, in the order of the batch."""
        if events:
            self._told.append((at, events))

    def became(self, status: int, queue: str) -> None:
        """A row of `queue` can run now, or later."""
        if status == Status.READY:
            self.woken.add(queue)
        elif status != Status.SCHEDULED:
            return
        # A worker that sleeps until the next due row has to learn of an earlier one.
        self.topics.add(f"queue:{queue}")

    def refuse_rider(self, at: int) -> None:
        """A rider of unit `at` was refused; the unit stands."""
        self.refused[at] = self.refused.get(at, 0) + 1

    def put_results(self, values: list[Any]) -> int:
        """Keep results, (id, epoch, until, value) each; none over a higher epoch."""
        return _INSERT_RESULTS.run(self.cursor, values)

    def finish(self) -> Receipt:
        """Write what was gathered, and answer."""
        if self._told:
            self._told.sort(key=_index)
            values: list[Any] = []
            for _, events in self._told:
                for e in events:
                    values += (
                        e.task,
                        e.epoch,
                        e.n,
                        e.at,
                        e.type.value,
                        e.queue,
                        e.name,
                        e.worker,
                        e.keep_until,
                        encode_json(e.data).decode() if e.data else None,
                    )
            _INSERT_EVENTS.run(self.cursor, values)
            self.topics.add("events")
        return Receipt(
            outcome=self.outcome,
            taken=self.taken,
            missing=self.missing,
            riders_refused=self.refused,
            woken=frozenset(self.woken),
            stranded=tuple(self.stranded),
            unreleased=self.unreleased,
        )


def _index(told: tuple[int, tuple[TaskEvent, ...]]) -> int:
    return told[0]
