"""Everything a place knows, as plain data, and how decided values are taken in.

No rule is here: `play` believes what a segment says and keeps indexes and counts in step.
Whatever can be derived (who is ready, who runs what, which parent still holds children) is
derived, so a segment never has to say it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

from msgspec.structs import replace

from omniq.models.event import TaskEvent
from omniq.models.row import Doc, Flag, Ms, ResultRow, TaskRow
from omniq.models.status import FINAL, Status
from omniq.storage.tables.index import LazyHeap
from omniq.storage.tables.segment import Edge, EdgeState, Holder, Segment

_WAITING, _SCHEDULED = Status.WAITING, Status.SCHEDULED
_READY, _RUNNING = Status.READY, Status.RUNNING

V = TypeVar("V")

Rank = tuple[int, Ms, str]
"""What orders ready rows: (-priority, run_at, id)."""


class Line:
    """The rows of one queue and lane that can be claimed now, or later."""

    __slots__ = ("later", "ready")

    def __init__(self, rows: dict[str, TaskRow]) -> None:
        def is_ready(rank: Rank) -> bool:
            row = rows.get(rank[2])
            return (
                row is not None
                and row.status is _READY
                and row.run_at == rank[1]
                and row.priority == -rank[0]
            )

        def is_later(entry: tuple[Ms, str]) -> bool:
            row = rows.get(entry[1])
            return row is not None and row.status is _SCHEDULED and row.run_at == entry[0]

        self.ready: LazyHeap[Rank] = LazyHeap(is_ready)
        self.later: LazyHeap[tuple[Ms, str]] = LazyHeap(is_later)


class State:
    """The tables themselves. Only `play` changes them."""

    def __init__(self) -> None:
        self.rows: dict[str, TaskRow] = {}
        self.edges: dict[str, dict[str, Edge]] = {}
        """Child -> parent -> edge, as long as the child's row is kept."""
        self.docs: dict[str, dict[str, Doc]] = {}
        self.uniq: dict[str, Holder] = {}
        self.results: dict[str, ResultRow] = {}
        self.events: list[TaskEvent | None] = []
        """In the order they were stored; number n is at n - 1 - `forgotten`."""
        self.forgotten = 0
        self.leases: dict[str, Ms] = {}

        # Derived from here on.
        self.ids: list[str] = []
        """Sorted; ids of deleted rows linger until they are the half."""
        self.lines: dict[tuple[str, str], Line] = {}
        self.counts: dict[str, dict[Status, int]] = {}
        """Queue -> status -> how many."""
        self.running: dict[str, dict[str, None]] = {}
        """Owner -> ids, in the order they were claimed."""
        self.stranded: dict[str, None] = {}
        self.children: dict[str, dict[str, None]] = {}
        self.open_children: dict[str, dict[str, None]] = {}
        self.unfinished: Counter[str] = Counter()
        """Parent -> children that have not ended: it must stay for them."""
        self.releasing: dict[str, None] = {}
        """Ended parents that have not come to all of their children yet."""
        self.keys: dict[str, list[str]] = {}
        """Kind -> sorted keys of its docs."""
        self.story: dict[str, dict[int, int]] = {}
        """Task -> chapter (see `chapter`) -> number of the event."""
        self.expiring: LazyHeap[tuple[Ms, str]] = LazyHeap(self._expires)
        self.leaving: LazyHeap[tuple[Ms, str]] = LazyHeap(self._leaves)
        self.fading: LazyHeap[tuple[Ms, str]] = LazyHeap(self._fades)
        self.freeing: LazyHeap[tuple[Ms, str]] = LazyHeap(self._frees)
        self.lapsing: LazyHeap[tuple[Ms, str, str]] = LazyHeap(self._lapses)
        self.dimming: LazyHeap[tuple[Ms, int]] = LazyHeap(self._dims)

    # -- what still counts in the heaps --

    def _expires(self, entry: tuple[Ms, str]) -> bool:
        row = self.rows.get(entry[1])
        return row is not None and row.expires_at == entry[0] and row.status < _RUNNING

    def _leaves(self, entry: tuple[Ms, str]) -> bool:
        row = self.rows.get(entry[1])
        return row is not None and row.keep_until == entry[0]

    def _fades(self, entry: tuple[Ms, str]) -> bool:
        result = self.results.get(entry[1])
        return result is not None and result.until == entry[0]

    def _frees(self, entry: tuple[Ms, str]) -> bool:
        holder = self.uniq.get(entry[1])
        return holder is not None and holder.until == entry[0]

    def _lapses(self, entry: tuple[Ms, str, str]) -> bool:
        doc = self.docs.get(entry[1], {}).get(entry[2])
        return doc is not None and doc.expires_at == entry[0]

    def _dims(self, entry: tuple[Ms, int]) -> bool:
        return self.event(entry[1]) is not None

    # -- small questions --

    def event(self, number: int) -> TaskEvent | None:
        """An event by its number, if it is still kept."""
        at = number - 1 - self.forgotten
        return self.events[at] if 0 <= at < len(self.events) else None

    def tallies(self) -> dict[tuple[str, Status], int]:
        """How many rows of each queue and status there are, where there are any."""
        return {
            (queue, status): count
            for queue, held in self.counts.items()
            for status, count in held.items()
            if count
        }

    def visible(self, row: TaskRow, now: Ms) -> bool:
        """Whether reads show a row: within its stamp, or kept for a child."""
        return row.keep_until is None or row.keep_until > now or self.unfinished[row.id] > 0

    # -- taking in --

    def play(self, segment: Segment, rows: Mapping[str, TaskRow] | None = None) -> set[str]:
        """Take in what was decided; the topics to be signalled.

        `rows` are the inserted and changed rows as they come out, if they are at hand.
        """
        rows = self._made(segment) if rows is None else rows
        topics: set[str] = set()
        if rows or segment.gone:
            topics.add("tasks")
        for id, row in rows.items():
            self._put_row(self.rows.get(id), row, topics)
        for id in segment.gone:
            self._drop_row(id)
        for child, parents in segment.edges.items():
            for parent, edge in parents.items():
                self._put_edge(child, parent, edge)
        for kind, docs in segment.docs.items():
            topics.add(f"docs:{kind}")
            for key, doc in docs.items():
                self._put_doc(kind, key, doc)
        for key, holder in segment.uniq.items():
            if holder is None:
                self.uniq.pop(key, None)
                continue
            self.uniq[key] = holder
            if holder.until is not None:
                self.freeing.add((holder.until, key))
        for id, result in segment.res.items():
            if result is None:
                self.results.pop(id, None)
                continue
            self.results[id] = result
            if result.until is not None:
                self.fading.add((result.until, id))
        if segment.ev:
            topics.add("events")
            for event in segment.ev:
                self._put_event(event)
        if segment.unev:
            self._drop_events(segment.unev)
        for owner, until in segment.leases.items():
            if owner in self.running:  # who runs nothing has nothing to lose
                self.leases[owner] = until
        return topics

    def _made(self, segment: Segment) -> dict[str, TaskRow]:
        made = {row.id: row for row in segment.ins}
        for id, change in segment.set.items():
            made[id] = replace(made.get(id) or self.rows[id], **change)
        return made

    def _put_row(self, old: TaskRow | None, row: TaskRow, topics: set[str]) -> None:
        id, status = row.id, row.status
        self.rows[id] = row
        if old is None:
            self._put_id(id)
            was = None
        else:
            was = old.status
            if was is _RUNNING:
                if status is not _RUNNING:
                    self._drop_running(old)
                else:
                    self._put_ran(old, row, topics)
        if status is not was:
            self._put_status(was, row, topics)
        if status is _READY:
            if (
                old is None
                or was is not _READY
                or old.run_at != row.run_at
                or old.priority != row.priority
                or old.expires_at != row.expires_at
            ):
                self._line(row).ready.add((-row.priority, row.run_at, id))
        elif status is _SCHEDULED:
            if old is None or was is not _SCHEDULED or old.run_at != row.run_at:
                later, entry = self._line(row).later, (row.run_at, id)
                later.add(entry)
                if later.is_first(entry):  # due before what a sleeping worker knows of
                    topics.add(f"queue:{row.queue}")
        elif status is _WAITING and row.flags & Flag.STRANDED:
            self.stranded[id] = None
        if (
            row.expires_at is not None
            and status < _RUNNING
            and (old is None or old.expires_at != row.expires_at or old.status >= _RUNNING)
        ):
            self.expiring.add((row.expires_at, id))
        if row.keep_until is not None and (old is None or old.keep_until != row.keep_until):
            self.leaving.add((row.keep_until, id))

    def _put_status(self, was: Status | None, row: TaskRow, topics: set[str]) -> None:
        id, status = row.id, row.status
        counts = self.counts.get(row.queue)
        if counts is None:
            counts = self.counts[row.queue] = {}
        counts[status] = counts.get(status, 0) + 1
        if was is not None:
            counts[was] -= 1
        if was is _WAITING:
            self.stranded.pop(id, None)
        if status is _RUNNING:
            self.running.setdefault(row.owner or "", {})[id] = None
        elif status is _READY:
            topics.add(f"queue:{row.queue}")
        if status >= FINAL:
            if row.reply is not None:
                topics.add(f"inbox:{row.reply}")
            if was is not None and was < FINAL:
                self._put_finished(id, -1)
        elif was is not None and was >= FINAL:
            self._put_finished(id, 1)

    def _put_ran(self, old: TaskRow, row: TaskRow, topics: set[str]) -> None:
        """A row that was running goes on, or changes hands."""
        if row.claim != old.claim or row.owner != old.owner:
            self._drop_running(old)
            self.running.setdefault(row.owner or "", {})[row.id] = None
        elif row.cancel and not old.cancel:
            topics.add(f"owner:{row.owner}")

    def _drop_running(self, row: TaskRow) -> None:
        owner = row.owner or ""
        ids = self.running[owner]
        del ids[row.id]
        if not ids:
            del self.running[owner]
            self.leases.pop(owner, None)

    def _drop_row(self, id: str) -> None:
        row = self.rows.pop(id)
        self.counts[row.queue][row.status] -= 1
        if row.status is _RUNNING:
            self._drop_running(row)
        self.stranded.pop(id, None)
        if len(self.ids) > 64 + 2 * len(self.rows):
            self.ids = [known for known in self.ids if known in self.rows]
        for parent, edge in self.edges.pop(id, {}).items():
            _drop(self.children, parent, id)
            if edge.state is EdgeState.OPEN:
                _drop(self.open_children, parent, id)
            if row.status < FINAL:
                self._count_child(parent, -1)
        for child in self.children.pop(id, ()):  # all have ended, else it were kept
            _drop(self.edges, child, id)
        self.open_children.pop(id, None)
        self.releasing.pop(id, None)

    def _put_id(self, id: str) -> None:
        ids = self.ids
        if not ids or id > ids[-1]:
            ids.append(id)
        else:
            at = bisect_left(ids, id)
            if ids[at] != id:
                ids.insert(at, id)

    def _line(self, row: TaskRow) -> Line:
        line = self.lines.get((row.queue, row.lane))
        if line is None:
            line = self.lines[row.queue, row.lane] = Line(self.rows)
        return line

    # -- edges --

    def _put_edge(self, child: str, parent: str, edge: Edge) -> None:
        parents = self.edges.setdefault(child, {})
        known = parents.get(parent)
        parents[parent] = edge
        if known is None:
            self.children.setdefault(parent, {})[child] = None
            if self.rows[child].status < FINAL:
                self._count_child(parent, 1)
        if edge.state is EdgeState.OPEN:
            self.open_children.setdefault(parent, {})[child] = None
        elif known is not None and known.state is EdgeState.OPEN:
            _drop(self.open_children, parent, child)
        self._put_releasing(parent)

    def _put_releasing(self, parent: str) -> None:
        row = self.rows.get(parent)
        if row is not None and row.status >= FINAL and parent in self.open_children:
            self.releasing[parent] = None
        else:
            self.releasing.pop(parent, None)

    def _put_finished(self, id: str, step: int) -> None:
        for parent in self.edges.get(id, ()):
            self._count_child(parent, step)
        if id in self.open_children:
            self._put_releasing(id)

    def _count_child(self, parent: str, step: int) -> None:
        self.unfinished[parent] += step
        if not self.unfinished[parent]:
            del self.unfinished[parent]

    # -- docs and events --

    def _put_doc(self, kind: str, key: str, doc: Doc | None) -> None:
        docs = self.docs.setdefault(kind, {})
        keys = self.keys.setdefault(kind, [])
        if doc is None:
            if docs.pop(key, None) is not None:
                del keys[bisect_left(keys, key)]
            return
        if key not in docs:
            insort(keys, key)
        docs[key] = doc
        if doc.expires_at is not None:
            self.lapsing.add((doc.expires_at, kind, key))

    def _put_event(self, event: TaskEvent) -> None:
        self.events.append(event)
        number = self.forgotten + len(self.events)
        story = self.story.get(event.task)
        if story is None:
            story = self.story[event.task] = {}
        story[chapter(event)] = number
        if event.keep_until is not None:
            self.dimming.add((event.keep_until, number))

    def restore_events(self, events: Sequence[TaskEvent | None], forgotten: int) -> None:
        """Take in all events at once, each with the number it had."""
        self.forgotten = forgotten
        for event in events:
            if event is None:
                self.events.append(None)
            else:
                self._put_event(event)

    def _drop_events(self, numbers: list[int]) -> None:
        for number in numbers:
            event = self.event(number)
            if event is None:
                continue
            self.events[number - 1 - self.forgotten] = None
            story = self.story[event.task]
            del story[chapter(event)]
            if not story:
                del self.story[event.task]
        lead = next((at for at, event in enumerate(self.events) if event is not None), None)
        lead = len(self.events) if lead is None else lead
        if 2 * lead > len(self.events):
            del self.events[:lead]
            self.forgotten += lead


def chapter(event: TaskEvent) -> int:
    """An event's (epoch, n) as one number: maps of plain numbers cost the collector nothing."""
    return event.epoch << 64 | event.n


def _drop(index: dict[str, dict[str, V]], key: str, id: str) -> None:
    """Take an id out of an index of maps, and an empty map out of the index."""
    ids = index.get(key)
    if ids is not None:
        ids.pop(id, None)
        if not ids:
            del index[key]
