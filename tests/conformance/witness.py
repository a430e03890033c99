"""What must hold of any storage, kept in step from receipts and batches alone.

The state machine compares storages with the reference tables. This is the second opinion: it
knows neither of them, so a mistake both share is still seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from omniq.models import Doc, Insert, Move, ResultRow, Status, TaskEvent, TaskRow, Unit
from omniq.models.filters import Batch, Claim

from .kit import APPLIED


class Seen(NamedTuple):
    """All that can be read of a place."""

    rows: dict[str, TaskRow]
    found: list[str]
    results: dict[str, ResultRow]
    docs: list[Doc]
    counts: dict[tuple[str, Status], int]
    events: list[TaskEvent]


class Witness:
    """Remembers what was promised and says whether it was kept."""

    def __init__(self) -> None:
        self.open: dict[str, set[str]] = {}
        """Child -> parents that have not ended since it was inserted."""
        self.given: dict[tuple[str, int], tuple[str, str]] = {}
        """(id, epoch) -> the one (owner, request) it was handed to."""
        self.accepted: dict[str, tuple[int, bytes]] = {}
        """The result of the run that was accepted as the end."""
        self.epochs: dict[str, int] = {}

    def applied(self, unit: Unit, before: TaskRow | None, rows: dict[str, TaskRow]) -> None:
        """A unit went through; `before` is its row as it was, `rows` what is there now."""
        if isinstance(unit, Insert):
            assert before is None
            self._inserted(unit, rows)
        elif isinstance(unit, Move) and before is not None:  # else past its time, not yet swept
            assert before.status in unit.expect
            assert unit.fence in (None, (before.epoch, before.claim))
            onward = unit.to is not None and not unit.to.final
            assert not (before.cancel and onward), "it slipped past a cancel"
            if unit.to is not None and unit.to.final and unit.result is not None:
                self.accepted[unit.id] = (before.epoch, unit.result.value)
            elif onward:
                self.accepted.pop(unit.id, None)

    def spawned(self, unit: Insert, rows: dict[str, TaskRow], known: bool) -> None:
        """A rider may have gone in: it did if it is there and was not before."""
        if not known and unit.row.id in rows:
            self._inserted(unit, rows)

    def _inserted(self, unit: Insert, rows: dict[str, TaskRow]) -> None:
        parents = {dep.parent for dep in unit.deps if dep.parent in rows}
        self.open[unit.row.id] = {id for id in parents if not rows[id].status.final}

    def claimed(self, asked: Claim, batch: Batch, after: Seen, now: int) -> None:
        """A claim that was not sent before took what it should, in order, and no more."""
        taken = batch.tasks
        assert len(taken) <= asked.limit
        paused = {doc.key for doc in after.docs if doc.kind == "pause"}
        lines = [(slot.queue, slot.lane) for slot in asked.slots]
        room = {slot.lane: slot.limit for slot in asked.slots}
        for lane, count in Counter(row.lane for row in taken).items():
            assert count <= room[lane]
        for row in taken:
            assert (row.queue, row.lane) in lines
            assert row.queue not in paused
            assert row.run_at <= now
            assert row.expires_at is None or row.expires_at > now
        for line in lines:
            ours = [rank(row) for row in taken if (row.queue, row.lane) == line]
            left = [
                rank(row)
                for row in after.rows.values()
                if (row.queue, row.lane) == line
                and row.status in (Status.READY, Status.SCHEDULED)
                and row.run_at <= now
                and (row.expires_at is None or row.expires_at > now)
            ]
            assert ours == sorted(ours)
            assert not ours or not left or ours[-1] < min(left), "a better one was left behind"
            used = sum(row.lane == line[1] for row in taken)
            full = len(taken) == asked.limit or used == room[line[1]]
            assert not left or line[0] in paused or full, "there was room, and work"

    def handed(self, rows: Iterable[TaskRow]) -> None:
        """Rows were handed out."""
        for row in rows:
            holder = (row.owner or "", row.claim or "")
            assert row.status is Status.RUNNING
            assert self.given.setdefault((row.id, row.epoch), holder) == holder, "given twice"

    def check(self, seen: Seen, now: int) -> None:
        """Whatever happened, this holds."""
        self._follow(seen)
        assert seen.found == sorted(seen.rows, reverse=True)
        counted = Counter((row.queue, row.status) for row in seen.rows.values())
        assert seen.counts == dict(counted)
        for row in seen.rows.values():
            self._check_row(row)
        unended = {row.id for row in seen.rows.values() if not row.status.final}
        assert not unended & seen.results.keys(), "the result of an earlier life"
        for id, (epoch, value) in self.accepted.items():
            result = seen.results.get(id)
            assert result is None or (result.epoch, result.value) == (epoch, value)
        holders = Counter(
            row.unique.key
            for row in seen.rows.values()
            if _holds(row, now) and row.unique is not None
        )
        assert all(count == 1 for count in holders.values()), holders
        identities = [(event.task, event.epoch, event.n) for event in seen.events]
        assert len(identities) == len(set(identities))

    def _follow(self, seen: Seen) -> None:
        for child, parents in self.open.items():
            row = seen.rows.get(child)
            if row is None or row.status.final:
                parents.clear()
            else:
                ended = {p for p in parents if p not in seen.rows or seen.rows[p].status.final}
                parents -= ended
        gone = self.epochs.keys() - seen.rows.keys()
        for id in gone:
            del self.epochs[id]
            self.accepted.pop(id, None)
        if gone:
            self.given = {key: to for key, to in self.given.items() if key[0] not in gone}
        for id, row in seen.rows.items():
            assert row.epoch >= self.epochs.get(id, 0), "an epoch went back"
            self.epochs[id] = row.epoch

    def _check_row(self, row: TaskRow) -> None:
        running = row.status is Status.RUNNING
        assert (row.claim is not None) == running
        assert row.owner is not None or not running
        assert running or not row.cancel
        assert running or row.status is Status.WAITING or row.flags == 0
        assert row.waiting == len(self.open.get(row.id, ())), "waiting is the open parents"
        assert row.status is not Status.WAITING or row.waiting or row.flags
        if running:
            assert self.given[row.id, row.epoch] == (row.owner, row.claim)


def rank(row: TaskRow) -> tuple[int, int, str]:
    """The order of the port."""
    return (-row.priority, row.run_at, row.id)


def _holds(row: TaskRow, now: int) -> bool:
    """Whether a row must hold its unique key (a lower bound: after a start it may not)."""
    if row.unique is None or row.status.final:
        return False
    if row.unique.until is not None and row.unique.until <= now:
        return False
    return row.unique.free != "start" or row.started_at is None


def accepted(outcomes: Iterable[object], units: Iterable[Unit]) -> list[Unit]:
    """The units that were applied."""
    return [unit for unit, answer in zip(units, outcomes, strict=True) if answer is APPLIED]


def differences(ours: Any, theirs: Any) -> str:
    """What a storage (ours) and the tables (theirs) see differently, in a few words."""
    if not (isinstance(ours, list) and isinstance(theirs, list)):
        return f"{ours} / {theirs}"
    if len(ours) != len(theirs):
        here = [one for one in ours if one not in theirs]
        there = [one for one in theirs if one not in ours]
        return f"only here: {here}; only there: {there}"
    told = []
    for our, their in zip(ours, theirs, strict=True):
        for name in our.__struct_fields__:
            pair = getattr(our, name), getattr(their, name)
            if pair[0] != pair[1]:
                told.append(f"{getattr(our, 'id', our)}.{name}: {pair[0]!r} / {pair[1]!r}")
    return "; ".join(told)
