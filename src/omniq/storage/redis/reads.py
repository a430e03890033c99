"""Questions. Each is a script of its own; what needs an opened row is looked at here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from omniq.models.event import TaskEvent
from omniq.models.filters import EventFilter, EventPage, Page, QueueCount, TaskFilter
from omniq.models.row import Doc, Ms, ResultRow, TaskRow
from omniq.models.status import Status
from omniq.storage.redis.wire import encode, text

Ask = Callable[..., Awaitable[bytes]]
"""Calls a script by its name with arguments."""

PART: Final = 200
"""Rows and results one answer carries, so that no other client waits for long."""
SCAN: Final = 2000
"""Rows one call of a search looks at."""
CALLS: Final = 25
"""Calls a search makes before it answers with a short page: 50,000 rows."""
TEXT_CALLS: Final = 3
EVENTS: Final = 500

_rows: Final = msgspec.msgpack.Decoder(list[TaskRow]).decode
_found: Final = msgspec.msgpack.Decoder(tuple[str | None, bool, list[TaskRow]]).decode
_results: Final = msgspec.msgpack.Decoder(list[ResultRow]).decode
_docs: Final = msgspec.msgpack.Decoder(tuple[str | None, list[Doc]]).decode
_counts: Final = msgspec.msgpack.Decoder(tuple[list[tuple[str, int]], bool]).decode
_events: Final = msgspec.msgpack.Decoder(tuple[bool, list[tuple[int, bytes | None]]]).decode
_event: Final = msgspec.msgpack.Decoder(TaskEvent).decode

_HEAD, _TAGS, _FAULT = 6, 7, 8
"""Which of the fields lua/find.lua reads."""


async def get_tasks(ask: Ask, ids: Sequence[str]) -> list[TaskRow]:
    """The rows that exist, in the order asked for."""
    rows: list[TaskRow] = []
    for at in range(0, len(ids), PART):
        rows += _rows(await ask("tasks", list(ids[at : at + PART])))
    return rows


async def get_results(ask: Ask, ids: Sequence[str]) -> list[ResultRow]:
    """The results that exist, in the order asked for."""
    results: list[ResultRow] = []
    for at in range(0, len(ids), PART):
        results += _results(await ask("results", list(ids[at : at + PART])))
    return results


async def find_tasks(ask: Ask, filter: TaskFilter, limit: int, cursor: str | None) -> Page:
    """A page of rows by id."""
    told, folded = _told(filter), None if filter.text is None else filter.text.casefold()
    rows: list[TaskRow] = []
    for _ in range(CALLS if filter.text is None else TEXT_CALLS):
        more = await ask("find", limit - len(rows), SCAN, cursor, filter.oldest_first, told)
        last, full, found = _found(more)
        rows += [row for row in found if _matches(filter, folded, row)]
        cursor = last or (cursor if full else None)
        if cursor is None or (full and len(rows) >= limit):
            break
    return Page(rows, cursor)


def _told(filter: TaskFilter) -> dict[str, Any]:
    """What the script itself can see to, so that few rows come for nothing."""
    told: dict[str, Any] = {}
    if filter.statuses:
        told["statuses"] = {str(int(status)): True for status in filter.statuses}
        if len(filter.statuses) == 1:
            told["only"] = int(filter.statuses[0])
    if filter.queues:
        told["queues"] = dict.fromkeys(filter.queues, True)
    for name in ("owner", "parent", "group"):
        if (value := getattr(filter, name)) is not None:
            told[name] = value
    needles: list[tuple[int, list[Any]]] = []
    if filter.names:
        needles.append((_HEAD, [text(encode(name)) for name in filter.names]))
    if filter.tag is not None:
        needles.append((_TAGS, [text(encode(filter.tag))]))
    if filter.fault is not None:
        needles.append((_FAULT, [text(encode(filter.fault))]))
    told["needles"] = needles
    return told


def _matches(f: TaskFilter, folded: str | None, row: TaskRow) -> bool:
    return (
        (not f.names or row.name in f.names)
        and (f.tag is None or f.tag in row.tags)
        and (f.group is None or row.group == f.group)
        and (f.fault is None or row.fault == f.fault)
        and (f.created_from is None or row.created_at >= f.created_from)
        and (f.created_to is None or row.created_at < f.created_to)
        and (folded is None or folded in row.preview.casefold())
    )


async def count_tasks(ask: Ask) -> list[QueueCount]:
    """Rows by queue and status, counted as they changed."""
    counts: dict[str, int] = {}
    offset, more = 0, True
    while more:
        page, more = _counts(await ask("counts", offset))
        for name, count in page:
            counts[name] = counts.get(name, 0) + count
        offset += SCAN
    found = [
        QueueCount(queue, Status(int(status)), count)
        for name, count in counts.items()
        for queue, _, status in (name.rpartition(":"),)
        if count > 0
    ]
    return sorted(found, key=lambda each: (each.queue, each.status))


async def get_docs(
    ask: Ask, kind: str, prefix: str, after: str, due_before: Ms | None, limit: int
) -> list[Doc]:
    """Living docs of a kind by key."""
    docs: list[Doc] = []
    last: str | None = after
    while last is not None and len(docs) < limit:
        answer = await ask("docs", kind, prefix, last, due_before, limit - len(docs))
        last, found = _docs(answer)
        docs += found
    return docs


async def read_events(ask: Ask, filter: EventFilter, after: str | None, limit: int) -> EventPage:
    """Events in the order they were stored; the cursor is the number of the last one read."""
    events: list[TaskEvent] = []
    last, more = None if after is None else int(after), limit > 0
    while more:
        size = EVENTS if _asks(filter) else min(EVENTS, limit - len(events))
        more, page = _events(await ask("events", filter.task, last, filter.newest_first, size))
        for number, data in page:
            if data is not None and _tells(filter, event := _event(data)):
                if len(events) == limit:
                    more = False
                    break
                events.append(event)
            last = number
        if len(events) >= limit:
            break
    return EventPage(events, str(last or 0))


def _asks(filter: EventFilter) -> bool:
    return bool(filter.types or filter.queues or filter.names or filter.at_from is not None)


def _tells(filter: EventFilter, event: TaskEvent) -> bool:
    return (
        (not filter.types or event.type in filter.types)
        and (not filter.queues or event.queue in filter.queues)
        and (not filter.names or event.name in filter.names)
        and (filter.at_from is None or event.at >= filter.at_from)
    )
