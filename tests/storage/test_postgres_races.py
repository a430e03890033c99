"""What transactions that cross each other could lose: each shown in one order that did."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from omniq.clock import ManualClock
from omniq.models import Applied, Dep, Flag, Insert, Move, Patch, Status, Unit
from omniq.storage.postgres import AsyncPostgresStorage
from omniq.storage.postgres.batch import arguments
from omniq.storage.postgres.foreign import insert_call, insert_json
from omniq.storage.postgres.storage import APPLY

from ..conformance import kit
from .postgres_kit import Connection, behind, new, schema_of

pytestmark = pytest.mark.asyncio

PATIENCE = 60.0
"""Seconds until what never comes fails its test."""

Hand = Callable[[], Awaitable[Connection]]


@pytest.fixture
async def storage(postgres_url: str, clock: ManualClock) -> AsyncIterator[AsyncPostgresStorage]:
    async with new(postgres_url, clock=clock) as storage:
        yield storage


@pytest.fixture
async def hand(postgres_url: str) -> AsyncIterator[Hand]:
    """Gives connections of the test's own, to hold a transaction open."""
    async with AsyncExitStack() as stack:

        async def one() -> Connection:
            return await stack.enter_async_context(behind(postgres_url))

        yield one


async def apply(connection: Connection, storage: AsyncPostgresStorage, *units: Unit) -> None:
    """What the storage does, in the transaction that is open there."""
    await connection.fetchval(storage._sql(APPLY), *arguments(units, storage.clock.now()))


async def insert(connection: Connection, storage: AsyncPostgresStorage, *units: Insert) -> None:
    """What a transaction of somebody else does."""
    call = insert_call(storage.namespace).format("$1")
    now = storage.clock.now()
    await connection.fetchval(call, insert_json(units, namespace=storage.namespace, now=now))


async def until_blocked(connection: Connection, *, behind: Connection) -> None:
    """Until somebody waits for a lock that a connection holds, or waits for."""
    async with asyncio.timeout(PATIENCE):
        pid = behind.get_server_pid()
        blocked = "SELECT EXISTS (SELECT FROM pg_locks WHERE $1 = ANY (pg_blocking_pids(pid)))"
        while not await connection.fetchval(blocked, pid):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("what", ["row", "result"])
async def test_what_a_new_child_needs_is_not_swept_from_under_it(
    storage: AsyncPostgresStorage, hand: Hand, clock: ManualClock, what: str
) -> None:
    """The child comes in between the moment the sweep looks and the moment it locks."""
    looking, inserting, locking = await hand(), await hand(), await hand()
    running = await kit.add_running(storage)
    end = clock.now() + 1000
    kept: Patch = {"keep_until": end, "finished_at": clock.now()} if what == "row" else {}
    await kit.apply(storage, kit.finish(running, until=end, patch=kept))
    child = kit.insert(running.id)
    transaction = inserting.transaction()
    await transaction.start()
    await apply(inserting, storage, child)
    clock.advance(2)
    # Whoever reads edges waits from here on, with the snapshot it has.
    lock = locking.transaction()
    await lock.start()
    taking = asyncio.create_task(locking.execute(f"LOCK TABLE {schema_of(storage)}.edge"))
    await until_blocked(looking, behind=inserting)
    sweeping = asyncio.create_task(storage.sweep())
    await until_blocked(looking, behind=locking)
    await transaction.commit()
    await taking
    await lock.commit()
    await sweeping
    assert [row.id for row in await storage.get_tasks([running.id])] == [running.id]
    assert [each.value for each in await storage.get_results([running.id])] == [b"value"]


async def test_a_foreign_child_outlives_a_parent_that_had_succeeded(
    storage: AsyncPostgresStorage, hand: Hand, clock: ManualClock
) -> None:
    connection = await hand()
    early, late = await kit.add_running(storage), await kit.add_running(storage)
    kept: Patch = {"keep_until": clock.now() + 1000, "finished_at": clock.now()}
    await kit.apply(storage, kit.finish(early, patch=kept))
    child = kit.insert(early.id, late.id)
    async with connection.transaction():
        await insert(connection, storage, child)
        clock.advance(2)
        await storage.sweep()
        assert await storage.get_tasks([early.id]) == []
    assert await kit.take(storage) == []
    row = await kit.get(storage, child.row.id)
    assert (row.status, row.waiting, row.flags) == (Status.WAITING, 1, 0)
    _, batch = await storage.exchange([kit.finish(late)], kit.claim())
    assert kit.ids(batch.tasks) == [child.row.id]


