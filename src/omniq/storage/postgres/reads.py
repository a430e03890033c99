"""Questions, each one statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from omniq.models.event import TaskEvent
from omniq.models.filters import EventFilter, EventPage, Page, QueueCount, TaskFilter
from omniq.models.row import Doc, Ms, ResultRow, TaskRow
from omniq.models.status import FINAL, EventType, Status
from omniq.storage.postgres.batch import storable
from omniq.storage.postgres.rows import columns, read

TEXT_SCAN: Final = 5000
"""Rows a search for text looks at before it answers with a short page."""
SCAN: Final = 100_000
"""Rows any other search looks at."""
GAP: Final = 60_000
"""Milliseconds a reader of events waits for a number that was given away but not yet seen."""
GAPS: Final = 100
"""Numbers below the newest among which it looks for such."""
_ANY: Final = (TaskFilter(), TaskFilter(oldest_first=True))

VISIBLE: Final = "(t.keep_until IS NULL OR t.keep_until > n.now OR {schema}.needed_v1(t.id))"
NOW: Final = "(SELECT {schema}.now_v1($1::bigint) AS now) AS n"

GET_TASKS: Final = (
    f"SELECT {columns(full=True)} FROM {NOW}, {{schema}}.task t WHERE t.id = ANY ($2) AND {VISIBLE}"
)
GET_RESULTS: Final = (
    f"SELECT r.id, r.epoch, r.value, r.until FROM {NOW}, {{schema}}.result r WHERE r.id = ANY ($2) "
    "AND (r.until IS NULL OR r.until > n.now OR {schema}.needed_v1(r.id))"
)
# One index each, so that a million ended rows are counted without a look at the table.
COUNT_TASKS: Final = (
    "SELECT queue, status, sum(count)::bigint FROM ("
    + " UNION ALL ".join(
        f"SELECT queue, status, count(*) AS count FROM {{schema}}.task WHERE {which} GROUP BY 1, 2"
        for which in ("status >= 60", "status = 50", "status = 40", "status = 30", "status < 30")
    )
    + "".join(
        f" UNION ALL SELECT t.queue, t.status, -count(*) FROM {NOW}, {{schema}}.task t "
        f"WHERE {which} AND t.keep_until <= n.now AND NOT {VISIBLE} GROUP BY 1, 2"
        for which in ("t.status >= 60", "t.status < 60 AND t.keep_until IS NOT NULL")
    )
    + ") AS counted GROUP BY 1, 2 ORDER BY 1, 2"
)
DOCS: Final = (
    f"SELECT d.kind, d.key, d.value, d.rev, d.due_at, d.expires_at FROM {NOW}, {{schema}}.doc d "
    "WHERE d.kind = $2 AND d.key >= $3 AND d.key > $4 AND starts_with(d.key, $3) "
    "AND ($5::text IS NULL OR d.key < $5) "
    "AND (d.expires_at IS NULL OR d.expires_at > n.now) "
    "AND ($6::bigint IS NULL OR d.due_at < $6) ORDER BY d.key LIMIT $7"
)


class Fetches(Protocol):
    """Who can be asked: connections of ours, or one that is somebody else's."""

    async def fetch(self, sql: str, *args: Any, again: bool = False) -> Sequence[Any]:
        """Rows of one statement."""


