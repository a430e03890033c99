"""Handing out: which rows a claim gets, what a heartbeat learns, what a sweep removes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import chain, islice, takewhile
from typing import Any, TypeVar

from omniq.models.filters import Batch, Claim, Held, HeldTask
from omniq.models.row import Flag, Ms, TaskRow
from omniq.models.status import Status
from omniq.storage.tables.decide import Draft
from omniq.storage.tables.index import LazyHeap
from omniq.storage.tables.segment import Change
from omniq.storage.tables.state import Rank

PROMOTE = 1000
"""Due rows one claim makes ready in each line: more than it can hand out."""
PROMOTE_ALL = 8 * PROMOTE
"""In all of its lines together: it is one commit. `next_due` brings the next claim at once."""

_WAITING, _SCHEDULED = Status.WAITING, Status.SCHEDULED
_READY, _RUNNING = Status.READY, Status.RUNNING

Name = tuple[str, str]
"""Queue and lane."""

E = TypeVar("E", bound=tuple[Any, ...])


def claim(draft: Draft, asked: Claim) -> Batch:
    """Decide which rows are handed out."""
    names = {(slot.queue, slot.lane) for slot in asked.slots}
    _promote(draft, names)
    tasks, chores = _given_before(draft, asked)
    if not tasks and not chores:
        tasks = list(_take_tasks(draft, asked))
        chores = list(islice(_take_chores(draft, asked), asked.chores))
    if tasks or chores:
        # Even where it says the same as before: an owner whose last task ends in this very
        # segment would else be left without a lease for those it claims here.
        draft.segment.leases[asked.owner] = draft.now + asked.lease
    elif asked.owner in draft.state.running:
        _renew(draft, asked.owner, asked.lease)
    return Batch(tasks=tasks, chores=chores, next_due=_next_due(draft, names))


def extend(draft: Draft, owner: str, lease: Ms, held: Sequence[HeldTask]) -> Held:
    """Decide a heartbeat."""
    lost: list[str] = []
    cancelled: list[str] = []
    mine: set[str] = set()
    for task in held:
        row = draft.row(task.id)
        if (
            row is None
            or row.status is not _RUNNING
            or row.owner != owner
            or (row.epoch, row.claim) != (task.epoch, task.claim)
        ):
            lost.append(task.id)
            continue
        mine.add(task.id)
        if row.cancel:
            cancelled.append(task.id)
        if task.progress is not None and task.progress != row.progress:
            draft.set(row, {"progress": task.progress})
    running = draft.state.running.get(owner, {})
    rows = (draft.state.rows[id] for id in running if id not in mine)
    unknown = tuple(HeldTask(row.id, row.epoch, row.claim or "") for row in rows)
    if running:
        _renew(draft, owner, lease)
    return Held(lost=tuple(lost), cancelled=tuple(cancelled), unknown=unknown)


def sweep(draft: Draft, limit: int) -> int:
    """Decide what is removed, and go on with releases; how many things that were."""
    state, now, segment = draft.state, draft.now, draft.segment
    left = limit
    for parent in state.releasing:
        left -= draft.release(state.rows[parent], left)
    # Parents wait for their children here, so they are passed over, not counted.
    for _, id in _past(state.leaving, now):
        if left and not state.unfinished[id]:
            left -= 1
            _remove(draft, state.rows[id])
    for _, id in _past(state.fading, now):
        if left and not state.unfinished[id]:
            left -= 1
            segment.res[id] = None
    for _, kind, key in islice(_past(state.lapsing, now), left):
        left -= 1
        segment.docs.setdefault(kind, {})[key] = None
    for _, key in islice(_past(state.freeing, now), left):
        left -= 1
        segment.uniq[key] = None
    for _, number in islice(_past(state.dimming, now), left):
        left -= 1
        segment.unev.append(number)
    return limit - left


def _remove(draft: Draft, row: TaskRow) -> None:
    draft.segment.gone.append(row.id)
    result = draft.state.results.get(row.id)
    if result is not None and result.until is None:  # it stays as long as its row
        draft.segment.res[row.id] = None
    draft.free_key(row, "start", "end")
    if row.unique is not None and row.unique.until is None:
        draft.free_key(row, "time")


def _past(heap: LazyHeap[E], now: Ms) -> Iterator[E]:
    """The entries whose stamp has passed."""
    return takewhile(lambda entry: entry[0] <= now, heap.walk())


def _renew(draft: Draft, owner: str, lease: Ms) -> None:
    until = draft.now + lease
    if draft.state.leases.get(owner) != until:
        draft.segment.leases[owner] = until


def _given_before(draft: Draft, asked: Claim) -> tuple[list[TaskRow], list[TaskRow]]:
    """What the same request was given, as far as it still runs."""
    ids = draft.state.running.get(asked.owner, ())
    rows = [row for id in ids if (row := draft.row(id)) is not None and row.claim == asked.request]
    if not rows:
        return [], []
    place = {(slot.queue, slot.lane): at for at, slot in enumerate(asked.slots)}
    tasks = [row for row in rows if not row.flags]
    tasks.sort(key=lambda row: (place.get((row.queue, row.lane), 0), _rank(row)))
    return tasks, [row for row in rows if row.flags]


def _promote(draft: Draft, names: set[Name]) -> None:
    """Make due rows ready."""
    state, now = draft.state, draft.now
    due = [row for row in _put_off(draft, names) if row.run_at <= now]
    for name in names & state.lines.keys():
        room = min(PROMOTE, PROMOTE_ALL - len(due))
        for run_at, id in islice(state.lines[name].later.walk(), max(0, room)):
            if run_at > now:
                break
            if id not in draft.rows:
                due.append(state.rows[id])
    for row in due:
        draft.set(row, {"status": draft.admit(row.run_at)})


def _next_due(draft: Draft, names: set[Name]) -> Ms | None:
    """The next time that lies ahead, now that the claim has taken what it takes."""
    lines = draft.state.lines
    ahead = [row.run_at for row in _put_off(draft, names)]
    for name in names & lines.keys():
        untouched = (at for at, id in lines[name].later.walk() if id not in draft.rows)
        ahead.extend(islice(untouched, 1))
    return min(ahead, default=None)


def _put_off(draft: Draft, names: set[Name]) -> list[TaskRow]:
    """What this very commit has scheduled: it is in no index yet."""
    return [
        row
        for row in draft.rows.values()
        if row.status is _SCHEDULED and (row.queue, row.lane) in names
    ]


def _take_tasks(draft: Draft, asked: Claim) -> Iterator[TaskRow]:
    """Slot by slot, the best rank first. Slots of one lane share its room."""
    touched: dict[Name, list[Rank]] = {}
    for row in draft.rows.values():
        if row.status is _READY:
            touched.setdefault((row.queue, row.lane), []).append(_rank(row))
    left = asked.limit
    taken: dict[str, int] = {}
    for slot in asked.slots:
        room = min(left, slot.limit - taken.get(slot.lane, 0))
        if room <= 0 or draft.doc("pause", slot.queue) is not None:
            continue
        name = (slot.queue, slot.lane)
        given = 0
        for row in islice(_ready(draft, name, touched.get(name)), room):
            given += 1
            if row.unique is not None:
                draft.free_key(row, "start")
            change = _taken(asked, row)
            change["attempt"] = row.attempt + 1
            change["started_at"] = draft.now
            yield draft.set(row, change)
        left -= given
        taken[slot.lane] = taken.get(slot.lane, 0) + given


def _ready(draft: Draft, name: Name, touched: list[Rank] | None) -> Iterator[TaskRow]:
    """The rows of a line that can be claimed, in order, with those this commit made ready."""
    rows, now = draft.state.rows, draft.now

    def lives(rank: Rank) -> bool:
        # What is past its end cannot be claimed again: the index may forget it.
        row = rows.get(rank[2])
        return (
            row is not None
            and row.status is _READY
            and row.run_at == rank[1]
            and row.priority == -rank[0]
            and (row.expires_at is None or row.expires_at > now)
        )

    line = draft.state.lines.get(name)
    decided = draft.rows
    ranks = iter(()) if line is None else line.ready.walk(lives)
    if not touched:
        for rank in ranks:
            if rank[2] not in decided:
                yield rows[rank[2]]
        return
    known = (rank for rank in ranks if rank[2] not in decided)
    for rank in merge(known, sorted(touched)):
        row = decided.get(rank[2]) or rows[rank[2]]
        if row.status is _READY and (row.expires_at is None or row.expires_at > now):
            yield row


def _take_chores(draft: Draft, asked: Claim) -> Iterator[TaskRow]:
    """Rows whose ending is a rule's business: lost, stranded, expired."""
    if not asked.chores:
        return
    state, now = draft.state, draft.now
    silent = (
        id
        for owner, ids in state.running.items()
        if owner != asked.owner and state.leases.get(owner, 0) <= now
        for id in ids
    )
    expired = (id for _, id in _past(state.expiring, now))
    # What this very commit put back is in no index yet.
    late = [
        id
        for id, row in draft.rows.items()
        if row.expires_at is not None and row.expires_at <= now and row.status < _RUNNING
    ]
    for id in chain(silent, state.stranded, draft.stranded, expired, late):
        row = draft.row(id)
        if row is None or row.claim == asked.request:
            continue
        change = _taken(asked, row)
        if row.status is _RUNNING:
            if row.owner == asked.owner or draft.lease(row.owner or "") > now:
                continue
            change["flags"] = row.flags | Flag.LOST
            change["losses"] = row.losses + 1
        elif row.expires_at is not None and row.expires_at <= now and row.status < _RUNNING:
            change["flags"] = row.flags | Flag.EXPIRED
        elif row.status is not _WAITING or not row.flags & Flag.STRANDED:
            continue
        yield draft.set(row, change)


def _taken(asked: Claim, row: TaskRow) -> Change:
    """What every hand-out writes."""
    return {
        "status": _RUNNING,
        "epoch": row.epoch + 1,
        "claim": asked.request,
        "owner": asked.owner,
    }


def _rank(row: TaskRow) -> Rank:
    return (-row.priority, row.run_at, row.id)
