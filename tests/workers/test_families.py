"""Parents with many children, and rows in odd states that come back to their worker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from omniq import AsyncOmniQ, Task, task
from omniq.clock import ManualClock
from omniq.errors import Snooze, TaskCancelled, TaskFailed
from omniq.ids import uuid7
from omniq.models import Applied, Status
from omniq.models.filters import Claim, HeldTask
from omniq.models.row import TaskRow
from omniq.queue import policy
from omniq.workers import pump as pumps
from omniq.workers.pump import Pump

pytestmark = pytest.mark.asyncio


async def ident(x: int) -> int:
    return x


@pytest.fixture
async def rare(queue: AsyncOmniQ) -> AsyncOmniQ:
    """The queue, with a janitor that comes by itself once in an hour."""
    assert queue._session is not None
    janitor = queue._session.janitor
    await janitor.stop()
    janitor._interval = 3600.0
    janitor.start()
    return queue


async def test_more_children_than_one_commit_releases_do_not_wait_for_the_janitor(
    rare: AsyncOmniQ,
) -> None:
    queue = rare
    parent = await queue.enqueue(ident, (0,), delay=600)
    children = [Task(func=ident, args=(n,), depends_on=parent) for n in range(1200)]
    handles = await queue.enqueue_many(children)
    assert await parent.retry()  # run now
    async with asyncio.timeout(60):
        values = [result.value async for result in queue.results(handles)]
    assert sorted(values) == list(range(1200))


async def test_neither_do_those_of_a_parent_that_is_cancelled(
    rare: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pumps, "CHORES_EVERY", 0.01)  # each look ends a hundred of them
    queue = rare
    parent = await queue.enqueue(ident, (0,), delay=600)
    children = [Task(func=ident, args=(n,), depends_on=parent) for n in range(1200)]
    handles = await queue.enqueue_many(children)
    assert await parent.cancel()
    async with asyncio.timeout(60):
        ended = [result async for result in queue.results(handles)]
    assert {result.status.value for result in ended} == {"error"}


async def test_one_child_of_many_parents(queue: AsyncOmniQ) -> None:
    parents = await queue.enqueue_many([Task(func=ident, args=(n,)) for n in range(1200)])
    child = await queue.enqueue(ident, (7,), depends_on=[*parents, *parents])
    assert await child.result(60) == 7


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_snoozed_task_does_not_expire(
    kind: str, tmp_path: Path, clock: ManualClock
) -> None:
    runs: list[int] = []

    @task(f"tests.{uuid7()}")
    async def later() -> str:
        runs.append(1)
        if len(runs) == 1:
            raise Snooze(30)
        return "awake"

    async with AsyncOmniQ(storage_type=kind, base_dir=tmp_path, lease=60, clock=clock) as queue:
        handle = await queue.enqueue(later, ttl=20)
        async with asyncio.timeout(60):
            while True:
                if (await handle.info()).row.status is Status.SCHEDULED:
                    break
                await asyncio.sleep(0.001)
        clock.advance(31)
        assert await handle.result(60) == "awake"


def pump_of(queue: AsyncOmniQ) -> Pump:
    assert queue._worker is not None and queue._worker._pool is not None
    pump = queue._worker._pool._pump
    assert pump is not None
    return pump


async def handed_out(queue: AsyncOmniQ, id: str) -> TaskRow:
    """A chore claimed in the worker's name, as if the answer had got lost on its way."""
    assert queue._worker is not None
    claim = Claim(
        owner=queue._worker.id, request=uuid7(), slots=(), limit=0, lease=60_000, chores=9
    )
    batch = await queue.stores.tasks.claim(claim)
    (row,) = [row for row in batch.chores if row.id == id]
    return row


async def test_a_stranded_child_that_is_given_back_does_not_run(queue: AsyncOmniQ) -> None:
    queue.embedded = False
    await queue.start_worker()
    pump = pump_of(queue)
    pump.stopping = True  # it claims no more, so that this test can
    pump.wake()
    parent = await queue.enqueue(ident, (1,), delay=600)
    child = await queue.enqueue(ident, (1,), depends_on=parent)
    await parent.cancel()
    row = await handed_out(queue, child.id)
    assert row.status is Status.RUNNING
    await pump.give_back([HeldTask(row.id, row.epoch, row.claim or "")])
    await pump.flush()
    with pytest.raises(TaskFailed, match="depends on"):
        await child.result(60)


async def test_a_lost_claim_that_was_cancelled_meanwhile_ends_as_cancelled(
    queue: AsyncOmniQ,
) -> None:
    queue.embedded = False
    await queue.start_worker()
    pump = pump_of(queue)
    pump.stopping = True
    pump.wake()
    parent = await queue.enqueue(ident, (1,), delay=600)
    child = await queue.enqueue(ident, (1,), depends_on=parent)
    await parent.cancel()
    row = await handed_out(queue, child.id)
    rules, now = queue.engine.rules, queue.engine.clock.now()
    ask = policy.cancel(child.id, now, rules)
    assert (await queue.stores.apply([ask])).outcome == [Applied.CANCEL_ASKED]
    # A move back in line is refused for the flag that stands; the row must end all the same.
    back = policy._give_back(row, now, rules, delay=0)
    pump._ended.append((row, back))
    await pump.flush()
    with pytest.raises(TaskCancelled):
        await child.result(60)
