"""Claiming ahead: short tasks wait for a slot in the worker, long ones in the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from omniq import AsyncOmniQ, Task, task
from omniq.errors import TaskCancelled
from omniq.handle import AsyncTaskHandle
from omniq.ids import uuid7
from omniq.models import Status
from omniq.models.row import TaskRow
from omniq.workers import AsyncWorker, ahead, pump
from omniq.workers.ahead import Ahead
from omniq.workers.base import Lane
from omniq.workers.quota import Quota
from omniq.workers.run import Run
from tests.waiting import until

pytestmark = pytest.mark.asyncio


def known(func: Any) -> Any:
    return task(f"tests.{uuid7()}", retries=0)(func)


async def nothing() -> None:
    pass


@pytest.fixture
async def queues(tmp_path: Path) -> AsyncIterator[list[AsyncOmniQ]]:
    """Two processes' view of a place whose work goes on beside theirs."""
    async with AsyncExitStack() as stack:
        opened = [
            AsyncOmniQ(storage_type="file", base_dir=tmp_path, retry_delay=0.01, lease=60)
            for _ in range(2)
        ]
        for queue in opened:
            queue.embedded = False
            await stack.enter_async_context(queue)
        yield opened


async def back_in_line(handle: AsyncTaskHandle[Any]) -> TaskRow:
    """The row of a task, once it is there for others to claim."""
    async with asyncio.timeout(60):
        while True:
            row = (await handle.info()).row
            if row.status is Status.READY:
                return row
            await asyncio.sleep(0.001)