class Questions:
    """Asks one schema."""

    def __init__(self, database: Fetches, schema: str) -> None:
        self._database = database
        self._schema = schema

    async def ask(self, sql: str, *args: Any) -> Sequence[Any]:
        """Rows of a statement for this schema."""
        sql = sql.replace("{schema}", self._schema)
        return await self._database.fetch(sql, *map(_askable, args), again=True)

    async def tasks(self, ids: Sequence[str], now: Ms | None) -> list[TaskRow]:
        """The rows that exist, in the order asked for."""
        rows = {row.id: row for row in read(await self.ask(GET_TASKS, now, list(ids)))}
        return [rows[id] for id in ids if id in rows]

    async def results(self, ids: Sequence[str], now: Ms | None) -> list[ResultRow]:
        """The results that exist, in the order asked for."""
        found = await self.ask(GET_RESULTS, now, list(ids))
        results = {record[0]: ResultRow(*record) for record in found}
        return [results[id] for id in ids if id in results]

    async def count_tasks(self, now: Ms | None) -> list[QueueCount]:
        """Rows by queue and status."""
        found = await self.ask(COUNT_TASKS, now)
        return [QueueCount(queue, Status(status), n) for queue, status, n in found if n > 0]

    async def docs(
        self, kind: str, prefix: str, after: str, due_before: Ms | None, limit: int, now: Ms | None
    ) -> list[Doc]:
        """Live docs of a kind by key."""
        args = (kind, prefix, after, _behind(prefix), due_before, limit)
        return [Doc(*record) for record in await self.ask(DOCS, now, *args)]

    async def find_tasks(
        self, filter: TaskFilter, limit: int, after: str | None, now: Ms | None
    ) -> Page:
        """A page of rows by id."""
        where, values = _conditions(filter)
        values.insert(0, now)
        where.append(VISIBLE)
        way, back, direction = (">", "<", "ASC") if filter.oldest_first else ("<", ">", "DESC")
        if after is not None:
            values.append(after)
            where.append(f"t.id {way} ${len(values)}")
        edge = None
        if filter.text is not None or (filter not in _ANY and not _narrow(filter)):
            edge = await self._edge(filter, after, way, direction)
            if edge is not None:
                values.append(edge)
                where.append(f"t.id {back}= ${len(values)}")
        source = f"FROM {NOW}, {{schema}}.task t WHERE {' AND '.join(where)}"
        order = f"ORDER BY t.id {direction}"
        if filter.text is not None:
            ids = await self._with_text(f"{source} {order}", values, filter.text, limit + 1)
            source, values = f"FROM {NOW}, {{schema}}.task t WHERE t.id = ANY ($2)", [now, ids]
        values.append(limit + 1)
        sql = f"SELECT {columns(full=False)} {source} {order} LIMIT ${len(values)}"
        if filter.text is not None:  # $1 is not used there
            sql = sql.replace("t.id = ANY ($2)", "n.now IS NOT NULL AND t.id = ANY ($2)")
        rows = read(await self.ask(sql, *values))
        if len(rows) > limit:
            return Page(rows[:limit], rows[limit - 1].id if limit else after)
        return Page(rows, edge)

    async def _edge(
        self, filter: TaskFilter, after: str | None, way: str, direction: str
    ) -> str | None:
        """The last id a search looks at, if it has to stop before the end."""
        scan = SCAN if filter.text is None else TEXT_SCAN
        begin = "" if after is None else f"WHERE id {way} $2 "
        sql = f"SELECT id FROM {{schema}}.task {begin}ORDER BY id {direction} OFFSET $1 LIMIT 1"
        found = await self.ask(sql, scan - 1, *([] if after is None else [after]))
        return found[0][0] if found else None

    async def _with_text(self, source: str, values: list[Any], text: str, limit: int) -> list[str]:
        """Python compares, so that case is folded here as in every other place."""
        wanted = text.casefold()
        found = await self.ask(f"SELECT t.id, t.preview {source}", *values)
        return [id for id, preview in found if wanted in preview.casefold()][:limit]

    async def read_events(
        self, filter: EventFilter, after: str | None, limit: int, now: Ms, at: Ms | None
    ) -> EventPage:
        """Events by the number they were stored under."""
        last, gaps = _decode(after, now)
        where = ["(e.keep_until IS NULL OR e.keep_until > n.now)"]
        values: list[Any] = [at]
        several = {"type": filter.types, "queue": filter.queues, "name": filter.names}
        for column, choices in several.items():
            if choices:
                values.append([str(choice) for choice in choices])
                where.append(f"e.{column} = ANY (${len(values)})")
        for condition, value in (("e.task =", filter.task), ("e.at >=", filter.at_from)):
            if value is not None:
                values.append(value)
                where.append(f"{condition} ${len(values)}")
        values += [last, list(gaps), limit]
        begin, missing, count = (f"${len(values) - n}" for n in (2, 1, 0))
        if filter.newest_first:
            where.append(f"({begin}::bigint IS NULL OR e.n_stored < {begin})")
        else:
            where.append(
                f"({begin}::bigint IS NULL OR e.n_stored > {begin} OR e.n_stored = ANY ({missing}))"
            )
        direction = "DESC" if filter.newest_first else "ASC"
        # The gaps are of the same snapshot as the events: what comes in between is in neither.
        sql = f"""
            WITH found AS MATERIALIZED (
                SELECT e.* FROM {NOW}, {{schema}}.event e WHERE {" AND ".join(where)}
                ORDER BY e.n_stored {direction} LIMIT {count}
            ), newest AS (SELECT greatest(max(n_stored), {begin}::bigint) AS last FROM found)
            SELECT newest.last, (
                SELECT array_agg(g) FROM (
                    SELECT generate_series(greatest(last - {GAPS}, coalesce({begin}, 0)) + 1, last)
                    UNION SELECT unnest({missing}::bigint[])) AS s (g)
                WHERE NOT EXISTS (SELECT FROM {{schema}}.event e WHERE e.n_stored = g)
            ), n_stored, task, epoch, n, at, type, queue, name, worker, keep_until, data
            FROM newest LEFT JOIN found ON true ORDER BY n_stored {direction}
        """
        found = await self.ask(sql, *values)
        events = [_event(record) for record in found if record[2] is not None]
        if filter.newest_first:
            return EventPage(events, str(found[-1][2]) if events else after or "0")
        open_ = {} if filter.task else {n: gaps.get(n, now) for n in found[0][1] or ()}
        return EventPage(events, _encode(found[0][0] or 0, open_))


