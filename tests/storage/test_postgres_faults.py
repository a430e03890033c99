"""Lost connections, restarts, lost notifications, old snapshots and foreign transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import uuid4

import asyncpg
import pytest

from omniq.clock import SYSTEM_CLOCK, ManualClock
from omniq.errors import StorageUnavailable
from omniq.models import Applied, Dep, Flag, Insert, PutEvents, Status, Unique
from omniq.models.filters import EventFilter, Slot, TaskFilter
from omniq.models.units import Receipt
from omniq.storage.base import AsyncStorage, Ear
from omniq.storage.postgres import AsyncPostgresStorage, hints
from omniq.storage.postgres.ears import payloads
from omniq.storage.postgres.foreign import insert_call, insert_json, insert_receipt

from ..conformance import kit
from ..servers.postgres import Postgres
from .postgres_kit import behind, cut, new, schema_of

pytestmark = pytest.mark.asyncio

PATIENCE = 60.0
"""Seconds until what never comes fails its test."""

Private = Callable[..., Postgres]


async def until_it_answers(storage: AsyncStorage) -> None:
    """A server that comes back is used again by the same object."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await storage.count_tasks()
                return
            except StorageUnavailable:
                await asyncio.sleep(0.02)


async def hear(ear: Ear, topic: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while topic not in await ear.wait():
            pass


def named(storage: AsyncPostgresStorage, url: str, **options: object) -> AsyncPostgresStorage:
    """Another client of the same place, whose connections can be told from all others."""
    name = f"{url}{'&' if '?' in url else '?'}application_name={options.pop('application')}"
    return AsyncPostgresStorage(name, namespace=storage.namespace, **options)  # type: ignore[arg-type]


# ---- connections


async def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    private_postgres: Private, clock: ManualClock
) -> None:
    server = private_postgres()
    async with new(server.url, clock=clock) as storage, storage.listen(["queue:q"]) as ear:
        before = await kit.add(storage)
        [running] = await kit.take(storage)
        server.kill()
        with pytest.raises(StorageUnavailable, match="PostgreSQL"):
            await storage.apply([kit.insert()])
        server.start()
        await until_it_answers(storage)
        assert await kit.get(storage, before.id) == running
        await kit.apply(storage, kit.finish(running))
        # The ears were opened anew, too: who is told by another client hears it.
        await hear(ear, "queue:q")
        await ear.wait(0)
        async with storage.twin() as other:
            await kit.add(other)
        await hear(ear, "queue:q")


async def test_a_cut_connection_is_replaced_without_a_word(
    postgres_url: str, clock: ManualClock
) -> None:
    async with new(postgres_url, clock=clock) as first, behind(postgres_url) as connection:
        name = f"cut-{uuid4().hex[:8]}"
        async with named(first, postgres_url, application=name, clock=clock) as storage:
            task = await kit.add(storage)
            for _ in range(3):
                assert await cut(connection, name) > 0
                assert await kit.get(storage, task.id) == task
                assert await kit.outcome(storage, Insert(task)) is Applied.ALREADY


async def test_a_cut_in_the_middle_of_a_claim_gives_the_rows_once(
    postgres_url: str, clock: ManualClock
) -> None:
    """The server is cut off while the claim waits for a lock, and the claim is sent again."""
    async with new(postgres_url, clock=clock) as first, behind(postgres_url) as connection:
        name = f"cut-{uuid4().hex[:8]}"
        task = await kit.add(first)
        async with named(first, postgres_url, application=name, clock=clock) as storage:
            lock = connection.transaction()
            await lock.start()
            await connection.execute(f"LOCK TABLE {schema_of(first)}.task")
            claiming = asyncio.create_task(storage.claim(kit.claim()))
            async with asyncio.timeout(PATIENCE), behind(postgres_url) as administrator:
                waits = (
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE application_name = $1 AND wait_event_type = 'Lock'"
                )
                while not await administrator.fetchval(waits, name):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await cut(administrator, name)
            await lock.rollback()
            batch = await claiming
            assert kit.ids(batch.tasks) == [task.id]
            assert batch.tasks[0].epoch == 1


async def test_a_notification_that_was_lost_is_made_up_for_by_the_next_connection(
    postgres_url: str, clock: ManualClock
) -> None:
    async with new(postgres_url, clock=clock) as first, behind(postgres_url) as connection:
        name = f"ear-{uuid4().hex[:8]}"
        listening = named(first, postgres_url, application=name, clock=clock)
        async with listening as storage, storage.listen(["queue:q"]) as ear:
            await hear(ear, "queue:q")  # it listens now, and says so
            await cut(connection, name)
            await hear(ear, "queue:q")


