"""Slots are filled as soon as they come free, in turn for every queue, and none is ever lost."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from omniq import AsyncOmniQ, Task, task
from omniq.errors import Retry, Snooze, TaskCancelled, TaskFailed
from omniq.ids import uuid7
from omniq.models import Status
from omniq.models.filters import Held, HeldTask
from omniq.models.row import TaskRow
from omniq.models.task import TaskBody
from omniq.workers import AsyncWorker, ThreadWorker, Worker, pump
from omniq.workers.queues import QueueNames
from tests.waiting import until

pytestmark = pytest.mark.asyncio


def known(func: Any) -> Any:
    return task(f"tests.{uuid7()}", retries=0)(func)


def plain(x: int) -> int:
    return x + 1


async def test_a_full_lane_is_filled_again_while_another_one_is_idle(
    queue: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []
    whole = pump.Pump._claim

    def claim(self: pump.Pump) -> Any:
        asked = whole(self)
        if asked is not None:
            looks.append(bool(asked.chores))
        return asked

    monkeypatch.setattr(pump.Pump, "_claim", claim)
    monkeypatch.setattr(pump, "CHORES_EVERY", 3600.0)  # then it is a third of the lease
    handles = await queue.enqueue_many([Task(func=plain, args=(n,)) for n in range(95)])
    assert [await handle.result(60) for handle in handles] == [n + 1 for n in range(95)]
    # 95 tasks in 10 threads beside 100 idle coroutine slots: chores alone would give 10 a look,
    # and one look in 20 seconds.
    assert looks.count(True) <= 3


async def test_a_task_that_comes_while_a_claim_is_under_way_is_not_overlooked(
    queue: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.embedded = False
    stores = queue.stores
    real, late = stores.exchange, []

    async def exchange(units: Any, claim: Any) -> Any:
        answer = await real(units, claim)
        if not late:
            late.append(await queue.enqueue(plain, (1,), queue="late"))
            feed = worker._pool._pump  # type: ignore[union-attr]
            await until(lambda: feed._hungry)  # its signal is heard before this answer is
        return answer

    await queue.enqueue(plain, (0,), queue="late", delay=600)
    monkeypatch.setattr(stores, "exchange", exchange)
    worker = Worker(queue, slots={"thread": 2}, serves={"thread": "thread"})
    async with worker:
        assert worker._pool is not None and worker._pool._pump is not None
        # The regular look for chores would find it too, only later.
        worker._pool._pump._next_chores = time.monotonic() + 600
        await until(lambda: late)
        assert await late[0].result(60) == 2


async def test_every_queue_leads_in_every_lane() -> None:
    names = QueueNames(["a", "b"])
    assert Counter(names.turn()[0] for _ in range(10)) == {"a": 5, "b": 5}


async def test_two_queues_share_both_lanes(queue: AsyncOmniQ) -> None:
    queue.embedded = False
    order: list[str] = []

    @known
    async def note(name: str) -> None:
        order.append(name)

    tasks = [
        Task(func=note, args=(name,), queue=name) for _ in range(20) for name in ("left", "right")
    ]
    handles = await queue.enqueue_many(tasks)
    slots = {"async": 1, "thread": 1}
    async with Worker(queue, slots=slots, serves={"async": "async", "thread": "thread"}):  # type: ignore[arg-type]
        for handle in handles:
            await handle.result(60)
    assert Counter(order[:20])["left"] in range(7, 14)


@pytest.mark.parametrize("lane", ["async", "thread"])
@pytest.mark.parametrize("delay", [float("nan"), float("inf"), -1.0, 1e300])
@pytest.mark.parametrize("signal", [Retry, Snooze])
async def test_a_delay_that_cannot_be_fails_its_task_and_keeps_its_slot(
    queue: AsyncOmniQ, lane: str, delay: float, signal: Any
) -> None:
    @known
    def ask() -> None:
        raise signal(delay=delay)

    with pytest.raises(TaskFailed, match="ValueError"):
        await (await queue.enqueue(ask, worker=lane)).result(60)
    worker = await queue.start_worker()
    assert worker.running == 0
    assert await (await queue.enqueue(plain, (1,), worker=lane)).result(60) == 2


@pytest.mark.parametrize("lane", ["async", "thread"])
async def test_what_a_signal_says_is_looked_at_again(queue: AsyncOmniQ, lane: str) -> None:
    """Even a signal bent by hand, whose delay no rule can reckon with."""

    @known
    def bent() -> None:
        signal = Retry()
        signal.delay = float("nan")
        raise signal

    with pytest.raises(TaskFailed, match="NaN"):
        await (await queue.enqueue(bent, worker=lane)).result(60)


@pytest.mark.parametrize("lane", ["async", "thread"])
async def test_messages_no_encoding_takes_are_kept(queue: AsyncOmniQ, lane: str) -> None:
    @known
    def read() -> None:
        raise FileNotFoundError("no file caf\udce9.txt")

    with pytest.raises(TaskFailed, match=r"caf\\udce9\.txt"):
        await (await queue.enqueue(read, worker=lane)).result(60)


@pytest.mark.parametrize("lane", ["async", "thread"])
async def test_exceptions_of_every_size_and_shape(queue: AsyncOmniQ, lane: str) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise SystemExit

    group = ExceptionGroup("several", [ValueError("one"), ExceptionGroup("in", [KeyError("two")])])
    for error, says in (
        (ValueError("x" * 5_000_000), "xxx"),
        (group, "several"),
        (BaseExceptionGroup("base", [KeyboardInterrupt()]), "base"),
        (GeneratorExit("gone"), "GeneratorExit"),
        (Mute(), "cannot be read"),
    ):

        def fail(error: BaseException = error) -> None:
            raise error

        with pytest.raises(TaskFailed, match=says) as caught:
            await (await queue.enqueue(known(fail), worker=lane)).result(60)
        assert len(str(caught.value)) < 5_000
        assert len(caught.value.remote_traceback) < 20_000
    assert (await queue.start_worker()).running == 0


async def test_a_thread_beside_the_loop_keeps_its_slot_past_its_timeout(
    queue: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.embedded = False
    looks: list[bool] = []
    whole = pump.Pump._claim

    def claim(self: pump.Pump) -> Any:
        asked = whole(self)
        if asked is not None:
            looks.append(bool(asked.slots))
        return asked

    leave, ran = threading.Event(), []
    slow = known(lambda: leave.wait(60))
    async with AsyncWorker(queue, max_workers=1):
        first = await queue.enqueue(slow, timeout=0.05)
        with pytest.raises(TaskFailed, match="timeout"):
            await first.result(60)
        second = await queue.enqueue(known(lambda: ran.append(1)))
        monkeypatch.setattr(pump.Pump, "_claim", claim)
        await until(lambda: len(looks) >= 2)  # for chores
        assert not any(looks), "with no slot for a task"
        assert (await second.info()).row.status is Status.READY
        leave.set()
        await second.result(60)
    assert ran == [1]


@pytest.mark.parametrize("lane", ["async", "thread"])
async def test_a_cancelled_task_may_clean_up_undisturbed(queue: AsyncOmniQ, lane: str) -> None:
    entered, cleaning, clean = threading.Event(), threading.Event(), threading.Event()
    disturbed = threading.Event()

    @known
    async def careful() -> None:
        try:
            entered.set()
            await asyncio.sleep(60)
        finally:
            cleaning.set()
            await until(disturbed.is_set)
            clean.set()

    handle = await queue.enqueue(careful, worker=lane)
    await asyncio.to_thread(entered.wait, 60)
    await handle.cancel()
    await asyncio.to_thread(cleaning.wait, 60)
    worker = await queue.start_worker()
    assert worker._pool is not None
    for _ in range(3):  # other tasks' cancels make the worker hear of this one again
        worker._pool._pump.interrupt(handle.id, "cancel")  # type: ignore[union-attr]
        await asyncio.sleep(0.01)
    disturbed.set()
    with pytest.raises(TaskCancelled):
        await handle.result(60)
    assert clean.is_set()


async def test_an_attempt_that_cleans_up_slowly_does_not_spoil_the_next(
    queue: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    next_one, left = threading.Event(), threading.Event()

    @task(f"tests.{uuid7()}", retries=2)
    async def slow_to_leave() -> str:
        runs.append(1)
        if len(runs) == 1:
            try:
                await asyncio.sleep(60)
            finally:
                await until(next_one.is_set)  # the second attempt is under way
                left.set()
        next_one.set()
        await until(left.is_set)
        await asyncio.sleep(0.1)
        return "second"

    worker = await queue.start_worker()
    assert worker._pool is not None and worker._pool._pump is not None
    whole = worker._pool._pump._open

    def opened(row: TaskRow) -> TaskBody | None:
        """The second attempt may take its time."""
        body = whole(row)
        return replace(body, timeout=None) if body is not None and row.attempt > 1 else body

    monkeypatch.setattr(worker._pool._pump, "_open", opened)
    handle = await queue.enqueue(slow_to_leave, worker="thread", timeout=0.3)
    assert await handle.result(60) == "second"
    assert len(runs) == 2


async def test_an_answer_about_an_earlier_claim_does_not_stop_a_later_run(
    queue: AsyncOmniQ,
) -> None:
    entered = asyncio.Event()
    go = asyncio.Event()

    @known
    async def run() -> str:
        entered.set()
        await go.wait()
        return "whole"

    handle = await queue.enqueue(run)
    await asyncio.wait_for(entered.wait(), 60)
    pool = (await queue.start_worker())._pool
    assert pool is not None
    pool._heard([HeldTask(handle.id, 0, "an earlier claim")], Held(lost=(handle.id,)))
    go.set()
    assert await handle.result(60) == "whole"


async def test_a_row_that_runs_is_not_given_back_for_a_late_answer(queue: AsyncOmniQ) -> None:
    entered, go = asyncio.Event(), asyncio.Event()

    @known
    async def run() -> str:
        entered.set()
        await go.wait()
        return "once"

    handle = await queue.enqueue(run)
    await asyncio.wait_for(entered.wait(), 60)
    pool = (await queue.start_worker())._pool
    assert pool is not None and pool._pump is not None
    row = (await handle.info()).row
    # As if both beats had asked before this loop read the answer of the claim.
    await pool._pump.give_back([HeldTask(row.id, row.epoch, row.claim or "")])
    go.set()
    assert await handle.result(60) == "once"
    assert (await handle.info()).row.epoch == 1


async def test_an_interrupt_before_the_first_step_frees_the_slot(queue: AsyncOmniQ) -> None:
    worker = await queue.start_worker()
    assert worker._pool is not None
    feed = worker._pool._pump
    assert feed is not None
    started, whole = [], feed._start

    def start(batch: Any) -> None:
        whole(batch)
        for row in batch.tasks:  # the lane has made a task of it, which took no step yet
            started.append(row.id)
            feed.interrupt(row.id, "stop")
            feed._start = whole  # type: ignore[method-assign]

    feed._start = start  # type: ignore[method-assign]
    handle = await queue.enqueue(asyncio.sleep, (0,))
    await until(lambda: started)
    assert await handle.result(60) is None
    assert all(lane.busy == 0 for lane in worker._pool._lanes.values())


@pytest.mark.parametrize("lane", ["async", "thread"])
async def test_a_plain_function_that_gives_a_coroutine(queue: AsyncOmniQ, lane: str) -> None:
    async def inner(x: int) -> int:
        await asyncio.sleep(0)
        return x * 2

    assert await (await queue.enqueue(known(lambda: inner(4)), worker=lane)).result(60) == 8


async def test_a_plain_wrapper_around_a_coroutine_function_in_a_thread(queue: AsyncOmniQ) -> None:
    async def inner(x: int) -> int:
        await asyncio.sleep(0)
        return x * 2

    @functools.wraps(inner)
    def blocking(x: int) -> int:
        return asyncio.run(inner(x))

    queue.embedded = False
    async with ThreadWorker(queue, max_workers=1):
        assert await (await queue.enqueue(known(blocking), (4,))).result(60) == 8
