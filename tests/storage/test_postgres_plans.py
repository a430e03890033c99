"""No statement of the way of a task walks a table: its cost does not grow with the backlog.

The statements live in functions, so the server is asked how many rows and index entries they
looked at, which is the same on a fast and a slow machine.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files

import asyncpg
import pytest
import pytest_asyncio

from omniq.clock import ManualClock
from omniq.models import Insert, Move, Status, TaskRow
from omniq.models.filters import TaskFilter
from omniq.models.row import Unique
from omniq.storage import postgres
from omniq.storage.postgres import AsyncPostgresStorage
from omniq.storage.postgres.batch import _is_end, arguments
from omniq.storage.postgres.handed import batch_of, claim_arguments
from omniq.storage.postgres.schema import SETTINGS, TABLES
from omniq.storage.postgres.storage import APPLY, CLAIM, EXCHANGE, EXTEND, SWEEP

from ..conformance import kit
from .postgres_kit import behind, new, schema_of

pytestmark = pytest.mark.asyncio

Connection = asyncpg.Connection
FEW, MANY = 200, 2000
BATCH = 50
LOOKED_AT = """
SELECT coalesce(sum(pg_stat_get_xact_tuples_returned(oid)), 0)::bigint FROM pg_class
WHERE relnamespace = $1::text::regnamespace
"""


class Backlog:
    """A place that can be filled, and asked what a call costs it."""

    def __init__(self, storage: AsyncPostgresStorage, connection: Connection) -> None:
        self.storage, self.connection = storage, connection
        self.now = storage.clock.now()

    async def fill(self, rows: int) -> None:
        """That many ready, scheduled, running (by others) and ended rows each."""
        await self.connection.execute(f"""
            INSERT INTO {schema_of(self.storage)}.task
                (id, queue, lane, name, status, run_at, created_at, keep_until, owner, claim, body)
            SELECT status || '-' || lpad(n::text, 8, '0') || $2::text, 'q', 'async', 'app:work',
                status, CASE WHEN status = 30 THEN $1::bigint + 86400000 ELSE $1 END, $1,
                CASE WHEN status >= 60 THEN $1 + 86400000 END,
                CASE WHEN status = 50 THEN 'w' || n % 10 END,
                CASE WHEN status = 50 THEN 'request-of-others' END, 'body'
            FROM generate_series(1, $3) AS n, unnest(ARRAY[30, 40, 50, 60, 70]) AS status
            """.replace("$1", str(self.now)).replace("$2::text", "''").replace("$3", str(rows)))

        await self.connection.execute(f"""
            INSERT INTO {schema_of(self.storage)}.edge (parent, child, need, open)
            SELECT 'parent-' || n, 'child-' || n, true, true FROM generate_series(1, {rows}) AS n;
            INSERT INTO {schema_of(self.storage)}.uniq (key, task)
            SELECT 'key-of-others-' || n, '40-' || n FROM generate_series(1, {rows}) AS n;
            """)

    async def empty(self) -> None:
        for table in TABLES:
            await self.connection.execute(f"DELETE FROM {schema_of(self.storage)}.{table}")

    async def unseen(self) -> None:
        """Until nobody, the server's own workers included, has a snapshot of earlier."""
        others = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()"
        )
        async with asyncio.timeout(60):
            while await self.connection.fetchval(others):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def cost(self, sql: str, *args: object) -> tuple[int, list[asyncpg.Record]]:
        """How many rows and entries a statement looks at, and its answer."""
        async with self.connection.transaction():
            text = sql.replace("{schema}", schema_of(self.storage))
            before = await self.connection.fetchval(LOOKED_AT, schema_of(self.storage))
            found = await self.connection.fetch(text, *args)
            after = await self.connection.fetchval(LOOKED_AT, schema_of(self.storage))
        return after - before, found

    async def claim(self, units: list[Move] | None = None) -> tuple[int, list[TaskRow]]:
        asked = kit.claim(limit=BATCH, chores=10)
        args = claim_arguments(asked, [None], self.now)
        if units:
            args = [*arguments(units, self.now), *args]
        cost, found = await self.cost(EXCHANGE if units else CLAIM, *args)
        batch, _ = batch_of(asked, found)
        assert len(batch.tasks) == BATCH
        return cost, batch.tasks


