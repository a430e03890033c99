"""Tasks of every kind in every lane, and what callers are told of how they end."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

import omniq
from omniq import AsyncOmniQ, Task, task
from omniq.errors import (
    DuplicateTask,
    InvalidTask,
    NotSerializable,
    ResultTimeout,
    Retry,
    Snooze,
    TaskCancelled,
    TaskExpired,
    TaskFailed,
    TaskNotFound,
    UnknownOption,
)
from omniq.ids import uuid7
from omniq.models import EventType, ResultStatus, Status
from omniq.models.filters import EventFilter, TaskFilter
from omniq.queue import policy

pytestmark = pytest.mark.asyncio


def plain(x: int, y: int = 1) -> int:
    return x + y


async def coroutine(x: int, y: int = 1) -> int:
    await asyncio.sleep(0)
    return x + y


def known(func: object) -> object:
    """A function of a test under a name of its own, so that it is not sent by value."""
    return task(f"tests.{uuid7()}", retries=0)(func)  # type: ignore[arg-type]


def broken(message: str) -> None:
    raise ValueError(message)


@pytest.mark.parametrize("func", [plain, coroutine])
@pytest.mark.parametrize("lane", ["async", "thread"])
async def test_any_function_runs_in_any_lane(queue: AsyncOmniQ, func: object, lane: str) -> None:
    handle = await queue.enqueue(func, (5,), {"y": 10}, worker=lane)  # type: ignore[call-overload]
    assert await handle.result(60) == 15
    info = await queue.info(handle)
    assert (info.row.lane, info.row.status) == (lane, Status.SUCCEEDED)
    assert info.arguments is not None
    assert info.arguments.value == {"args": [5], "kwargs": {"y": 10}}


async def test_without_a_word_coroutines_go_to_the_loop_and_the_rest_to_threads(
    queue: AsyncOmniQ,
) -> None:
    lanes = [
        (await queue.info(await queue.enqueue(func, (1,)))).row.lane for func in (plain, coroutine)
    ]
    assert lanes == ["thread", "async"]


async def test_lambdas_and_closures_travel_with_their_task(queue: AsyncOmniQ) -> None:
    base = 40
    assert await (await queue.enqueue(lambda x: base + x, (2,))).result(60) == 42


async def test_a_blocking_function_does_not_block_the_loop(queue: AsyncOmniQ) -> None:
    entered, leave = threading.Event(), threading.Event()

    @known
    def wait_for_leave() -> str:
        entered.set()
        leave.wait(60)
        return "left"

    handle = await queue.enqueue(wait_for_leave, worker="async")
    await asyncio.to_thread(entered.wait, 60)
    leave.set()  # only a loop that still turns gets here
    assert await handle.result(60) == "left"


async def test_many_at_once_and_each_its_own_result(queue: AsyncOmniQ) -> None:
    handles = await queue.enqueue_many([Task(func=coroutine, args=(n,)) for n in range(300)])
    values = await asyncio.gather(*(queue.get_result(h, 60) for h in handles))
    assert values == [n + 1 for n in range(300)]
    found = [r.value async for r in queue.results(handles)]
    assert sorted(found) == sorted(values)


async def test_a_failure_is_told_as_data(queue: AsyncOmniQ) -> None:
    handle = await queue.enqueue(broken, ("no way",), retries=1)
    with pytest.raises(TaskFailed, match="ValueError: no way") as caught:
        await handle.result(60)
    assert caught.value.attempts == 2
    assert "raise ValueError(message)" in caught.value.remote_traceback
    info = await handle.info()
    assert [e.attempt for e in info.errors] == [1, 2]
    events = await queue.events(EventFilter(task=handle.id))
    kinds = [e.type for e in events.events]
    assert kinds == [
        EventType.ERROR, EventType.RETRY, EventType.ERROR, EventType.DEAD,
    ]  # fmt: skip


async def test_a_dead_letter_can_be_replayed(queue: AsyncOmniQ) -> None:
    broken_once: list[int] = []

    @known
    def flaky() -> str:
        if not broken_once:
            broken_once.append(1)
            raise RuntimeError("first time")
        return "second time"

    handle = await queue.enqueue(flaky)
    with pytest.raises(TaskFailed):
        await handle.result(60)
    assert await handle.retry()
    assert await handle.result(60) == "second time"
    assert not await queue.cancel(handle)


async def test_exceptions_that_are_not_worth_a_retry(queue: AsyncOmniQ) -> None:
    runs: list[int] = []

    @task(f"tests.{uuid7()}", never_retry=LookupError, retries=5)
    def picky() -> None:
        runs.append(1)
        raise KeyError("x")

    with pytest.raises(TaskFailed):
        await (await queue.enqueue(picky)).result(60)
    assert len(runs) == 1


async def test_a_task_can_ask_for_a_retry_or_a_snooze(queue: AsyncOmniQ) -> None:
    seen: list[int] = []

    @known
    def later() -> list[int]:
        seen.append(omniq.current().attempt)
        if len(seen) == 1:
            raise Retry(delay=0.01)
        if len(seen) == 2:
            raise Snooze(0.01)
        return seen

    assert await (await queue.enqueue(later)).result(60) == [1, 2, 2]


async def test_an_exception_that_cannot_even_be_printed(queue: AsyncOmniQ) -> None:
    @known
    def evil() -> None:
        class Evil(Exception):
            def __str__(self) -> str:
                raise RuntimeError("gotcha")

        raise Evil

    with pytest.raises(TaskFailed, match="cannot be read"):
        await (await queue.enqueue(evil)).result(60)
    assert await (await queue.enqueue(plain, (1,))).result(60) == 2


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
@pytest.mark.parametrize("lane", ["async", "thread"])
async def test_a_task_cannot_take_its_worker_down(
    queue: AsyncOmniQ, error: type[BaseException], lane: str
) -> None:
    @known
    def fatal() -> None:
        raise error("the end")

    with pytest.raises(TaskFailed, match=error.__name__):
        await (await queue.enqueue(fatal, worker=lane)).result(60)
    assert await (await queue.enqueue(plain, (1,), worker=lane)).result(60) == 2


async def test_a_result_that_cannot_be_stored_fails_its_task_only(queue: AsyncOmniQ) -> None:
    handle = await queue.enqueue(threading.Lock, retries=0)
    with pytest.raises(TaskFailed, match="result"):
        await handle.result(60)
    assert await (await queue.enqueue(plain, (1,))).result(60) == 2


@pytest.mark.parametrize("lane", ["async", "thread"])
async def test_a_coroutine_is_stopped_at_its_timeout(queue: AsyncOmniQ, lane: str) -> None:
    handle = await queue.enqueue(asyncio.sleep, (60,), timeout=0.05, retries=0, worker=lane)
    with pytest.raises(TaskFailed, match=r"longer than its timeout of 0\.05 s"):
        await handle.result(60)


async def test_a_thread_that_ignores_its_timeout_is_settled_and_keeps_its_slot(
    queue: AsyncOmniQ,
) -> None:
    leave = threading.Event()
    handle = await queue.enqueue(
        known(lambda: leave.wait(60)), timeout=0.05, retries=0, worker="thread"
    )
    with pytest.raises(TaskFailed, match="timeout"):
        await handle.result(60)
    worker = await queue.start_worker()
    assert worker.running == 0
    leave.set()
    assert await (await queue.enqueue(plain, (1,), worker="thread")).result(60) == 2
    assert (await queue.result(handle)).status is ResultStatus.ERROR


async def test_waiting_has_an_end_but_the_task_goes_on(queue: AsyncOmniQ) -> None:
    go = threading.Event()
    handle = await queue.enqueue(known(lambda: go.wait(60)))
    with pytest.raises(ResultTimeout):
        await handle.result(0.05)
    assert (await handle.status()) in (ResultStatus.PENDING, ResultStatus.RUNNING)
    go.set()
    assert await handle.result(60) is True


async def test_a_delay_a_time_and_a_ttl(queue: AsyncOmniQ) -> None:
    later = await queue.enqueue(plain, (1,), delay=timedelta(hours=1))
    assert (await queue.info(later)).row.status is Status.SCHEDULED
    soon = await queue.enqueue(plain, (1,), delay=0.05)
    assert await soon.result(60) == 2
    assert (await later.status()) is ResultStatus.PENDING
    assert await queue.retry(later)  # run now
    assert await later.result(60) == 2


async def test_a_task_nobody_starts_in_time_expires(queue: AsyncOmniQ) -> None:
    handle = await queue.enqueue(plain, (1,), delay=60, ttl=0.02)
    with pytest.raises(TaskExpired):
        await handle.result(60)


async def test_cancel_before_the_run(queue: AsyncOmniQ) -> None:
    handle = await queue.enqueue(plain, (1,), delay=60)
    assert await handle.cancel()
    assert not await handle.cancel()
    with pytest.raises(TaskCancelled):
        await handle.result(60)


@pytest.mark.parametrize("lane", ["async", "thread"])
async def test_cancel_while_it_runs(queue: AsyncOmniQ, lane: str) -> None:
    entered = threading.Event()

    @known
    async def long() -> None:
        entered.set()
        await asyncio.sleep(60)

    handle = await queue.enqueue(long, worker=lane)
    await asyncio.to_thread(entered.wait, 60)
    assert await handle.cancel()
    with pytest.raises(TaskCancelled):
        await handle.result(60)


async def test_progress_is_seen_while_it_runs(queue: AsyncOmniQ) -> None:
    go = threading.Event()

    @known
    def steps() -> str:
        omniq.current().set_progress({"done": 1, "total": 2})
        go.wait(60)
        return "done"

    handle = await queue.enqueue(steps)
    async with asyncio.timeout(60):
        async with queue.listen({"tasks"}) as ear:
            while (await queue.result(handle)).progress != {"done": 1, "total": 2}:
                await ear.wait(1)
    go.set()
    assert await handle.result(60) == "done"


async def test_larger_priorities_run_sooner(queue: AsyncOmniQ) -> None:
    queue.embedded = False
    order: list[int] = []

    @known
    def note(priority: int) -> None:
        order.append(priority)

    handles = [
        await queue.enqueue(note, (priority,), priority=priority)  # type: ignore[call-overload]
        for priority in (-5, 0, 5, 0)
    ]
    async with omniq.workers.ThreadWorker(queue, max_workers=1):
        for handle in handles:
            await handle.result(60)
    assert order == [5, 0, 0, -5]


async def test_every_queue_is_served_without_naming_it(queue: AsyncOmniQ) -> None:
    assert await (await queue.enqueue(plain, (1,))).result(60) == 2
    assert await (await queue.enqueue(plain, (2,), queue="made-later")).result(60) == 3


async def test_a_worker_serves_only_its_queues(queue: AsyncOmniQ) -> None:
    queue.embedded = False
    mine = await queue.enqueue(plain, (1,), queue="mine")
    theirs = await queue.enqueue(plain, (1,), queue="theirs")
    async with omniq.workers.WorkerPool(queue, queues=["mine"]):
        assert await mine.result(60) == 2
    assert (await theirs.status()) is ResultStatus.PENDING


async def test_a_unique_key_has_one_living_holder(queue: AsyncOmniQ) -> None:
    first = await queue.enqueue(plain, (1,), unique="only", delay=60)
    with pytest.raises(DuplicateTask, match=first.id) as caught:
        await queue.enqueue(plain, (2,), unique="only")
    assert caught.value.holder == first
    await first.cancel()
    assert await (await queue.enqueue(plain, (2,), unique="only")).result(60) == 3


async def test_a_child_runs_after_its_parents_and_dies_with_them(queue: AsyncOmniQ) -> None:
    parents = [await queue.enqueue(plain, (n,), delay=0.03) for n in range(3)]
    child = await queue.enqueue(plain, (10,), depends_on=parents)
    assert await child.result(60) == 11
    assert [(await queue.result(p)).ready for p in parents] == [True, True, True]
    bad = await queue.enqueue(broken, ("x",), retries=0, delay=0.03)
    orphan = await queue.enqueue(plain, (1,), depends_on=bad)
    with pytest.raises(TaskFailed, match="depends on"):
        await orphan.result(60)
    with pytest.raises(InvalidTask, match="no task has the id"):
        await queue.enqueue(plain, (1,), depends_on=uuid7())


async def test_a_function_no_worker_knows_is_kept_and_offered_again(
    queue: AsyncOmniQ, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "UNKNOWN_DELAYS", (600,))  # not offered again while we look
    handle = await queue.enqueue("somewhere.else:gone", (1,))
    async with asyncio.timeout(60), queue.listen({"events"}) as ear:
        while True:
            page = await queue.events(EventFilter(types=(EventType.UNKNOWN_FUNCTION,)))
            if page.events:
                break
            await ear.wait(1)
    row = (await queue.info(handle)).row
    assert (row.status, row.attempt) == (Status.SCHEDULED, 0)
    assert "not registered" in page.events[0].data["reason"]
    (said,) = [each.getMessage() for each in caplog.records if handle in each.getMessage()]
    assert "waits for a worker that has its function" in said and "somewhere.else:gone" in said


async def test_bad_input_is_refused_before_anything_is_stored(queue: AsyncOmniQ) -> None:
    bad = [
        (InvalidTask, "queue name", {"queue": "no spaces"}),
        (InvalidTask, "negative", {"delay": -1}),
        (InvalidTask, "negative", {"ttl": timedelta(seconds=-1)}),
        (InvalidTask, "timeout=0", {"timeout": 0}),
        (InvalidTask, "priority", {"priority": 10**9}),
        (InvalidTask, "retries", {"retries": -1}),
        (InvalidTask, "uuid7", {"id": "../../etc/passwd"}),
        (UnknownOption, "did you mean 'priority'", {"prioritty": 1}),
    ]
    for error, says, options in bad:
        with pytest.raises(error, match=says):
            await queue.enqueue(plain, (1,), **options)  # type: ignore[arg-type]
    with pytest.raises(NotSerializable, match=r"args\[1\]"):
        await queue.enqueue(plain, (1, threading.Lock()))
    with pytest.raises(InvalidTask, match="single argument"):
        await queue.enqueue(plain, 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidTask, match="coroutine"):
        await queue.enqueue(coroutine(1))  # type: ignore[call-overload]
    with pytest.raises(TaskNotFound):
        await queue.get_result(uuid7())
    assert (await queue.find(TaskFilter())).tasks == []


async def test_metrics_and_worker_cards_tell_what_happened(queue: AsyncOmniQ) -> None:
    for n in range(5):
        await (await queue.enqueue(plain, (n,))).result(60)
    (card,) = await queue.workers()
    assert card.slots == {"async": 100, "thread": 10}
    assert card.embedded
    await queue.stop_worker()
    items = [item for minute in await queue.metrics() for item in minute.items]
    assert sum(item.ok for item in items) == 5
    assert sum(sum(item.run.values()) for item in items) == 5
    assert await queue.workers() == []


async def test_a_stop_gives_back_what_did_not_end_in_time(queue: AsyncOmniQ) -> None:
    entered = threading.Event()

    @known
    async def long() -> None:
        entered.set()
        await asyncio.sleep(3600)

    handle = await queue.enqueue(long)
    await asyncio.to_thread(entered.wait, 60)
    queue.embedded = False
    async with asyncio.timeout(60):
        await queue.stop_worker(grace=0)
    row = (await queue.info(handle)).row
    assert (row.status, row.attempt, row.claim) == (Status.READY, 0, None)
