"""What was enqueued: noted, looked at, and named when it is not what was wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from unittest.mock import ANY

import pytest

from omniq import AsyncOmniQ, ConfigError, OmniQ, ResultStatus, Task
from omniq.errors import DuplicateTask, ResultTimeout
from omniq.testing import (
    assert_enqueued,
    assert_nothing_enqueued,
    collecting,
    eager,
    enqueued,
    worker_running,
)
from tests.testing import work

pytestmark = pytest.mark.asyncio


@pytest.fixture
async def queue() -> AsyncIterator[AsyncOmniQ]:
    async with AsyncOmniQ(storage_type="memory") as queue:
        with collecting(queue):
            yield queue


async def test_what_is_enqueued_is_noted_and_not_run(queue: AsyncOmniQ) -> None:
    first = await queue.enqueue(work.add, (1, 2), tags=["sum"], priority=3)
    await queue.enqueue_many([Task(func=work.double, args=(5,), queue="mails", delay=60)])
    (task,) = enqueued(queue, work.add)
    assert (task.id, task.name, task.args, task.kwargs) == (first.id, "work.add", (1, 2), {})
    assert [str(each) for each in enqueued(queue)] == [
        "work.add(1, 2)  priority=3  tags=['sum']",
        "work.double(5)  queue='mails'  delay=60",
    ]
    assert await first.status() is ResultStatus.PENDING
    assert await queue.workers() == []


async def test_only_what_is_said_is_compared(queue: AsyncOmniQ) -> None:
    when = datetime.now(UTC) + timedelta(days=1)
    await queue.enqueue(work.add, (1,), {"y": 2}, delay=60, unique="sum", tags=["a", "b"])
    await queue.enqueue(work.add, (3,), run_at=when, metadata={"by": "me"}, queue="mails")
    assert len(assert_enqueued(queue)) == 2
    assert len(assert_enqueued(queue, work.add)) == 2
    assert len(assert_enqueued(queue, "work.add", times=2)) == 2
    for found in (
        assert_enqueued(queue, work.add, (1,), times=1),
        assert_enqueued(queue, work.add, kwargs={"y": 2}),
        assert_enqueued(queue, work.add, (1, 2)),
        assert_enqueued(queue, work.add, (), {"x": 1, "y": 2}),
        assert_enqueued(queue, work.add, (ANY, 2)),
        assert_enqueued(queue, delay=timedelta(minutes=1), unique="sum", tags=["b"]),
        assert_enqueued(queue, work.add, worker="thread", priority=0, queue_name="default"),
    ):
        assert [task.args for task in found] == [(1,)]
    assert_enqueued(queue, run_at=when, metadata={"by": "me"}, queue_name="mails", times=1)
    assert_enqueued(queue, work.double, times=0)
    assert_nothing_enqueued(queue, work.double)


async def test_a_message_shows_what_there_was_instead(queue: AsyncOmniQ) -> None:
    with pytest.raises(AssertionError) as told:
        assert_enqueued(queue, work.add)
    assert str(told.value) == "work.add was not enqueued; nothing was"
    assert_nothing_enqueued(queue)

    await queue.enqueue(work.add, (1, 2), queue="mails")
    await queue.enqueue(work.double, (1,))
    with pytest.raises(AssertionError) as told:
        assert_enqueued(queue, work.add, (1, 3), queue_name="sums")
    assert str(told.value).splitlines() == [
        "work.add(1, 3) with queue='sums' was not enqueued. What was:",
        "  1. work.add(1, 2)  queue='mails'   <- it was called with (1, 2), queue was 'mails'",
        "  2. work.double(1)",
    ]
    with pytest.raises(AssertionError, match=r"work\.add was enqueued once, not twice. What was:"):
        assert_enqueued(queue, work.add, times=2)
    with pytest.raises(AssertionError, match=r"work\.add was enqueued once, not never. What was:"):
        assert_enqueued(queue, work.add, times=0)
    with pytest.raises(AssertionError, match=r"no work.double was to be .*\n  1. work.double\(1\)"):
        assert_nothing_enqueued(queue, work.double)
    with pytest.raises(AssertionError, match="nothing was to be enqueued, but:"):
        assert_nothing_enqueued(queue)
    with pytest.raises(TypeError, match=r"for a single argument write args=\('you',\)"):
        assert_enqueued(queue, work.add, "you")


async def test_a_long_list_is_cut(queue: AsyncOmniQ) -> None:
    for n in range(25):
        await queue.enqueue(work.double, (n,))
    with pytest.raises(AssertionError, match=r"20. work.double\(19\)\n  ... and 5 more$"):
        assert_enqueued(queue, work.add)


async def test_what_was_refused_was_not_enqueued(queue: AsyncOmniQ) -> None:
    tasks = [Task(func=work.add, args=(n,), unique=key) for n, key in enumerate("aab")]
    with pytest.raises(DuplicateTask) as refused:
        await queue.enqueue_many(tasks)
    assert [task.args for task in enqueued(queue)] == [(0,), (2,)]
    assert refused.value.stored == (tasks[0].id, None, tasks[2].id)


async def test_whoever_waits_runs_what_is_ready(queue: AsyncOmniQ) -> None:
    handle = await queue.enqueue(work.add, (1, 2))
    assert await handle.result() == 3
    handles = [await queue.enqueue(work.double, (n,)) for n in range(3)]
    assert {result.value async for result in queue.results(handles)} == {0, 2, 4}
    late = await queue.enqueue(work.add, (1, 2), delay=60)
    with pytest.raises(ResultTimeout, match="nobody works on this queue by itself: it is sched"):
        await late.result(10)
    child = await queue.enqueue(work.add, (1, 2), depends_on=[late])
    with pytest.raises(ResultTimeout, match="a task it depends on has not ended"):
        await child.result()


async def test_a_real_worker_may_run_for_a_while(queue: AsyncOmniQ) -> None:
    before = await queue.enqueue(work.double, (1,))
    async with worker_running(queue) as worker:
        assert await before.result(60) == 2
        handle = await queue.enqueue(work.add, (1, 2))
        assert await handle.result(60) == 3
        assert [card.id for card in await queue.workers()] == [worker.id]
    left = await queue.enqueue(work.add, (1, 3))
    assert await left.status() is ResultStatus.PENDING
    assert len(enqueued(queue)) == 3


async def test_modes_within_each_other_share_their_list(queue: AsyncOmniQ) -> None:
    await queue.enqueue(work.double, (1,))
    with eager(queue):
        handle = await queue.enqueue(work.add, (1,))
        assert await handle.status() is ResultStatus.SUCCESS
    late = await queue.enqueue(work.add, (2,))
    assert await late.status() is ResultStatus.PENDING
    assert_enqueued(queue, times=3)


async def test_without_a_mode_nothing_is_noted() -> None:
    queue = AsyncOmniQ(storage_type="memory")
    with pytest.raises(ConfigError, match=r"inside `with collecting\(queue\):`"):
        assert_nothing_enqueued(queue)
    with collecting(queue):
        await queue.enqueue(work.add, (1,))
    assert_enqueued(queue, work.add)  # the list stays
    with collecting(queue):
        assert_nothing_enqueued(queue)  # until the next one begins
    await queue.close()


async def test_it_can_be_asked_from_any_thread(queue: AsyncOmniQ) -> None:
    await queue.enqueue(work.add, (1,))
    assert await asyncio.to_thread(assert_enqueued, queue, work.add) == enqueued(queue)


def _blocking() -> None:
    with OmniQ(storage_type="memory") as queue, collecting(queue) as seen:
        handle = queue.enqueue(work.add, (1, 2))
        assert_enqueued(queue, work.add, (1, 2))
        assert handle.status() is ResultStatus.PENDING
        assert handle.result() == 3
        late = queue.enqueue(work.double, (1,))
        with worker_running(queue):
            assert late.result(60) == 2
        assert len(seen) == 2


async def test_the_blocking_face() -> None:
    await asyncio.to_thread(_blocking)