async def test_without_listening_work_is_found_by_looking(
    postgres_url: str, clock: ManualClock
) -> None:
    async with new(postgres_url, clock=clock, pgbouncer=True) as storage:
        assert not storage.capabilities.push
        async with storage.listen(["queue:q"]) as ear:
            async with behind(postgres_url) as connection:  # tells nobody
                call = insert_call(storage.namespace).format("$1")
                unit = kit.insert()
                json = insert_json([unit], namespace=storage.namespace, notify=False)
                await connection.fetchval(call, json)
            await hear(ear, "queue:q")
            assert await kit.status(storage, unit.row.id) is Status.SCHEDULED


async def test_a_long_list_of_topics_goes_in_several_payloads() -> None:
    topics = {f"queue:{'ü' * 50}{n}" for n in range(400)}
    sent = list(payloads("me", topics))
    assert all(len(text.encode()) < 8000 for text in sent)
    assert all(text.startswith("me\n") for text in sent)
    assert {topic for text in sent for topic in text.split("\n")[1:]} == topics


# ---- the server's own clock


async def test_the_server_decides_what_time_it_is(postgres_url: str) -> None:
    async with new(postgres_url) as storage:
        now = SYSTEM_CLOCK.now()
        soon = kit.insert(at=now, run_at=now + 3_600_000)
        due = kit.insert(at=now - 1000)
        await kit.apply(storage, soon, due)
        batch = await storage.claim(kit.claim())
        assert kit.ids(batch.tasks) == [due.row.id]
        assert batch.next_due == now + 3_600_000
        started = batch.tasks[0].started_at
        assert started is not None and abs(started - now) < 60_000


# ---- an old snapshot


