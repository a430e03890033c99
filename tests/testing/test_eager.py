"""Tasks that are run as they are enqueued."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

import omniq
from omniq import AsyncOmniQ, ResultStatus, Task, TaskFailed
from omniq.errors import ConfigError, FunctionNotFound, ResultTimeout
from omniq.queue.engine import Loaded
from omniq.testing import assert_enqueued, eager, enqueued
from tests.testing import work

pytestmark = pytest.mark.asyncio

held = threading.Event()
started: list[asyncio.Event] = []


def _holds() -> None:
    held.wait(60)


@pytest.fixture(autouse=True)
def forget() -> None:
    work.tries.clear()


@pytest.fixture
async def queue() -> AsyncIterator[AsyncOmniQ]:
    async with AsyncOmniQ(storage_type="memory") as queue:
        yield queue


async def test_a_task_has_ended_when_enqueue_returns(queue: AsyncOmniQ) -> None:
    with eager(queue):
        for handle, value in (
            (await queue.enqueue(work.add, (1, 2)), 3),
            (await queue.enqueue(work.double, (4,)), 8),
            (await work.double.enqueue(5), 10),
        ):
            result = await queue.result(handle)
            assert (result.status, result.value) == (ResultStatus.SUCCESS, value)
            assert await handle.result() == value
        assert await queue.workers() == [], "no worker is started"


async def test_many_are_run_in_their_order(queue: AsyncOmniQ) -> None:
    with eager(queue) as seen:
        await queue.enqueue_many(
            [
                Task(func=work.marks, args=("a",)),
                Task(func=work.marks_plainly, args=("b",)),
                Task(func=work.marks, args=("c",), queue="other"),
                Task(func=work.marks, args=("first",), priority=5),
            ]
        )
    assert work.tries == ["first", "a", "b", "c"]
    assert [task.args for task in seen] == [("a",), ("b",), ("c",), ("first",)]


async def test_a_failure_is_stored_and_the_rules_of_retries_hold(queue: AsyncOmniQ) -> None:
    with eager(queue):
        handle = await queue.enqueue(work.third_time, ("x",), retries=2)
        assert await handle.result() == 3
        info = await handle.info()
        assert [error.message for error in info.errors] == ["try 1", "try 2"]
        handle = await queue.enqueue(work.third_time, ("y",), retries=1)
        with pytest.raises(TaskFailed, match="try 2"):
            await handle.result()
        assert await (await queue.enqueue(work.asks_again, ("z",), retries=0)).result() == "done"


async def test_errors_are_raised_as_they_were_raised(queue: AsyncOmniQ) -> None:
    with eager(queue, raise_errors=True) as seen:
        with pytest.raises(work.Broken, match="no") as caught:
            await queue.enqueue(work.breaks, retries=0)
        assert any(entry.name == "breaks" for entry in caught.traceback)
        with pytest.raises(work.Broken, match="plainly"):
            await queue.enqueue(work.breaks_plainly, retries=0)
        assert await (await queue.enqueue(work.third_time, ("x",))).result() == 3
        with pytest.raises(work.Broken, match="no"):
            await queue.enqueue(work.breaks, retries=2)
    assert [(await queue.result(task.id)).attempt for task in seen] == [1, 1, 3, 3]


async def test_a_delay_passes_at_once(queue: AsyncOmniQ) -> None:
    with eager(queue):
        assert await (await queue.enqueue(work.add, (1, 2), delay=3600)).result() == 3


async def test_a_task_that_snoozes_is_left_and_waiting_for_it_says_so(queue: AsyncOmniQ) -> None:
    with eager(queue):
        handle = await queue.enqueue(work.snoozes)
        assert await handle.status() is ResultStatus.PENDING
        with pytest.raises(ResultTimeout, match=r"work:snoozes\) has not ended .* scheduled for"):
            await handle.result()


async def test_a_timeout_counts(queue: AsyncOmniQ) -> None:
    with eager(queue):
        handle = await queue.enqueue(asyncio.sleep, (5,), timeout=0.01, retries=0)
        with pytest.raises(TaskFailed, match=r"longer than its timeout of 0\.01 s"):
            await handle.result()
        handle = await queue.enqueue(_holds, timeout=0.01, retries=0)
        with pytest.raises(TaskFailed, match=r"longer than its timeout of 0\.01 s"):
            await handle.result()
    held.set()
    with eager(queue, raise_errors=True), pytest.raises(TimeoutError, match="its timeout"):
        await queue.enqueue(asyncio.sleep, (5,), timeout=0.01, retries=0)


async def test_tasks_may_enqueue_tasks_and_depend_on_them(queue: AsyncOmniQ) -> None:
    with eager(queue) as seen:
        assert await (await queue.enqueue(work.outer)).result() == [2, 4]
        assert [task.func for task in seen[1:]] == [work.double.__wrapped__] * 2
        failed = await queue.enqueue(work.breaks, retries=0)
        child = await queue.enqueue(work.add, (1,), depends_on=[failed])
        with pytest.raises(TaskFailed, match="did not succeed"):
            await child.result()


async def test_calls_at_the_same_time_each_wait_for_their_own(queue: AsyncOmniQ) -> None:
    with eager(queue):
        calls = (queue.enqueue(work.third_time, (str(n),)) for n in range(10))
        handles = await asyncio.gather(*calls)
        # Read as they are now, without a wait that would make up for it.
        results = [await queue.result(each) for each in handles]
        assert [(each.status, each.value) for each in results] == [(ResultStatus.SUCCESS, 3)] * 10


async def test_what_stands_around_calls_is_there(queue: AsyncOmniQ) -> None:
    def around(call: Loaded) -> Loaded:
        return Loaded(call.func, (*call.args, 40), call.kwargs, call.is_async)

    queue.around.append(around)
    with eager(queue):
        assert await (await queue.enqueue(work.add, (2,))).result() == 42


async def test_the_task_knows_itself_and_leaves_nothing_behind(queue: AsyncOmniQ) -> None:
    with eager(queue):
        assert await (await queue.enqueue(work.attempt)).result() == 1
        handle = await queue.enqueue(work.progresses)
        assert (await handle.info()).progress == {"done": 1, "total": 2}
        token = work.who.set("the test")
        assert await (await queue.enqueue(work.sees)).result() == ("the test", "nothing")
        assert work.who.get() == "the test"
        work.who.reset(token)
    with pytest.raises(omniq.NotStarted):
        omniq.current()


async def test_a_plain_function_may_block_beside_the_loop(queue: AsyncOmniQ) -> None:
    with eager(queue):
        assert await (await queue.enqueue(work.thread)).result() != threading.get_ident()


async def test_a_cancelled_caller_gives_the_task_back(queue: AsyncOmniQ) -> None:
    with eager(queue):
        started.append(asyncio.Event())
        call = asyncio.create_task(queue.enqueue(_starts))
        await started[0].wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        (task,) = enqueued(queue)
        result = await queue.result(task.id)
        assert (result.status, result.attempt) == (ResultStatus.PENDING, 0)


async def _starts() -> None:
    started.pop().set()
    await asyncio.sleep(60)


async def test_a_name_nobody_knows_is_told_at_once(queue: AsyncOmniQ) -> None:
    with eager(queue), pytest.raises(FunctionNotFound, match="nowhere"):
        await queue.enqueue("nowhere:to_be_found")


async def test_a_retry_by_hand_runs_at_once(queue: AsyncOmniQ) -> None:
    with eager(queue):
        handle = await queue.enqueue(work.third_time, ("x",), retries=1)
        assert await handle.retry()
        assert await handle.result() == 3


async def test_a_worker_that_runs_already_is_in_the_way(queue: AsyncOmniQ) -> None:
    await queue.start_worker()
    with pytest.raises(ConfigError, match="worker of this process runs already"), eager(queue):
        pass
    await queue.stop_worker()
    with eager(queue):
        await queue.start_worker()  # as an app does when it starts
        assert await (await queue.enqueue(work.add, (1,))).result() == 2
        assert await queue.workers() == []
    with pytest.raises(TypeError, match=r"app\.state\.omniq"), eager(object()):  # type: ignore[arg-type]
        pass


async def test_afterwards_the_queue_works_as_ever(queue: AsyncOmniQ) -> None:
    with eager(queue):
        await queue.enqueue(work.add, (1,))
    handle = await queue.enqueue(work.add, (2,))
    assert await handle.result(60) == 3
    assert [card.embedded for card in await queue.workers()] == [True]
    assert_enqueued(queue, work.add, (1,), times=1)


async def test_a_sleep_of_a_delay_is_not_slept(queue: AsyncOmniQ) -> None:
    with eager(queue):
        policy = omniq.RetryPolicy(retries=3, delay=600)
        async with asyncio.timeout(60):
            handle = await queue.enqueue(work.breaks, retries=policy)
        assert (await queue.result(handle)).attempt == 4