async def test_a_foreign_child_of_a_parent_whose_end_nobody_knows_is_stranded(
    storage: AsyncPostgresStorage, hand: Hand, clock: ManualClock
) -> None:
    connection = await hand()
    parent = await kit.add_running(storage)
    child, either_way = kit.insert(parent.id), kit.insert(Dep(parent.id, need="end"))
    async with connection.transaction():
        await insert(connection, storage, child, either_way)
        kept: Patch = {"keep_until": clock.now() + 1000, "finished_at": clock.now()}
        await kit.apply(storage, kit.fail(parent, patch=kept))
        clock.advance(2)
        await storage.sweep()
    batch = await storage.claim(kit.claim(chores=5))
    assert kit.ids(batch.tasks) == [either_way.row.id]
    assert [(row.id, row.flags) for row in batch.chores] == [(child.row.id, Flag.STRANDED)]


async def test_an_old_snapshot_that_ends_a_parent_forgets_no_child(
    storage: AsyncPostgresStorage, hand: Hand
) -> None:
    """A transaction of somebody else may see less than there is: its children are told later."""
    connection = await hand()
    parent = await kit.add(storage, at=kit.START + kit.HOUR)
    async with connection.transaction(isolation="repeatable_read"):
        await connection.fetchval(f"SELECT count(*) FROM {schema_of(storage)}.edge")
        child = kit.insert(parent.id)
        assert await kit.outcome(storage, child) is Applied.APPLIED
        cancel = Move(id=parent.id, expect=kit.UNFINISHED, ask=True)
        await apply(connection, storage, cancel)
    assert (await kit.get(storage, parent.id)).status is Status.CANCELLED
    await storage.sweep()
    assert [(row.id, row.flags) for row in await kit.chores(storage)] == [
        (child.row.id, Flag.STRANDED)
    ]
    assert await storage.sweep() == 0


async def test_a_heartbeat_waits_for_no_row_that_somebody_holds(
    storage: AsyncPostgresStorage, hand: Hand, clock: ManualClock
) -> None:
    connection = await hand()
    held, free = await kit.add_running(storage), await kit.add_running(storage)
    async with connection.transaction():
        await connection.execute(
            f"SELECT FROM {schema_of(storage)}.task WHERE id = $1 FOR UPDATE", held.id
        )
        clock.advance(20)
        told = [kit.held(held, b"1"), kit.held(free, b"2")]
        async with asyncio.timeout(PATIENCE):
            answer = await storage.extend("w1", kit.LEASE, told)
        assert answer.lost == ()
    clock.advance(20)
    assert await kit.chores(storage, owner="w2") == [], "the lease was renewed"
    assert (await kit.get(storage, free.id)).progress == b"2"
    await storage.extend("w1", kit.LEASE, told)
    assert (await kit.get(storage, held.id)).progress == b"1"


async def test_what_runs_for_an_owner_nobody_knows_is_lost_some_day(
    storage: AsyncPostgresStorage, hand: Hand, clock: ManualClock
) -> None:
    """The claim was committed so late that its lease had been swept."""
    connection = await hand()
    running = await kit.add_running(storage)
    await connection.execute(f"DELETE FROM {schema_of(storage)}.owner")
    await storage.sweep()
    assert await kit.chores(storage, owner="w2") == [], "it may live"
    clock.advance(61)
    assert [(row.id, row.flags) for row in await kit.chores(storage, owner="w2")] == [
        (running.id, Flag.LOST)
    ]


async def test_a_foreign_transaction_may_wake_any_number_of_queues(
    storage: AsyncPostgresStorage, hand: Hand
) -> None:
    connection = await hand()
    queues = [f"{n:03}-{'q' * 90}" for n in range(120)]
    async with storage.listen([f"queue:{queue}" for queue in queues]) as ear:
        heard: set[str] = set()
        await insert(connection, storage, *(kit.insert(queue=queue) for queue in queues))
        async with asyncio.timeout(PATIENCE):
            while len(heard) < len(queues):
                heard |= await ear.wait()


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "taken back"])
async def test_new_rows_that_meet_their_first_copy_in_another_transaction(
    storage: AsyncPostgresStorage, postgres_url: str, hand: Hand, kept: bool
) -> None:
    """Behind a pooler with an old snapshot for a default: what is there cannot be seen at first."""
    other, watch, admin = await hand(), await hand(), await hand()
    units = [kit.insert() for _ in range(3)]
    role = await admin.fetchval("SELECT current_user")
    level = "default_transaction_isolation"
    await admin.execute(f"ALTER ROLE {role} SET {level} = 'repeatable read'")
    try:
        async with new(postgres_url, namespace=storage.namespace, pgbouncer=True) as again:
            transaction = other.transaction(isolation="read_committed")
            await transaction.start()
            await apply(other, storage, *units)
            sent = asyncio.create_task(again.apply(units))
            await until_blocked(watch, behind=other)
            await (transaction.commit() if kept else transaction.rollback())
            receipt = await asyncio.wait_for(sent, PATIENCE)
    finally:
        await admin.execute(f"ALTER ROLE {role} RESET {level}")
    assert receipt.outcome == [Applied.ALREADY if kept else Applied.APPLIED] * 3
    assert len(await storage.get_tasks([unit.row.id for unit in units])) == 3
