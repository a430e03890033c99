"""Answers to questions about the tables; nothing here changes them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import msgspec
from msgspec.structs import replace

from omniq.models.event import TaskEvent
from omniq.models.filters import EventFilter, EventPage, Page, QueueCount, TaskFilter
from omniq.models.row import Doc, Ms, ResultRow, TaskRow
from omniq.storage.tables.state import State

TEXT_SCAN = 5000
"""Rows a search for text looks at before it answers with a short page."""


def get_tasks(state: State, ids: Sequence[str], now: Ms) -> list[TaskRow]:
    """The rows that exist, in the order asked for."""
    rows = state.rows
    return [rows[id] for id in ids if id in rows and state.visible(rows[id], now)]


def get_results(state: State, ids: Sequence[str], now: Ms) -> list[ResultRow]:
    """The results that exist, in the order asked for; those a child waits for stay."""
    results = state.results
    return [
        result
        for id in ids
        if (result := results.get(id)) is not None
        and (result.until is None or result.until > now or state.unfinished[id] > 0)
    ]


def find_tasks(
    state: State, filter: TaskFilter, *, limit: int, cursor: str | None, now: Ms
) -> Page:
    """A page of rows that match, without their cold fields but `preview`."""
    text = None if filter.text is None else filter.text.casefold()
    rows: list[TaskRow] = []
    last = cursor
    for seen, id in enumerate(_ids(state, filter, cursor), 1):
        row = state.rows.get(id)
        if row is not None and _matches(filter, text, row) and state.visible(row, now):
            if len(rows) == limit:
                return Page(rows=rows, cursor=last)
            rows.append(replace(row, body=b"", error=None))
        last = id
        if filter.text is not None and seen == TEXT_SCAN:
            return Page(rows=rows, cursor=last)
    return Page(rows=rows)


def _ids(state: State, filter: TaskFilter, cursor: str | None) -> Iterable[str]:
    ids = state.ids
    if filter.parent is not None:
        ids = sorted(state.children.get(filter.parent, ()))
    if filter.oldest_first:
        start = 0 if cursor is None else bisect_right(ids, cursor)
        return islice(ids, start, None)
    end = len(ids) if cursor is None else bisect_left(ids, cursor)
    return (ids[at] for at in range(end - 1, -1, -1))


def _matches(f: TaskFilter, text: str | None, row: TaskRow) -> bool:
    return (
        (not f.queues or row.queue in f.queues)
        and (not f.statuses or row.status in f.statuses)
        and (not f.names or row.name in f.names)
        and (f.tag is None or f.tag in row.tags)
        and (f.owner is None or row.owner == f.owner)
        and (f.group is None or row.group == f.group)
        and (f.fault is None or row.fault == f.fault)
        and (f.created_from is None or row.created_at >= f.created_from)
        and (f.created_to is None or row.created_at < f.created_to)
        and (text is None or text in row.preview.casefold())
    )


def count_tasks(state: State, now: Ms) -> list[QueueCount]:
    """Rows by queue and status, counted as they changed, not now."""
    counts = Counter(state.tallies())
    for until, id in state.leaving.walk():
        if until > now:
            break
        row = state.rows[id]
        if not state.visible(row, now):
            counts[row.queue, row.status] -= 1
    return [QueueCount(*key, count) for key, count in sorted(counts.items()) if count > 0]


def get_docs(
    state: State,
    kind: str,
    *,
    prefix: str,
    after: str,
    due_before: Ms | None,
    limit: int,
    now: Ms,
) -> list[Doc]:
    """Live docs of a kind, by key."""
    docs, keys = state.docs.get(kind, {}), state.keys.get(kind, [])
    found: list[Doc] = []
    start = max(bisect_left(keys, prefix), bisect_right(keys, after) if after else 0)
    for key in islice(keys, start, None):
        if len(found) >= limit or not key.startswith(prefix):
            break
        doc = docs[key]
        if doc.expires_at is not None and doc.expires_at <= now:
            continue
        if due_before is None or (doc.due_at is not None and doc.due_at < due_before):
            found.append(doc)
    return found


def read_events(
    state: State, filter: EventFilter, *, after: str | None, limit: int, now: Ms
) -> EventPage:
    """Events in the order they were stored; the cursor is the number of the last one read."""
    found: list[TaskEvent] = []
    last = after
    for number in _numbers(state, filter, after):
        if len(found) >= limit:
            return EventPage(events=found, cursor=last)
        event = state.event(number)
        last = str(number)
        if event is not None and _tells(filter, event, now):
            found.append(own(event))
    return EventPage(events=found, cursor=last or "0")


def _numbers(state: State, filter: EventFilter, after: str | None) -> Iterator[int]:
    told: Sequence[int] = range(state.forgotten + 1, state.forgotten + len(state.events) + 1)
    if filter.task is not None:
        told = sorted(state.story.get(filter.task, {}).values())
    if filter.newest_first:
        end = len(told) if after is None else bisect_left(told, int(after))
        return (told[at] for at in range(end - 1, -1, -1))
    start = 0 if after is None else bisect_right(told, int(after))
    return (told[at] for at in range(start, len(told)))


def _tells(filter: EventFilter, event: TaskEvent, now: Ms) -> bool:
    return (
        (event.keep_until is None or event.keep_until > now)
        and (not filter.types or event.type in filter.types)
        and (not filter.queues or event.queue in filter.queues)
        and (not filter.names or event.name in filter.names)
        and (filter.at_from is None or event.at >= filter.at_from)
    )


_ENCODER = msgspec.msgpack.Encoder()
_PLAIN = {str, int, float, bool, type(None)}
_DECODER = msgspec.msgpack.Decoder(TaskEvent)


def own(event: TaskEvent) -> TaskEvent:
    """The event with data of its own: what one caller does to it, no other sees."""
    data = event.data
    if not data:
        return event
    if _PLAIN.issuperset(map(type, data.values())):
        return replace(event, data={**data})
    return _DECODER.decode(_ENCODER.encode(event))