@pytest_asyncio.fixture
async def backlog(postgres_url: str, clock: ManualClock) -> AsyncIterator[Backlog]:
    async with new(postgres_url, clock=clock) as storage, behind(postgres_url) as connection:
        # The plans are made here, while the tables are empty: they must be good for ever.
        first = kit.insert(queue="first")
        await storage.apply([first])
        [row] = await kit.take(storage, queues=("first",))
        await storage.exchange([kit.finish(row)], kit.claim(chores=5))
        yield Backlog(storage, connection)


Call = Callable[[Backlog], Awaitable[int]]


async def claim(backlog: Backlog) -> int:
    return (await backlog.claim())[0]


async def exchange(backlog: Backlog) -> int:
    _, rows = await backlog.claim()
    return (await backlog.claim([kit.finish(row) for row in rows]))[0]


async def exchange_of_retries(backlog: Backlog) -> int:
    _, rows = await backlog.claim()
    return (await backlog.claim([kit.retry(row, backlog.now + 5000) for row in rows]))[0]


async def ends(backlog: Backlog) -> int:
    """As most tasks end: many in one statement, their results with them."""
    _, rows = await backlog.claim()
    how = {"finished_at": backlog.now, "keep_until": backlog.now + 60_000}
    units = [kit.finish(row, patch=how) for row in rows]
    assert all(map(_is_end, units))
    return (await backlog.claim(units))[0]


async def ends_of_keys(backlog: Backlog) -> int:
    """Half of the keys are given back at the claim, half at the end."""
    units: list[Insert] = [
        kit.insert(queue="keyed", unique=Unique(f"key-{n}", free="start" if n % 2 else "end"))
        for n in range(BATCH)
    ]
    await backlog.storage.apply(units)
    asked = kit.claim(queues=("keyed",), limit=BATCH)
    cost, found = await backlog.cost(CLAIM, *claim_arguments(asked, [None], backlog.now))
    batch, _ = batch_of(asked, found)
    assert len(batch.tasks) == BATCH
    ended = [kit.finish(row) for row in batch.tasks]
    return cost + (await backlog.cost(APPLY, *arguments(ended, backlog.now)))[0]


async def promotion(backlog: Backlog) -> int:
    units: list[Insert] = [
        kit.insert(queue="soon", run_at=backlog.now + 1000) for _ in range(BATCH)
    ]
    await backlog.storage.apply(units)
    asked = kit.claim(queues=("soon",), limit=BATCH)
    args = claim_arguments(asked, [None], backlog.now + 1000)
    cost, found = await backlog.cost(CLAIM, *args)
    batch, _ = batch_of(asked, found)
    assert len(batch.tasks) == BATCH
    return cost


async def insert(backlog: Backlog) -> int:
    units: list[Insert] = [kit.insert() for _ in range(BATCH)]
    return (await backlog.cost(APPLY, *arguments(units, backlog.now)))[0]


async def insert_of_children(backlog: Backlog) -> int:
    [parent] = await kit.take(backlog.storage, limit=1)
    units: list[Insert] = [kit.insert(parent.id) for _ in range(BATCH)]
    cost, _ = await backlog.cost(APPLY, *arguments(units, backlog.now))
    ended, _ = await backlog.cost(APPLY, *arguments([kit.finish(parent)], backlog.now))
    return cost + ended


async def heartbeat(backlog: Backlog) -> int:
    _, rows = await backlog.claim()
    fields = [list(f) for f in zip(*((r.id, r.epoch, r.claim, b"1") for r in rows), strict=True)]
    return (await backlog.cost(EXTEND, backlog.now, "w1x", 30_000, *fields))[0]


async def sweep(backlog: Backlog) -> int:
    return (await backlog.cost(SWEEP, backlog.now + 86400001, BATCH))[0]