def _askable(value: Any) -> Any:
    """A parameter without what no text there has, and nobody could ask for otherwise."""
    if isinstance(value, list):
        return [_askable(each) for each in value]
    return storable(value) if isinstance(value, str) else value


def _event(record: Any) -> TaskEvent:
    _, _, _, task, epoch, n, at, kind, queue, name, worker, keep_until, data = record
    return TaskEvent(
        task=task,
        epoch=epoch,
        n=n,
        at=at,
        type=EventType(kind),
        queue=queue,
        name=name,
        worker=worker,
        keep_until=keep_until,
        data=msgspec.json.decode(data) if data else {},
    )


def _decode(cursor: str | None, now: Ms) -> tuple[int | None, dict[int, Ms]]:
    """A cursor: the number of the last event read, then numbers below that were not there yet.

    Numbers are given away before a transaction commits, so a lower one may show up later. Each
    stands with the time at which it was missed first, and is forgotten after a while: most are
    of transactions that were rolled back.
    """
    if cursor is None:
        return None, {}
    last, _, rest = cursor.partition(";")
    pairs = (each.split("@") for each in rest.split(",") if each)
    return int(last), {int(n): int(at) for n, at in pairs if now - int(at) < GAP}


def _encode(last: int, gaps: dict[int, Ms]) -> str:
    rest = ",".join(f"{n}@{at}" for n, at in sorted(gaps.items()))
    return f"{last};{rest}" if rest else str(last)


def _narrow(filter: TaskFilter) -> bool:
    """Whether an index of its own answers it."""
    if filter.group is not None or filter.parent is not None:
        return True
    return bool(filter.statuses) and min(filter.statuses) > FINAL


def _conditions(f: TaskFilter) -> tuple[list[str], list[Any]]:
    """Conditions with parameters from $2 on."""
    several: dict[str, tuple[Any, ...]] = {
        "t.queue": f.queues,
        "t.name": f.names,
        "t.status": tuple(map(int, f.statuses)),
    }
    single = {
        "t.owner = {}": f.owner,
        "t.grp = {}": f.group,
        "t.fault = {}": f.fault,
        "t.created_at >= {}": f.created_from,
        "t.created_at < {}": f.created_to,
        "{} = ANY (t.tags)": f.tag,
        "t.id IN (SELECT child FROM {{schema}}.edge WHERE parent = {})": f.parent,
    }
    where: list[str] = []
    values: list[Any] = []
    for column, choices in several.items():
        if choices:
            values.append(list(choices))
            where.append(f"{column} = ANY (${len(values) + 1})")
    for condition, value in single.items():
        if value is not None:
            values.append(value)
            where.append(condition.format(f"${len(values) + 1}"))
    if f.statuses and min(f.statuses) > FINAL:
        where.append("t.status >= 70")
    return where, values


def _behind(prefix: str) -> str | None:
    """The first text that sorts behind everything with this prefix."""
    if not prefix or prefix[-1] == "\U0010ffff":
        return None
    following = ord(prefix[-1]) + 1
    return prefix[:-1] + chr(0xE000 if 0xD800 <= following < 0xE000 else following)