class Asked:
    """Notes what the workers of this test claim."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.over = 0
        """Most slots asked for beyond those that were free."""
        whole = pump.Pump._claim

        def claim(pump: pump.Pump) -> Any:
            free = sum(lane.free for lane in {*pump._lanes.values()})
            asked = whole(pump)
            if asked is not None:
                self.over = max(self.over, asked.limit - free)
            return asked

        monkeypatch.setattr(pump.Pump, "_claim", claim)


def eager(worker: AsyncWorker) -> pump.Pump:
    """As if short tasks only had been seen, over trips that take long."""
    assert worker._pool is not None and worker._pool._pump is not None
    held = worker._pool._pump
    held._ahead._trip = 1.0
    held._ahead._lasts = dict.fromkeys(held._ahead._lasts, 1e-6)
    return held


async def test_short_tasks_are_claimed_ahead_and_never_more_run_at_once_than_slots(
    queues: list[AsyncOmniQ], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, now, most = Asked(monkeypatch), 0, 0

    @known
    async def short() -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    handles = await queues[0].enqueue_many([Task(func=short) for _ in range(400)])
    async with AsyncWorker(queues[0], max_workers=5):
        for handle in handles:
            await handle.result(60)
    assert 1 <= asked.over <= 5
    assert most == 5


async def test_long_tasks_are_left_to_others(
    queues: list[AsyncOmniQ], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, leave = Asked(monkeypatch), asyncio.Event()
    long = known(leave.wait)
    handles = await queues[0].enqueue_many([Task(func=long) for _ in range(20)])
    async with AsyncWorker(queues[0], max_workers=4) as worker:
        await until(lambda: worker.running == 4)
        leave.set()
        for handle in handles:
            await handle.result(60)
    assert asked.over <= 0


async def test_what_waits_behind_long_tasks_goes_back_in_line_for_others(
    queues: list[AsyncOmniQ],
) -> None:
    leave, ran = asyncio.Event(), []

    @known
    async def tell(n: int) -> None:
        ran.append(n)

    async with AsyncWorker(queues[0], max_workers=2) as one:
        held = eager(one)
        tasks = [Task(func=known(leave.wait)) for _ in range(2)]
        tasks += [Task(func=tell, args=(n,)) for n in range(2)]
        handles = await queues[0].enqueue_many(tasks)
        await until(lambda: len(held._ahead) == 2 or ran)
        assert one.running == 2
        async with AsyncWorker(queues[1], max_workers=2) as other:
            for handle in handles[2:]:
                await handle.result(60)
                row = (await handle.info()).row
                assert (row.owner, row.attempt, row.losses) == (other.id, 1, 0)
        # A lane that kept others waiting claims nothing ahead until short tasks end in it again.
        lane = held._lanes["async"]
        assert held._ahead.room(lane) == 0
        leave.set()
        for handle in handles[:2]:
            await handle.result(60)
    assert sorted(ran) == [0, 1]


async def test_a_worker_that_stops_gives_back_what_waits_at_once(
    queues: list[AsyncOmniQ], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "PATIENCE", 600.0)
    leave = asyncio.Event()
    worker = await AsyncWorker(queues[0], max_workers=1).start()
    held = eager(worker)
    long = await queues[0].enqueue(known(leave.wait))
    await until(lambda: worker.running)
    waits = await queues[0].enqueue(known(nothing), ttl=600)
    await until(lambda: len(held._ahead))
    stopping = asyncio.create_task(worker.stop(60))
    row = await back_in_line(waits)
    assert not stopping.done()  # the long one is still given its grace
    assert (row.attempt, row.expires_at is None) == (0, False)
    leave.set()
    await stopping
    assert (await long.info()).row.status is Status.SUCCEEDED


async def test_a_cancelled_task_that_waits_never_runs(
    queues: list[AsyncOmniQ], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "PATIENCE", 600.0)
    leave, ran = asyncio.Event(), []

    @known
    async def tell() -> None:
        ran.append(1)

    async with AsyncWorker(queues[0], max_workers=1) as worker:
        held = eager(worker)
        await queues[0].enqueue(known(leave.wait))
        await until(lambda: worker.running)
        waits = await queues[0].enqueue(tell)
        await until(lambda: len(held._ahead))
        assert await waits.cancel()
        with pytest.raises(TaskCancelled):
            await waits.result(60)  # no slot has to come free for that
        assert worker.running == 1
        leave.set()
    assert not ran


async def test_what_waits_when_the_lease_runs_out_was_never_begun(
    queues: list[AsyncOmniQ], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "PATIENCE", 600.0)
    leave = asyncio.Event()
    async with AsyncWorker(queues[0], max_workers=1) as worker:
        held = eager(worker)
        await queues[0].enqueue(known(leave.wait))
        await until(lambda: worker.running)
        waits = await queues[0].enqueue(known(nothing), ttl=600)
        await until(lambda: len(held._ahead))
        run = held.running[waits.id]
        held._ahead._wanted = False
        held.interrupt(waits.id, "stop")  # as a heartbeat does that got no answer
        await until(lambda: run.settled)
        row = await back_in_line(waits)
        assert (row.attempt, row.losses, row.expires_at is None) == (0, 0, False)
        leave.set()
        await waits.result(60)


async def test_a_worker_that_stood_still_begins_nothing_it_may_have_lost() -> None:
    class Slots:
        slots, free = 2, 2

    class Waits:
        settled = False

    slots, run = cast(Lane, Slots()), cast(Run, Waits())
    still = Ahead([slots], wanted=True, lease=0.0)
    still.wait(slots, run)
    assert still.next(slots) is None
    assert still.impatient() == [run]
    short = Ahead([slots], wanted=True, lease=60.0)
    short.wait(slots, run)
    assert short.next(slots) is run


async def test_a_worker_with_a_quota_claims_nothing_ahead(
    queues: list[AsyncOmniQ], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch)
    await queues[0].enqueue_many([Task(func=known(nothing)) for _ in range(50)])
    worker = AsyncWorker(queues[0], max_workers=5)
    worker._quota = Quota(40)
    async with worker:
        eager(worker)
        await worker._quota.spent()
        await worker.drained()
    assert asked.over <= 0


async def test_how_much_is_claimed_ahead_follows_what_ends_while_a_trip_takes() -> None:
    class Slots:
        slots, free = 100, 100

    slots: Any = Slots()
    rooms = Ahead([slots], wanted=True)
    assert rooms.room(slots) == 100
    slots.free = 0
    assert rooms.room(slots) == 0  # nothing is known of its tasks
    for _ in range(200):
        rooms.travelled(0.01)
        rooms.ran(slots, 0.1)
    assert rooms.room(slots) in range(8, 12)  # a tenth of them ends while a trip takes
    for _ in range(200):
        rooms.ran(slots, 0.0)
    assert rooms.room(slots) == 100
    slots.free = 50
    assert rooms.room(slots) == 100  # never more in one trip than there are slots
    assert Ahead([slots], wanted=False).room(slots) == 50
