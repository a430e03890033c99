"""Deciding: what becomes of units, weighed against tables that are only looked at.

A `Draft` sees the tables as they would be with what it has decided so far, and writes its
decisions into a segment as values. If the commit is lost to another process the draft is
thrown away; nothing needs to be taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from msgspec.structs import replace

from omniq.models.event import TaskEvent
from omniq.models.row import Dep, Doc, Flag, Ms, ResultRow, TaskRow
from omniq.models.status import FINAL, Status
from omniq.models.units import (
    Applied,
    Insert,
    Move,
    PutDoc,
    PutResult,
    Receipt,
    Unit,
)
from omniq.storage.tables.reads import own
from omniq.storage.tables.segment import Change, Edge, EdgeState, Holder, Segment
from omniq.storage.tables.state import State, chapter

UNIT_ROWS = 500
"""Children one unit releases; the rest go on in `sweep`."""

_WAITING, _SCHEDULED = Status.WAITING, Status.SCHEDULED
_READY, _RUNNING = Status.READY, Status.RUNNING
_OPEN = EdgeState.OPEN


class Verdict(NamedTuple):
    """What became of one unit, and why."""

    applied: Applied
    holder: str | None = None
    absent: tuple[str, ...] = ()
    riders_refused: int = 0


_APPLIED = Verdict(Applied.APPLIED)
_ALREADY = Verdict(Applied.ALREADY)
_REFUSED = Verdict(Applied.REFUSED)
_ASKED = Verdict(Applied.CANCEL_ASKED)


class Draft:
    """One commit in the making."""

    def __init__(self, state: State, now: Ms) -> None:
        self.state = state
        self.now = now
        self.segment = Segment(at=now)
        self.rows: dict[str, TaskRow] = {}
        """Inserted and changed rows, as they come out."""
        self._born: dict[str, list[str]] = {}
        """Parent -> children inserted here."""
        self._told: set[tuple[str, int]] = set()
        self._woken: set[str] = set()
        self.stranded: list[str] = []
        self.unreleased = False

    # -- the tables as they would be --

    def row(self, id: str) -> TaskRow | None:
        """A row with what was decided so far."""
        return self.rows.get(id) or self.state.rows.get(id)

    def holder(self, key: str) -> Holder | None:
        """Who has a unique key now."""
        decided = self.segment.uniq
        holder = decided[key] if key in decided else self.state.uniq.get(key)
        if holder is None or (holder.until is not None and holder.until <= self.now):
            return None
        return holder

    def doc(self, kind: str, key: str) -> Doc | None:
        """A living doc."""
        decided = self.segment.docs.get(kind, {})
        doc = decided[key] if key in decided else self.state.docs.get(kind, {}).get(key)
        if doc is None or (doc.expires_at is not None and doc.expires_at <= self.now):
            return None
        return doc

    def edges(self, child: str) -> dict[str, Edge]:
        """The parents of a row."""
        decided, known = self.segment.edges.get(child), self.state.edges.get(child, {})
        return {**known, **decided} if decided else known

    def visible(self, row: TaskRow) -> bool:
        """Whether a row counts as there: within its stamp, or kept for a child."""
        if row.keep_until is None or row.keep_until > self.now:
            return True
        children = chain(self.state.children.get(row.id, ()), self._born.get(row.id, ()))
        return any((child := self.row(id)) and child.status < FINAL for id in children)

    def lease(self, owner: str) -> Ms:
        """Until when an owner's lease lasts; 0: it has none."""
        decided = self.segment.leases.get(owner)
        return self.state.leases.get(owner, 0) if decided is None else decided

    def set(self, row: TaskRow, change: Change) -> TaskRow:
        """Decide new values for fields of a row."""
        new = self.rows[row.id] = replace(row, **change)
        decided = self.segment.set.setdefault(row.id, change)
        if decided is not change:
            decided.update(change)
        if new.status is _READY and row.status is not _READY:
            self._woken.add(new.queue)
        return new

    def admit(self, run_at: Ms) -> Status:
        """The status of a row that nothing but its time and its limits can hold."""
        # Limits (HELD) are to be asked here, the only way to READY, when they come.
        return _SCHEDULED if run_at > self.now else _READY

    # -- units --

    def apply(self, units: Sequence[Unit]) -> Receipt:
        """Decide a batch, in order. Several may go into one commit, each with its receipt."""
        self._woken, self.unreleased = set(), False
        stranded = len(self.stranded)
        outcome: list[Applied] = []
        taken: dict[int, str] = {}
        missing: dict[int, tuple[str, ...]] = {}
        riders_refused: dict[int, int] = {}
        for at, unit in enumerate(units):
            verdict = self._decide(unit)
            outcome.append(verdict.applied)
            if verdict is _APPLIED:
                continue
            if verdict.holder is not None:
                taken[at] = verdict.holder
            if verdict.absent:
                missing[at] = verdict.absent
            if verdict.riders_refused:
                riders_refused[at] = verdict.riders_refused
        return Receipt(
            outcome=outcome,
            taken=taken,
            missing=missing,
            riders_refused=riders_refused,
            woken=frozenset(self._woken),
            stranded=tuple(self.stranded[stranded:]),
            unreleased=self.unreleased,
        )

    def _decide(self, unit: Unit) -> Verdict:
        if isinstance(unit, Move):
            return self._move(unit)
        if isinstance(unit, Insert):
            return self._insert(unit)
        if isinstance(unit, PutDoc):
            return self._put_doc(unit)
        if isinstance(unit, PutResult):
            result = ResultRow(unit.id, unit.epoch, unit.value, unit.until)
            return _APPLIED if self._put_result(result) else _REFUSED
        self._tell(unit.events)
        return _APPLIED

    def _insert(self, unit: Insert) -> Verdict:
        row = unit.row
        if self.row(row.id) is not None:
            return _ALREADY
        if row.unique is not None and (holder := self.holder(row.unique.key)) is not None:
            return Verdict(Applied.REFUSED, holder=holder.id)
        flags, edges = row.flags, None
        if unit.deps:
            edges, absent, failed = self._weigh(unit.deps)
            if absent:
                return Verdict(Applied.REFUSED, absent=absent)
            if failed:
                flags |= Flag.STRANDED
                self.stranded.append(row.id)
        waiting = sum(edge.state is _OPEN for edge in edges.values()) if edges else 0
        status = _WAITING if waiting or flags & Flag.STRANDED else self.admit(row.run_at)
        if status is not row.status or waiting != row.waiting or flags != row.flags:
            row = replace(row, status=status, waiting=waiting, flags=flags)
        self.rows[row.id] = row
        self.segment.ins.append(row)
        if status is _READY:
            self._woken.add(row.queue)
        if edges:
            self.segment.edges[row.id] = edges
            for parent in edges:
                self._born.setdefault(parent, []).append(row.id)
        self._take_key(row)
        if unit.events:
            self._tell(unit.events)
        return _APPLIED

    def _weigh(self, deps: Sequence[Dep]) -> tuple[dict[str, Edge], tuple[str, ...], bool]:
        """A new row's edges, the parents it may not be without, and whether one failed it."""
        edges: dict[str, Edge] = {}
        absent: list[str] = []
        failed = False
        for dep in deps:
            parent = self.row(dep.parent)
            if parent is None or not self.visible(parent):
                failed = failed or dep.missing == "fail"
                if dep.missing == "refuse":
                    absent.append(dep.parent)
                continue
            edge = Edge(dep.need, _ended(parent.status, dep.need))
            failed = failed or edge.state is EdgeState.FAILED
            if dep.parent not in edges or dep.need == "success":
                edges[dep.parent] = edge
        return edges, tuple(absent), failed

    def _move(self, unit: Move) -> Verdict:
        row = self.row(unit.id)
        if row is None or row.status not in unit.expect:
            return _REFUSED
        if unit.fence is not None and unit.fence != (row.epoch, row.claim):
            return _REFUSED
        to = unit.to
        if unit.ask:
            if row.status is _RUNNING:
                if not row.cancel:
                    self.set(row, {"cancel": True})
                return _ASKED
            to = Status.CANCELLED
            if row.status >= FINAL:
                return _REFUSED
        elif to is not None and to < FINAL and row.cancel and row.status is _RUNNING:
            return _REFUSED
        change: Change = {**unit.patch}  # type: ignore[typeddict-item]
        refused = 0
        if to is not None:
            holder = self._turn(row, to, change)
            if holder is not None:
                return Verdict(Applied.REFUSED, holder=holder.id)
        elif change:
            self.set(row, change)
        if unit.result is not None:
            value, until = unit.result
            refused += not self._put_result(ResultRow(row.id, row.epoch, value, until))
        if unit.events:
            self._tell(unit.events)
        for spawn in unit.spawn:
            refused += self._insert(spawn).applied is Applied.REFUSED
        for doc in unit.docs:
            verdict = self._put_doc(doc)
            refused += (verdict.applied is Applied.REFUSED) + verdict.riders_refused
        return Verdict(Applied.APPLIED, riders_refused=refused) if refused else _APPLIED

    def _turn(self, row: TaskRow, to: Status, change: Change) -> Holder | None:
        """Change a row's status, with all that follows; or say who holds its unique key."""
        replay = row.status >= FINAL and to < FINAL
        if replay and row.unique is not None:
            holder = self.holder(row.unique.key)
            if holder is not None and holder.id != row.id:
                return holder
        if to is _READY:
            to = self.admit(change.get("run_at", row.run_at))
        change["status"] = to
        if to is not _RUNNING:
            if row.claim is not None:
                change["claim"] = None
            if row.cancel:
                change["cancel"] = False
            if row.flags:
                change["flags"] = 0
        if to >= FINAL and row.waiting:
            change["waiting"] = 0
        new = self.set(row, change)
        if replay:
            self._take_key(new)
            if row.id in self.state.results or row.id in self.segment.res:
                self.segment.res[row.id] = None
        elif to >= FINAL:
            if row.unique is not None:
                self.free_key(new, "start", "end")
            if row.id in self.state.edges or row.id in self.segment.edges:
                for parent, edge in self.edges(row.id).items():
                    if edge.state is _OPEN:
                        self._put_edge(row.id, parent, Edge(edge.need, EdgeState.CLOSED))
            if row.id in self.state.open_children or row.id in self._born:
                self.release(new, UNIT_ROWS)
        return None

    def release(self, parent: TaskRow, limit: int) -> int:
        """Tell an ended row's children of it, up to `limit` of them; how many were told."""
        told = 0
        for id in self._open_children(parent.id):
            edge = self.edges(id)[parent.id]
            if edge.state is not _OPEN:
                continue
            if told == limit:
                self.unreleased = True
                break
            told += 1
            state = _ended(parent.status, edge.need)
            self._put_edge(id, parent.id, Edge(edge.need, state))
            child = self.row(id)
            if child is None:
                continue
            change: Change = {"waiting": child.waiting - 1}
            if child.status is _WAITING:
                if state is EdgeState.FAILED:
                    change["flags"] = child.flags | Flag.STRANDED
                    self.stranded.append(id)
                elif child.waiting == 1 and not child.flags & Flag.STRANDED:
                    change["status"] = self.admit(child.run_at)
            self.set(child, change)
        return told

    def _open_children(self, parent: str) -> Iterable[str]:
        return chain(self.state.open_children.get(parent, ()), self._born.get(parent, ()))

    def _put_edge(self, child: str, parent: str, edge: Edge) -> None:
        self.segment.edges.setdefault(child, {})[parent] = edge

    # -- riders --

    def _put_doc(self, unit: PutDoc) -> Verdict:
        kind, key = unit.kind, unit.key
        known = self.doc(kind, key)
        rev = 0 if known is None else known.rev
        if unit.expect is not None and unit.expect != rev:
            return _REFUSED
        if unit.value is not None:
            doc = Doc(kind, key, unit.value, rev + 1, unit.due_at, unit.expires_at)
            self.segment.docs.setdefault(kind, {})[key] = doc
        elif known is not None:
            self.segment.docs.setdefault(kind, {})[key] = None
        self._tell(unit.events)
        refused = sum(self._insert(spawn).applied is Applied.REFUSED for spawn in unit.spawn)
        return Verdict(Applied.APPLIED, riders_refused=refused) if refused else _APPLIED

    def _put_result(self, result: ResultRow) -> bool:
        decided = self.segment.res
        known = decided[result.id] if result.id in decided else self.state.results.get(result.id)
        if known is not None and known.epoch > result.epoch:
            return False
        decided[result.id] = result
        return True

    def _tell(self, events: Sequence[TaskEvent]) -> None:
        for event in events:
            at = chapter(event)
            key = (event.task, at)
            story = self.state.story.get(event.task)
            if key in self._told or (story is not None and at in story):
                continue
            self._told.add(key)
            self.segment.ev.append(own(event))

    # -- unique keys --

    def _take_key(self, row: TaskRow) -> None:
        unique = row.unique
        if unique is not None and (unique.until is None or unique.until > self.now):
            self.segment.uniq[unique.key] = Holder(row.id, unique.until)

    def free_key(self, row: TaskRow, *when: str) -> None:
        """Give a row's unique key back, if it still has it and `when` is its time."""
        unique = row.unique
        if unique is not None and unique.free in when:
            holder = self.holder(unique.key)
            if holder is not None and holder.id == row.id:
                self.segment.uniq[unique.key] = None


def _ended(parent: Status, need: str) -> EdgeState:
    """What a parent's status means for a child that needs its success, or only its end."""
    if parent < FINAL:
        return _OPEN
    met = need == "end" or parent is Status.SUCCEEDED
    return EdgeState.MET if met else EdgeState.FAILED
