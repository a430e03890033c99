"""Several clients of one place at once: nothing twice, nothing lost, nobody blocked."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from omniq.models import Insert, PutDoc, Status, Unique
from omniq.models.filters import TaskFilter
from omniq.storage.base import AsyncStorage

from .conftest import MakeStorage
from .kit import (
    ALREADY,
    APPLIED,
    REFUSED,
    add_many,
    add_running,
    apply,
    cancel,
    claim,
    counts,
    fail,
    finish,
    get,
    insert,
    outcome,
    result,
    settle,
    status,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.clusters, pytest.mark.ways]

TASKS = 500
CLIENTS = 4


async def test_no_task_is_given_to_two_clients(make_storage: MakeStorage) -> None:
    clients = [await make_storage() for _ in range(CLIENTS)]
    await add_many(clients[0], [insert() for _ in range(TASKS)])

    async def empty(client: AsyncStorage, owner: str) -> list[str]:
        got: list[str] = []
        while batch := (await client.claim(claim(owner, limit=7))).tasks:
            got += [task.id for task in batch]
        return got

    shares = await asyncio.gather(*(empty(c, f"w{n}") for n, c in enumerate(clients)))
    given = Counter(id for share in shares for id in share)
    assert len(given) == TASKS
    assert set(given.values()) == {1}


async def test_every_task_ends_once_when_clients_settle_and_claim_together(
    make_storage: MakeStorage,
) -> None:
    clients = [await make_storage() for _ in range(CLIENTS)]
    await add_many(clients[0], [insert() for _ in range(TASKS)])

    async def work(client: AsyncStorage, owner: str) -> int:
        settled = 0
        batch = await client.claim(claim(owner, limit=10))
        while batch.tasks:
            units = [finish(task, task.id.encode()) for task in batch.tasks]
            receipt, batch = await client.exchange(units, claim(owner, limit=10))
            assert set(receipt.outcome) == {APPLIED}
            settled += len(units)
        return settled

    shares = await asyncio.gather(*(work(c, f"w{n}") for n, c in enumerate(clients)))
    assert sum(shares) == TASKS
    assert await counts(clients[0]) == {("q", Status.SUCCEEDED): TASKS}
    page = await clients[1].find_tasks(TaskFilter(), limit=TASKS)
    results = await clients[2].get_results([task.id for task in page.rows])
    assert [r.value for r in results] == [task.id.encode() for task in page.rows]


async def test_of_two_inserts_of_one_id_one_is_applied(make_storage: MakeStorage) -> None:
    clients = [await make_storage() for _ in range(CLIENTS)]
    for _ in range(15):
        unit = insert()
        answers = await asyncio.gather(*(outcome(client, unit) for client in clients))
        assert sorted(answers) == [APPLIED] + [ALREADY] * (CLIENTS - 1)


async def test_batches_of_the_same_rows_store_each_once(make_storage: MakeStorage) -> None:
    """Sent again by others, in any order and in parts, as after lost answers."""
    clients = [await make_storage() for _ in range(CLIENTS)]
    for seed in range(5):
        units = [insert() for _ in range(40)]

        async def put(client: AsyncStorage, order: random.Random, units: list[Insert]) -> list[str]:
            part = order.sample(units, 30)
            receipt = await client.apply(part)
            assert set(receipt.outcome) <= {APPLIED, ALREADY}
            pairs = zip(part, receipt.outcome, strict=True)
            return [unit.row.id for unit, applied in pairs if applied is APPLIED]

        shares = await asyncio.gather(
            *(put(c, random.Random(f"{seed}/{n}"), units) for n, c in enumerate(clients))
        )
        stored = Counter(id for share in shares for id in share)
        assert set(stored.values()) == {1}
        there = await clients[0].get_tasks([unit.row.id for unit in units])
        assert {row.id for row in there} == set(stored)


async def test_of_several_rivals_for_a_key_one_gets_it(make_storage: MakeStorage) -> None:
    clients = [await make_storage() for _ in range(CLIENTS)]
    for n in range(15):
        units = [insert(unique=Unique(f"k{n}")) for _ in clients]
        receipts = await asyncio.gather(
            *(client.apply([unit]) for client, unit in zip(clients, units, strict=True))
        )
        answers = [receipt.outcome[0] for receipt in receipts]
        assert sorted(answers) == [APPLIED] + [REFUSED] * (CLIENTS - 1)
        winner = units[answers.index(APPLIED)].row.id
        assert {h for receipt in receipts for h in receipt.taken.values()} == {winner}


async def test_of_several_writers_of_a_revision_one_wins(make_storage: MakeStorage) -> None:
    clients = [await make_storage() for _ in range(CLIENTS)]
    for rev in range(15):
        unit = PutDoc(kind="k", key="a", value=b"", expect=rev)
        answers = await asyncio.gather(*(outcome(client, unit) for client in clients))
        assert sorted(answers) == [APPLIED] + [REFUSED] * (CLIENTS - 1)
    [doc] = await clients[0].get_docs("k")
    assert doc.rev == 15


async def test_of_two_ends_of_one_run_one_counts(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    for _ in range(15):
        task = await add_running(one)
        answers = await asyncio.gather(
            outcome(one, finish(task, b"done")), outcome(other, fail(task))
        )
        assert sorted(answers) == [APPLIED, REFUSED]
        ended = await status(one, task.id)
        kept = await result(one, task.id)
        assert (ended is Status.SUCCEEDED) == (answers[0] is APPLIED)
        assert (kept is not None) == (answers[0] is APPLIED)


async def test_of_a_cancel_and_a_retry_the_cancel_is_never_lost(
    make_storage: MakeStorage,
) -> None:
    """Either the flag was first and the retry is refused, or the waiting row is cancelled."""
    one, other = await make_storage(), await make_storage()
    for _ in range(15):
        task = await add_running(one)
        back, asked = await asyncio.gather(
            outcome(one, settle(task, Status.READY)), outcome(other, cancel(task.id))
        )
        now = await get(one, task.id)
        if back is APPLIED:
            assert (asked, now.status) == (APPLIED, Status.CANCELLED)
        else:
            assert (now.status, now.cancel) == (Status.RUNNING, True)
            await apply(one, settle(task, Status.CANCELLED))


async def test_pitfall_20_a_client_that_only_waits_or_reads_blocks_no_settle(
    make_storage: MakeStorage,
) -> None:
    """What a port can say of it: ears and half-read pages are held open for as long as liked."""
    idle, busy = await make_storage(), await make_storage()
    await add_many(busy, [insert() for _ in range(50)])
    async with idle.listen(["inbox:never"]) as ear:
        waiting = asyncio.create_task(ear.wait(0.2))
        page = await idle.find_tasks(TaskFilter(), limit=5)
        async with asyncio.timeout(60):
            while batch := (await busy.claim(claim("w1"))).tasks:
                await apply(busy, *(finish(task) for task in batch))
        following = await idle.find_tasks(TaskFilter(), limit=100, cursor=page.cursor)
        await waiting
    assert len(page.rows) + len(following.rows) == 50
    assert await counts(idle) == {("q", Status.SUCCEEDED): 50}
