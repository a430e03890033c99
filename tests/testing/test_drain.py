"""Working off a queue by hand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import omniq
from omniq import AsyncOmniQ, OmniQ, ResultStatus, RetryPolicy, Status
from omniq.models.units import Move, PutDoc
from omniq.testing import ManualClock, collecting, drain, run_until_empty
from omniq.testing.runner import Runner
from tests.testing import work

pytestmark = pytest.mark.asyncio

HOUR = timedelta(hours=1)
opened: list[AsyncOmniQ] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    work.tries.clear()


@pytest.fixture(params=["memory", "sqlite"])
async def queue(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> AsyncIterator[AsyncOmniQ]:
    """A queue whose time stands still, with no worker."""
    options = {"base_dir": tmp_path, "storage_type": request.param}
    async with AsyncOmniQ(options, clock=clock) as queue:
        with collecting(queue):
            yield queue


async def test_what_is_ready_runs_in_order_with_what_it_releases(queue: AsyncOmniQ) -> None:
    first = await queue.enqueue(work.marks, ("a",))
    await queue.enqueue(work.marks, ("child",), depends_on=[first])
    await queue.enqueue(work.marks_plainly, ("b",))
    await queue.enqueue(work.marks, ("other",), queue="another")
    await queue.enqueue(work.marks, ("first",), priority=1)
    await queue.enqueue(work.marks, ("late",), delay=60)
    drained = await drain(queue)
    assert work.tries == ["first", "a", "child", "b", "other"]
    assert (drained.succeeded, drained.failed, drained.again) == (5, 0, 0)
    assert drained.runs[1].id == first
    assert (await drain(queue)).runs == ()


async def test_failures_are_stored_and_retries_stay_for_later(queue: AsyncOmniQ) -> None:
    dead = await queue.enqueue(work.breaks, retries=0)
    again = await queue.enqueue(work.breaks, ("later",), retries=1)
    drained = await drain(queue)
    assert (drained.succeeded, drained.failed, drained.again) == (0, 1, 1)
    assert [type(run.error) for run in drained.runs] == [work.Broken] * 2
    assert str(drained.runs[1]).endswith(":breaks (attempt 1): scheduled, Broken: later")
    assert await dead.status() is ResultStatus.ERROR
    assert await again.status() is ResultStatus.PENDING


async def test_an_error_can_be_raised_and_the_rest_stays(queue: AsyncOmniQ) -> None:
    await queue.enqueue(work.breaks, retries=1)
    left = await queue.enqueue(work.marks, ("left",))
    with pytest.raises(work.Broken, match="no"):
        await drain(queue, raise_errors=True)
    assert await left.status() is ResultStatus.PENDING
    assert (await drain(queue, raise_errors=True)).succeeded == 1
    with pytest.raises(work.Broken, match="no"):
        await run_until_empty(queue, raise_errors=True)
    retried = await queue.enqueue(work.third_time, ("x",))
    assert (await run_until_empty(queue, raise_errors=True)).succeeded == 1
    assert await retried.result() == 3


async def test_a_limit_bounds_the_runs(queue: AsyncOmniQ) -> None:
    for name in "abc":
        await queue.enqueue(work.marks, (name,))
    assert len((await drain(queue, limit=2)).runs) == 2
    assert work.tries == ["a", "b"]


async def test_time_travels_to_what_is_due(queue: AsyncOmniQ, clock: ManualClock) -> None:
    start = clock.now()
    for name, delay in (("b", 120), ("a", 60), ("much later", 7200)):
        await queue.enqueue(work.marks, (name,), delay=delay)
    await queue.enqueue(
        work.third_time, ("x",), retries=RetryPolicy(retries=2, delay=600, factor=2, jitter=0)
    )
    drained = await drain(queue, until=HOUR)
    assert work.tries == ["x", "a", "b", "x", "x"]
    assert (drained.succeeded, drained.again) == (3, 2)
    assert clock.now() == start + 3_600_000
    assert (await drain(queue, until=datetime.fromtimestamp(clock.now() / 1000, UTC))).runs == ()
    assert (await run_until_empty(queue)).succeeded == 1
    assert clock.now() == start + 7_200_000
    with pytest.raises(ValueError, match="tzinfo=UTC"):
        await drain(queue, until=datetime(2030, 1, 1))


async def test_what_expires_on_the_way_is_not_run(queue: AsyncOmniQ, clock: ManualClock) -> None:
    stale = await queue.enqueue(work.marks, ("stale",), ttl=60)
    child = await queue.enqueue(work.marks, ("child",), depends_on=[stale])
    clock.advance(61)
    assert (await drain(queue)).runs == ()
    assert await stale.status() is ResultStatus.EXPIRED
    assert await child.status() is ResultStatus.ERROR


async def test_with_the_machines_clock_tasks_run_early(tmp_path: Path) -> None:
    async with AsyncOmniQ(storage_type="memory") as queue:
        with collecting(queue):
            for name, delay in (("b", 120), ("a", 60), ("much later", 7200)):
                await queue.enqueue(work.marks, (name,), delay=delay)
            assert (await drain(queue, until=HOUR)).succeeded == 2
            assert work.tries == ["a", "b"]
            assert (await run_until_empty(queue)).succeeded == 1


async def test_a_task_without_end_is_told(
    queue: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omniq.testing.runner.MAX_RUNS", 10)
    await queue.enqueue(work.snoozes)
    with pytest.raises(AssertionError, match=r"10 tasks were run .* does .*snoozes enqueue itself"):
        await run_until_empty(queue)


async def test_a_cancelled_task_does_not_go_back_in_line(queue: AsyncOmniQ) -> None:
    opened[:] = [queue]
    handle = await queue.enqueue(_cancels_itself, retries=5)
    await drain(queue)
    assert await handle.status() is ResultStatus.CANCELLED


async def _cancels_itself() -> None:
    await opened[0].cancel(omniq.current().id)
    raise work.Broken


async def test_a_paused_queue_rests(queue: AsyncOmniQ) -> None:
    await queue.enqueue(work.marks, ("a",))
    await queue.stores.apply([PutDoc(kind="pause", key="default", value=b"1")])
    assert (await run_until_empty(queue)).runs == ()


async def test_two_drains_share_the_work(queue: AsyncOmniQ) -> None:
    for n in range(20):
        await queue.enqueue(work.marks, (str(n),))
    one, other = await asyncio.gather(drain(queue), drain(queue))
    assert len(one.runs) + len(other.runs) == 20
    assert sorted(work.tries, key=int) == [str(n) for n in range(20)]


async def test_a_body_that_cannot_be_read_fails_its_task(queue: AsyncOmniQ) -> None:
    handle = await queue.enqueue(work.add, (1,))
    await queue.stores.apply([Move(id=handle.id, expect=(Status.READY,), patch={"body": b"\xc1"})])
    assert (await drain(queue)).failed == 1


async def test_the_runner_has_no_worker(queue: AsyncOmniQ) -> None:
    await queue.enqueue(work.add, (1,))
    assert await Runner(queue).step() is not None
    assert await queue.workers() == []


def _blocking() -> None:
    with OmniQ(storage_type="memory") as queue, collecting(queue):
        work.local.value = "of this thread"
        token = work.who.set("the test")
        seen = queue.enqueue(work.sees)
        here = queue.enqueue(work.thread)
        there = queue.enqueue(work.double, (4,))
        failed = queue.enqueue(work.breaks_plainly, retries=0)
        drained = drain(queue)
        assert (drained.succeeded, drained.failed) == (3, 1)
        assert seen.result() == ("the test", "of this thread")
        assert here.result() == threading.get_ident()
        assert (there.result(), failed.status()) == (8, ResultStatus.ERROR)
        work.who.reset(token)
        queue.enqueue(work.breaks, retries=3)
        with pytest.raises(work.Broken):
            run_until_empty(queue, raise_errors=True)


async def test_the_blocking_face_runs_plain_functions_in_the_calling_thread() -> None:
    await asyncio.to_thread(_blocking)
