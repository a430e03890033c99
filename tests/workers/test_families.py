"""Parents with many children, and rows in odd states that come back to their worker."""

from __future__ import annotations

import asyncio

import pytest

from omniq import AsyncOmniQ, Task, task
from omniq.errors import Snooze, TaskCancelled, TaskFailed
from omniq.ids import uuid7
from omniq.models import Applied, Status
from omniq.models.filters import Claim, HeldTask
from omniq.models.row import TaskRow
from omniq.queue import policy
from omniq.workers.pump import Pump

pytestmark = pytest.mark.asyncio


async def ident(x: int) -> int:
    return x


async def test_more_children_than_one_commit_releases_do_not_wait_for_the_janitor(
    queue: AsyncOmniQ,
) -> None:
    parent = await queue.enqueue(ident, (0,), delay=0.2)
    children = [Task(func=ident, args=(n,), depends_on=parent) for n in range(1200)]
    handles = await queue.enqueue_many(children)
    async with asyncio.timeout(20):  # its next round is further off
        values = [result.value async for result in queue.results(handles)]
    assert sorted(values) == list(range(1200))


async def test_neither_do_those_of_a_parent_that_is_cancelled(queue: AsyncOmniQ) -> None:
    parent = await queue.enqueue(ident, (0,), delay=600)
    children = [Task(func=ident, args=(n,), depends_on=parent) for n in range(1200)]
    handles = await queue.enqueue_many(children)
    assert await parent.cancel()
    async with asyncio.timeout(20):
        ended = [result async for result in queue.results(handles)]
    assert {result.status.value for result in ended} == {"error"}


async def test_one_child_of_many_parents(queue: AsyncOmniQ) -> None:
    parents = await queue.enqueue_many([Task(func=ident, args=(n,)) for n in range(1200)])
    child = await queue.enqueue(ident, (7,), depends_on=[*parents, *parents])
    assert await child.result(20) == 7


async def test_a_snoozed_task_does_not_expire(queue: AsyncOmniQ) -> None:
    runs: list[int] = []

    @task(f"tests.{uuid7()}")
    async def later() -> str:
        runs.append(1)
        if len(runs) == 1:
            raise Snooze(0.3)
        return "awake"

    handle = await queue.enqueue(later, ttl=0.2)
    assert await handle.result(10) == "awake"


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
        await child.result(10)


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
        await child.result(10)
