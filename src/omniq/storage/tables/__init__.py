"""The meaning of the port in plain Python data.

`Tables` is the reference every storage is compared with, and the working state of those that
keep a log. Changes go two ways only. A `Draft` (`decide`, `handout`) weighs what is asked
against tables it does not touch and writes values into a segment; `play` (`state`) takes such
values in and runs no rule. So whoever reads the log comes to the same tables, whatever rules
its own version has.
"""

from __future__ import annotations

from collections.abc import Sequence

from omniq.models.filters import (
    Batch,
    Claim,
    EventFilter,
    EventPage,
    Held,
    HeldTask,
    Page,
    QueueCount,
    TaskFilter,
)
from omniq.models.row import Doc, Ms, ResultRow, TaskRow
from omniq.models.units import Receipt, Unit
from omniq.storage.tables import handout, reads
from omniq.storage.tables.decide import Draft
from omniq.storage.tables.state import State


class Tables(State):
    """The port, in memory, at once, with the time passed in."""

    def apply(self, units: Sequence[Unit], now: Ms) -> Receipt:
        draft = Draft(self, now)
        receipt = draft.apply(units)
        self._take_in(draft)
        return receipt

    def claim(self, asked: Claim, now: Ms) -> Batch:
        draft = Draft(self, now)
        batch = handout.claim(draft, asked)
        self._take_in(draft)
        return batch

    def exchange(self, units: Sequence[Unit], asked: Claim, now: Ms) -> tuple[Receipt, Batch]:
        draft = Draft(self, now)
        answer = draft.apply(units), handout.claim(draft, asked)
        self._take_in(draft)
        return answer

    def extend(self, owner: str, lease: Ms, held: Sequence[HeldTask], now: Ms) -> Held:
        draft = Draft(self, now)
        answer = handout.extend(draft, owner, lease, held)
        self._take_in(draft)
        return answer

    def sweep(self, now: Ms, limit: int = 1000) -> int:
        draft = Draft(self, now)
        removed = handout.sweep(draft, limit)
        self._take_in(draft)
        return removed

    def _take_in(self, draft: Draft) -> None:
        self.play(draft.segment, draft.rows)

    def get_tasks(self, ids: Sequence[str], now: Ms) -> list[TaskRow]:
        return reads.get_tasks(self, ids, now)

    def find_tasks(
        self, filter: TaskFilter, now: Ms, *, limit: int = 100, cursor: str | None = None
    ) -> Page:
        return reads.find_tasks(self, filter, limit=limit, cursor=cursor, now=now)

    def count_tasks(self, now: Ms) -> list[QueueCount]:
        return reads.count_tasks(self, now)

    def get_results(self, ids: Sequence[str], now: Ms) -> list[ResultRow]:
        return reads.get_results(self, ids, now)

    def get_docs(
        self,
        kind: str,
        now: Ms,
        *,
        prefix: str = "",
        after: str = "",
        due_before: Ms | None = None,
        limit: int = 1000,
    ) -> list[Doc]:
        return reads.get_docs(
            self, kind, prefix=prefix, after=after, due_before=due_before, limit=limit, now=now
        )

    def read_events(
        self, filter: EventFilter, now: Ms, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        return reads.read_events(self, filter, after=after, limit=limit, now=now)