async def test_a_held_snapshot_does_not_make_claims_slower_and_slower(
    postgres_url: str, clock: ManualClock
) -> None:
    tasks, batch = hints.PATIENCE + 1500, 250
    async with new(postgres_url, clock=clock) as storage, behind(postgres_url) as backup:
        for _ in range(tasks // 500 + 1):
            await kit.apply(storage, *(kit.insert() for _ in range(500)))
        snapshot = backup.transaction(isolation="repeatable_read", readonly=True)
        await snapshot.start()
        await backup.fetchval(f"SELECT count(*) FROM {schema_of(storage)}.task")
        seen: list[str] = []
        hinted = False
        while rows := await kit.take(storage, limit=batch):
            seen += kit.ids(rows)
            hinted = hinted or bool(storage._hints)
        await snapshot.rollback()
        assert hinted, "walked over everything claimed before, each time"
        assert len(seen) == len(set(seen)) == (tasks // 500 + 1) * 500


async def test_a_hint_is_dropped_when_it_comes_back_empty() -> None:
    slots = (Slot("q", "async", 10),)
    known = hints.Hints()
    row = kit.row(priority=3)
    assert not known.learn(slots, [None], [hints.PATIENCE], [row])
    assert known.ask(slots) == [None], "nothing was walked in vain"
    assert not known.learn(slots, [None], [hints.PATIENCE + 100], [row])
    [hint] = known.ask(slots)
    assert hint == hints.Key(-3, row.run_at, row.id)
    assert known.learn(slots, [hint], [0], []), "look again, from the start"
    assert known.ask(slots) == [None]


# ---- events that are committed late


async def test_an_event_committed_late_is_not_passed_over(
    postgres_url: str, clock: ManualClock
) -> None:
    async with new(postgres_url, clock=clock) as storage, behind(postgres_url) as connection:
        late = connection.transaction()
        await late.start()
        unit = kit.insert(events=(kit.event("late"),))
        call = insert_call(storage.namespace).format("$1")
        await connection.fetchval(call, insert_json([unit], namespace=storage.namespace))
        await storage.apply([PutEvents((kit.event("early"),))])
        page = await storage.read_events(EventFilter())
        assert [event.task for event in page.events] == ["early"]
        await late.commit()
        page = await storage.read_events(EventFilter(), after=page.cursor)
        assert [event.task for event in page.events] == ["late"]
        page = await storage.read_events(EventFilter(), after=page.cursor)
        assert page.events == []


# ---- transactions of somebody else


async def test_pitfall_20_an_open_foreign_transaction_blocks_no_settle(
    postgres_url: str, clock: ManualClock
) -> None:
    async with new(postgres_url, clock=clock) as storage, behind(postgres_url) as connection:
        well, ill = await kit.add_running(storage), await kit.add_running(storage)
        after_well, after_ill = kit.insert(well.id), kit.insert(Dep(ill.id))
        either_way = kit.insert(Dep(ill.id, need="end"))
        units = [after_well, after_ill, either_way]
        foreign = connection.transaction()
        await foreign.start()
        receipt = await sent(connection, storage, *units)
        assert receipt.outcome == [Applied.APPLIED] * 3
        async with asyncio.timeout(PATIENCE):
            await kit.apply(storage, kit.finish(well), kit.fail(ill))
        await foreign.commit()
        batch = await storage.claim(kit.claim(chores=5))
        assert set(kit.ids(batch.tasks)) == {after_well.row.id, either_way.row.id}
        [chore] = batch.chores
        assert (chore.id, chore.flags) == (after_ill.row.id, Flag.STRANDED)


async def test_a_foreign_child_waits_for_a_parent_that_goes_on(
    postgres_url: str, clock: ManualClock
) -> None:
    async with new(postgres_url, clock=clock) as storage, behind(postgres_url) as connection:
        parent = await kit.add_running(storage)
        child = kit.insert(parent.id)
        await sent(connection, storage, child)
        assert (await kit.get(storage, child.row.id)).waiting == 0
        assert await kit.take(storage) == []
        row = await kit.get(storage, child.row.id)
        assert (row.status, row.waiting) == (Status.WAITING, 1)
        _, batch = await storage.exchange([kit.finish(parent)], kit.claim())
        assert kit.ids(batch.tasks) == [child.row.id]


async def test_what_a_foreign_transaction_rolls_back_never_was(
    postgres_url: str, clock: ManualClock
) -> None:
    async with new(postgres_url, clock=clock) as storage, behind(postgres_url) as connection:
        foreign = connection.transaction()
        await foreign.start()
        unit = kit.insert(unique=Unique("key"))
        await sent(connection, storage, unit)
        await foreign.rollback()
        assert await kit.find_ids(storage) == []
        await kit.add(storage, unique=Unique("key"))


async def test_a_foreign_insert_is_told_what_stands_in_its_way(
    postgres_url: str, clock: ManualClock
) -> None:
    async with new(postgres_url, clock=clock) as storage, behind(postgres_url) as connection:
        holder = await kit.add(storage, unique=Unique("key"))
        units = [
            Insert(holder),
            kit.insert(unique=Unique("key")),
            kit.insert("nobody"),
            kit.insert(),
        ]
        receipt = await sent(connection, storage, *units)
        assert receipt.outcome == [kit.ALREADY, kit.REFUSED, kit.REFUSED, kit.APPLIED]
        assert receipt.taken == {1: holder.id}
        assert receipt.missing == {2: ("nobody",)}
        assert receipt.woken == {"q"}


async def sent(
    connection: asyncpg.Connection, storage: AsyncPostgresStorage, *units: Insert
) -> Receipt:
    """Insert in a transaction of the test's own."""
    call = insert_call(storage.namespace).format("$1")
    now = storage.clock.now()
    json = insert_json(units, namespace=storage.namespace, now=now)
    return insert_receipt(await connection.fetchval(call, json))


# ---- texts no packed batch can hold


async def test_odd_texts_are_kept_as_they_are(postgres_url: str, clock: ManualClock) -> None:
    async with new(postgres_url, clock=clock) as storage:
        odd = ["a\x1fb", "\x1e", "ü\n\t\\\"'{},", "", "🙂"]
        tasks = [kit.insert(name=text or "-", reply=text or None, preview=text) for text in odd]
        await kit.apply(storage, *tasks)
        rows = await storage.get_tasks([unit.row.id for unit in tasks])
        assert [row.reply for row in rows] == [text or None for text in odd]
        nul = kit.insert(preview="a\0b", events=(kit.event("x", data={"t": "\0"}),))
        await kit.apply(storage, nul)
        assert (await kit.get(storage, nul.row.id)).preview == "a\N{REPLACEMENT CHARACTER}b"


async def test_a_text_that_cannot_be_kept_harms_no_other_task(
    postgres_url: str, clock: ManualClock
) -> None:
    async with new(postgres_url, clock=clock) as storage:
        tagged, other = kit.insert(tags=("a\0b",)), kit.insert(preview="\ud800")
        named = kit.insert(reply="x\0")
        for units in (
            [tagged, other],
            [named],
            [kit.insert(tags=("\0",)), kit.insert(tags=("c",))],
        ):
            assert set((await storage.apply(units)).outcome) == {Applied.APPLIED}
        assert await kit.find_ids(storage, TaskFilter(tag="a\0b")) == [tagged.row.id]
        assert (await kit.get(storage, other.row.id)).preview == "?"


async def test_a_question_with_a_text_nobody_can_have_finds_nothing(
    postgres_url: str, clock: ManualClock
) -> None:
    async with new(postgres_url, clock=clock) as storage:
        await kit.add(storage)
        for odd in ("a\0", "\ud800"):
            assert await storage.get_tasks([odd]) == []
            assert await storage.get_results([odd]) == []
            assert await storage.get_docs(odd, prefix=odd) == []
            assert await kit.find_ids(storage, TaskFilter(queues=(odd,))) == []
            assert await kit.find_ids(storage, TaskFilter(text=odd)) == []
            assert (await storage.read_events(EventFilter(task=odd))).events == []
