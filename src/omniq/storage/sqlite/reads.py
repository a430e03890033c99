"""Questions. Each is answered in one step, on a connection that only reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.json import Decoder, decode

from omniq.models.event import TaskEvent
from omniq.models.filters import EventFilter, EventPage, Page, QueueCount, TaskFilter
from omniq.models.row import Doc, Ms, ResultRow, TaskRow
from omniq.models.status import FINAL, EventType, Status
from omniq.storage.sqlite.rows import PACKED_HOT, ids_json, read_tasks, unpack_tasks
from omniq.storage.sqlite.sweep import NEEDED

TEXT_SCAN = 5000
"""Rows a search for text looks at before it answers with a short page."""
SCAN = 100_000
"""Rows any other search looks at."""
_ANY = (TaskFilter(), TaskFilter(oldest_first=True))
_IDS = "(SELECT value FROM json_each(?))"
_VISIBLE = f"(keep_until IS NULL OR keep_until > ? OR {NEEDED.format(id='omniq_task.id')})"

GET_TASKS = f"FROM omniq_task WHERE id IN {_IDS} AND {_VISIBLE}"
GET_RESULTS = (
    "SELECT json_group_array(json_array(id, epoch, until, length(value))), "
    f"CAST(group_concat(value, '') AS BLOB) FROM omniq_result WHERE id IN {_IDS} "
    f"AND (until IS NULL OR until > ? OR {NEEDED.format(id='omniq_result.id')})"
)
# One index each, so that a million ended rows are counted without a look at the table.
COUNT_TASKS = (
    "SELECT json_group_array(json_array(queue, status, n)) FROM ("
    "SELECT queue, status, count(*) AS n FROM omniq_task INDEXED BY omniq_task_ended "
    f"WHERE status >= 60 AND {_VISIBLE} GROUP BY queue, status "
    "UNION ALL SELECT queue, 50, count(*) FROM omniq_task INDEXED BY omniq_task_running "
    "WHERE status = 50 GROUP BY queue "
    "UNION ALL SELECT queue, 40, count(*) FROM omniq_task INDEXED BY omniq_task_ready "
    "WHERE status = 40 GROUP BY queue "
    "UNION ALL SELECT queue, 30, count(*) FROM omniq_task INDEXED BY omniq_task_scheduled "
    "WHERE status = 30 GROUP BY queue "
    "UNION ALL SELECT queue, status, count(*) FROM omniq_task INDEXED BY omniq_task_waiting "
    "WHERE status < 30 GROUP BY queue, status "
    # Rows that are past their stamp before they ended are not shown.
    "UNION ALL SELECT queue, status, -count(*) FROM omniq_task INDEXED BY omniq_task_kept "
    f"WHERE status < 60 AND keep_until IS NOT NULL AND NOT {_VISIBLE} GROUP BY queue, status)"
)


def get_tasks(cursor: sqlite3.Cursor, ids: Sequence[str], now: Ms) -> list[TaskRow]:
    """The rows that exist, in the order asked for."""
    rows = {row.id: row for row in read_tasks(cursor, GET_TASKS, (ids_json(ids), now))}
    return [rows[id] for id in ids if id in rows]


def get_results(cursor: sqlite3.Cursor, ids: Sequence[str], now: Ms) -> list[ResultRow]:
    """The results that exist, in the order asked for."""
    try:
        text, values = cursor.execute(GET_RESULTS, (ids_json(ids), now)).fetchone()
    except sqlite3.DataError:  # together they are more than one SQLite value can hold
        if len(ids) == 1:
            raise
        return [result for id in ids for result in get_results(cursor, [id], now)]
    found, at = {}, 0
    for id_, epoch, until, size in decode(text):
        found[id_] = ResultRow(id_, epoch, values[at : at + size] if size else b"", until)
        at += size
    return [found[id] for id in ids if id in found]


def count_tasks(cursor: sqlite3.Cursor, now: Ms) -> list[QueueCount]:
    """Rows by queue and status."""
    (text,) = cursor.execute(COUNT_TASKS, (now, now)).fetchone()
    counts: dict[tuple[str, int], int] = {}
    for queue, status, n in decode(text):
        counts[queue, status] = counts.get((queue, status), 0) + n
    return [QueueCount(q, Status(s), n) for (q, s), n in sorted(counts.items()) if n > 0]


def find_tasks(
    cursor: sqlite3.Cursor, filter: TaskFilter, limit: int, after: str | None, now: Ms
) -> Page:
    """A page of rows by id."""
    where, values = _conditions(filter)
    where.append(_VISIBLE)
    values.append(now)
    way, back, direction = (">", "<", "ASC") if filter.oldest_first else ("<", ">", "DESC")
    if after is not None:
        where.append(f"omniq_task.id {way} ?")
        values.append(after)
    index = _index(filter)
    edge = None
    if filter.text is not None or (filter not in _ANY and not index):
        edge = _edge(cursor, filter, after, way, direction)
        if edge is not None:
            where.append(f"omniq_task.id {back}= ?")
            values.append(edge)
    order = f"FROM omniq_task{index} WHERE {' AND '.join(where)} ORDER BY omniq_task.id {direction}"
    if filter.text is not None:
        ids = _with_text(cursor, order, values, filter.text, limit + 1)
        order = f"FROM omniq_task WHERE id IN {_IDS} ORDER BY id {direction}"
        values = [ids_json(ids)]
    found = cursor.execute(
        f"SELECT {PACKED_HOT} FROM omniq_task WHERE pk IN (SELECT omniq_task.pk {order} LIMIT ?)",
        [*values, limit + 1],
    ).fetchone()
    rows = sorted(unpack_tasks(found), key=_id, reverse=not filter.oldest_first)
    if len(rows) > limit:
        return Page(rows[:limit], rows[limit - 1].id if limit else after)
    return Page(rows, edge)


def _edge(
    cursor: sqlite3.Cursor, filter: TaskFilter, after: str | None, way: str, direction: str
) -> str | None:
    """The last id a search looks at, if it has to stop before the end."""
    begin, values = ("", []) if after is None else (f"WHERE id {way} ? ", [after])
    scan = SCAN if filter.text is None else TEXT_SCAN
    sql = f"SELECT id FROM omniq_task {begin}ORDER BY id {direction} LIMIT 1 OFFSET ?"
    found = cursor.execute(sql, [*values, scan - 1]).fetchone()
    return found[0] if found else None


def _id(row: TaskRow) -> str:
    return row.id


def _index(filter: TaskFilter) -> str:
    if filter.group is not None:
        return " INDEXED BY omniq_task_group"
    if filter.statuses == (Status.RUNNING,):
        return " INDEXED BY omniq_task_running"
    if filter.statuses and min(filter.statuses) > FINAL:
        return " INDEXED BY omniq_task_not_well"
    return ""


def _conditions(f: TaskFilter) -> tuple[list[str], list[Any]]:
    where: list[str] = []
    values: list[Any] = []
    several = {"queue": f.queues, "name": f.names, "status": f.statuses}
    for column, choices in several.items():
        if choices:
            where.append(f"omniq_task.{column} IN ({','.join('?' * len(choices))})")
            values += choices
    if f.statuses == (Status.RUNNING,):
        where.append("omniq_task.status = 50")
    if f.statuses and min(f.statuses) > FINAL:
        where.append("omniq_task.status >= 70")
    single = {
        "omniq_task.owner = ?": f.owner,
        "omniq_task.grp = ?": f.group,
        "omniq_task.fault = ?": f.fault,
        "omniq_task.created_at >= ?": f.created_from,
        "omniq_task.created_at < ?": f.created_to,
        "EXISTS (SELECT 1 FROM json_each(omniq_task.tags) WHERE value = ?)": f.tag,
        "omniq_task.id IN (SELECT child FROM omniq_edge WHERE parent = ?)": f.parent,
    }
    for condition, value in single.items():
        if value is not None:
            where.append(condition)
            values.append(value)
    return where, values


def _with_text(
    cursor: sqlite3.Cursor, order: str, values: list[Any], text: str, limit: int
) -> list[str]:
    """Python compares, because SQLite folds the case of ASCII only."""
    (found,) = cursor.execute(
        f"SELECT json_group_array(json_array(id, preview)) FROM (SELECT id, preview {order})",
        values,
    ).fetchone()
    wanted = text.casefold()
    pairs = sorted(decode(found, type=list[tuple[str, str]]), reverse="DESC" in order)
    return [id for id, preview in pairs if wanted in preview.casefold()][:limit]


def get_docs(
    cursor: sqlite3.Cursor,
    kind: str,
    prefix: str,
    after: str,
    due_before: Ms | None,
    limit: int,
    now: Ms,
) -> list[Doc]:
    """Live docs of a kind by key."""
    where = ["kind = ?", "key >= ?", "key > ?", "(expires_at IS NULL OR expires_at > ?)"]
    values: list[Any] = [kind, prefix, after, now]
    if prefix:
        where.append("substr(key, 1, ?) = ?")
        values += (len(prefix), prefix)
        if prefix[-1] < "\U0010ffff":
            where.append("key < ?")
            values.append(_behind(prefix))
    if due_before is not None:
        where.append("due_at IS NOT NULL AND due_at < ?")
        values.append(due_before)
    sql = (
        "SELECT kind, key, value, rev, due_at, expires_at FROM omniq_doc "
        f"WHERE {' AND '.join(where)} ORDER BY key LIMIT ?"
    )
    return [Doc(*row) for row in cursor.execute(sql, [*values, limit]).fetchall()]


def _behind(prefix: str) -> str:
    """The first text that sorts behind everything with this prefix."""
    following = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if 0xD800 <= following < 0xE000 else following)


_EVENT = "pk, task, epoch, n, at, type, queue, name, worker, keep_until, json(data)"


class _Event(msgspec.Struct, array_like=True):
    pk: int
    task: str
    epoch: int
    n: int
    at: int
    type: EventType
    queue: str
    name: str
    worker: str
    keep_until: int | None
    data: dict[str, Any] | None


_events = Decoder(list[_Event]).decode
"""Made at import: msgspec is not safe where two threads meet a type at the same time."""


def read_events(
    cursor: sqlite3.Cursor, filter: EventFilter, after: str | None, limit: int, now: Ms
) -> EventPage:
    """Events by the number they were stored under, which is also the cursor."""
    where = ["(keep_until IS NULL OR keep_until > ?)"]
    values: list[Any] = [now]
    several = {"type": filter.types, "queue": filter.queues, "name": filter.names}
    for column, choices in several.items():
        if choices:
            where.append(f"{column} IN ({','.join('?' * len(choices))})")
            values += map(str, choices)
    single = {"task = ?": filter.task, "at >= ?": filter.at_from}
    if after is not None:
        single[f"pk {'<' if filter.newest_first else '>'} ?"] = int(after)
    for condition, value in single.items():
        if value is not None:
            where.append(condition)
            values.append(value)
    # Unary plus keeps one task's events on the index of its own; the others walk by number.
    order = "+pk" if filter.task is not None else "pk"
    (text,) = cursor.execute(
        f"SELECT json_group_array(json_array({_EVENT})) FROM (SELECT * FROM omniq_event "
        f"WHERE {' AND '.join(where)} ORDER BY {order} "
        f"{'DESC' if filter.newest_first else 'ASC'} LIMIT ?)",
        [*values, limit],
    ).fetchone()
    found = _events(text)
    found.sort(key=lambda e: e.pk, reverse=filter.newest_first)
    events = [
        TaskEvent(
            task=e.task,
            epoch=e.epoch,
            n=e.n,
            at=e.at,
            type=e.type,
            queue=e.queue,
            name=e.name,
            worker=e.worker,
            data=e.data or {},
            keep_until=e.keep_until,
        )
        for e in found
    ]
    return EventPage(events, str(found[-1].pk) if found else after or "0")