each_call = pytest.mark.parametrize(
    "call",
    [
        claim,
        exchange,
        exchange_of_retries,
        ends,
        ends_of_keys,
        promotion,
        insert,
        insert_of_children,
        heartbeat,
        sweep,
    ],
    ids=lambda call: call.__name__,
)


@each_call
async def test_the_cost_does_not_grow_with_what_is_kept(backlog: Backlog, call: Call) -> None:
    await backlog.fill(FEW)
    few = await call(backlog)
    await backlog.empty()
    await backlog.unseen()  # or VACUUM would leave the rows for them, to be walked over
    await backlog.connection.execute(f"VACUUM {schema_of(backlog.storage)}.task")
    await backlog.fill(MANY)
    many = await call(backlog)
    assert many <= 1.2 * few + 5, (few, many)


@each_call
async def test_nor_where_the_server_takes_the_tables_for_empty(
    backlog: Backlog, postgres_url: str, call: Call
) -> None:
    """As after a VACUUM that found no row and kept the pages, until the next ANALYZE."""
    schema = schema_of(backlog.storage)
    await backlog.fill(FEW)
    few = await call(backlog)
    for table in TABLES:
        await backlog.connection.execute(
            f"TRUNCATE {schema}.{table}; "
            f"ALTER TABLE {schema}.{table} SET (autovacuum_enabled = off)"
        )
    await backlog.fill(MANY)
    await backlog.connection.execute(
        "UPDATE pg_class SET reltuples = 0, relpages = greatest(pg_relation_size(oid) / 8192, 1) "
        "WHERE relnamespace = $1::text::regnamespace",
        schema,
    )
    async with behind(postgres_url) as backlog.connection:
        many = await call(backlog)
    assert many <= 1.2 * few + 5, (few, many)


async def test_a_claim_reads_what_it_takes_in_the_order_of_the_index(backlog: Backlog) -> None:
    text = files(postgres).joinpath("functions", "claim_v1.sql").read_text()
    chosen = re.findall(
        r"SELECT t\.id FROM \{schema\}\.task t\s+WHERE t\.status = 40.*?LOCKED", text, re.DOTALL
    )
    assert len(chosen) == 2, "with and without a hint"
    for statement in chosen:
        for name, value in {
            "{schema}": schema_of(backlog.storage),
            "s_queue[n]": "'q'",
            "s_lane[n]": "'async'",
            "s_hint_rank[n]": "0",
            "s_hint_run[n]": "0",
            "s_hint_id[n]": "'x'",
            "v_now": str(backlog.now),
            "v_room": "100",
        }.items():
            statement = statement.replace(name, value)
        plan = await explain(backlog.connection, statement)
        assert "Index Scan using task_ready" in plan, plan
        assert "Sort" not in plan and "Seq Scan" not in plan, plan


async def test_pages_and_counts_are_read_from_an_index(backlog: Backlog) -> None:
    await backlog.fill(MANY)
    await backlog.connection.execute(f"VACUUM ANALYZE {schema_of(backlog.storage)}.task")
    storage = backlog.storage
    assert len((await storage.find_tasks(TaskFilter(), limit=10)).rows) == 10
    counted = {count.status: count.count for count in await storage.count_tasks()}
    assert counted[Status.READY] == MANY
    schema = schema_of(storage)
    page = f"SELECT id FROM {schema}.task WHERE id < '60' ORDER BY id DESC LIMIT 10"
    dead = f"SELECT id FROM {schema}.task WHERE status >= 70 ORDER BY id DESC LIMIT 10"
    for sql, index in ((page, "task_pkey"), (dead, "task_not_well")):
        plan = await explain(backlog.connection, sql, settings=False)
        assert index in plan and "Sort" not in plan, plan


async def explain(connection: Connection, statement: str, *, settings: bool = True) -> str:
    async with connection.transaction():
        for setting in re.findall(r"SET (\w+) = (\w+)", SETTINGS if settings else ""):
            await connection.execute(f"SET LOCAL {setting[0]} = {setting[1]}")
        rows = await connection.fetch(f"EXPLAIN {statement}")
    return "\n".join(row[0] for row in rows)
