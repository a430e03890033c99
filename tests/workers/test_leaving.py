"""A worker knows when nothing is left to run, and when it has run as many as it may."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from omniq import AsyncOmniQ, Task, task
from omniq.errors import ConfigError
from omniq.ids import uuid7
from omniq.models import Status
from omniq.workers import Quota, WorkerPool

pytestmark = pytest.mark.asyncio


def known(func: Callable[..., Any], **options: Any) -> Any:
    return task(f"tests.{uuid7()}", **{"retries": 0, **options})(func)


def plain(n: int) -> int:
    return n + 1


def boom() -> None:
    raise ValueError("no")


async def statuses(queue: AsyncOmniQ) -> dict[Status, int]:
    return {each.status: each.count for each in await queue.counts()}


@pytest.fixture
def alone(queue: AsyncOmniQ) -> AsyncOmniQ:
    queue.embedded = False
    return queue


async def test_nothing_is_left_once_all_have_ended(alone: AsyncOmniQ) -> None:
    children: list[Any] = []

    async def parent() -> None:
        children.append(await alone.enqueue(plain, (2,), queue="new"))

    first = await alone.enqueue(known(parent))
    after = await alone.enqueue(plain, (3,), depends_on=[first])
    failing = await alone.enqueue(known(boom))
    many = await alone.enqueue_many([Task(func=plain, args=(n,)) for n in range(50)])
    async with asyncio.timeout(60), WorkerPool(alone) as worker:
        await worker.emptied()
        assert worker.running == 0
        for each in [first, after, *many, children[0]]:
            assert (await each.status()) == "success"
        assert (await failing.status()) == "error"


async def test_a_queue_that_has_only_just_begun_counts(
    alone: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before the worker has heard of it."""
    tasks, asked, over = alone.stores.tasks, 0, asyncio.Event()
    get_docs = tasks.get_docs

    async def slow(kind: str, **options: Any) -> Any:
        nonlocal asked
        asked += kind == "queue"
        if kind == "queue" and asked == 2:  # the one that was told of the new queue
            await over.wait()
        return await get_docs(kind, **options)

    children: list[Any] = []

    async def parent() -> None:
        children.append(await alone.enqueue(plain, (2,), queue="new"))

    await alone.enqueue(known(parent))
    monkeypatch.setattr(tasks, "get_docs", slow)
    async with asyncio.timeout(60), WorkerPool(alone) as worker:
        await worker.emptied()
        assert await children[0].status() == "success"
        over.set()


async def test_what_is_due_later_does_not_count(alone: AsyncOmniQ) -> None:
    again = await alone.enqueue(known(boom, retries=1, retry_delay=600))
    later = await alone.enqueue(plain, (1,), delay=600)
    async with asyncio.timeout(60), WorkerPool(alone) as worker:
        await worker.emptied()
    for each in (again, later):
        assert (await each.info()).row.status is Status.SCHEDULED
    assert (await again.info()).row.attempt == 1


async def test_an_empty_place_has_nothing_left(alone: AsyncOmniQ) -> None:
    async with asyncio.timeout(60), WorkerPool(alone) as worker:
        await worker.emptied()
        await worker.emptied()
    async with asyncio.timeout(60), WorkerPool(alone, queues=["mail"]) as worker:
        await worker.emptied()


async def test_running_tasks_are_waited_for(alone: AsyncOmniQ) -> None:
    go, started = asyncio.Event(), asyncio.Event()

    async def held() -> None:
        started.set()
        await go.wait()

    handle = await alone.enqueue(known(held))
    async with asyncio.timeout(60), WorkerPool(alone) as worker:
        emptied = asyncio.create_task(worker.emptied())
        await started.wait()
        await asyncio.sleep(0)
        assert not emptied.done()
        go.set()
        await emptied
        assert (await handle.status()) == "success"


async def test_no_more_is_started_than_the_quota_allows(alone: AsyncOmniQ) -> None:
    await alone.enqueue_many([Task(func=plain, args=(n,)) for n in range(20)])
    quota = Quota(7)
    worker = WorkerPool.configured(alone, alone.config.worker, quota=quota)
    async with asyncio.timeout(60), worker:
        await quota.spent()
        await worker.drained()
    assert await statuses(alone) == {Status.SUCCEEDED: 7, Status.READY: 13}


async def test_workers_share_a_quota(alone: AsyncOmniQ) -> None:
    await alone.enqueue_many([Task(func=plain, args=(n,), queue="a") for n in range(9)])
    quota = Quota(10)
    config = alone.config.worker
    first = WorkerPool.configured(alone, config, quota=quota)
    second = WorkerPool.configured(alone, config, quota=quota)
    async with asyncio.timeout(60), first, second:
        await first.emptied()
        await second.emptied()  # what one set aside and did not use is there for the other
        await alone.enqueue_many([Task(func=plain, args=(n,), queue="a") for n in range(9)])
        await quota.spent()
        await first.drained()
        await second.drained()
    assert await statuses(alone) == {Status.SUCCEEDED: 10, Status.READY: 8}


async def test_a_worker_may_leave_queues_to_others(alone: AsyncOmniQ) -> None:
    left = await alone.enqueue(plain, (1,), queue="slow")
    taken = await alone.enqueue(plain, (1,), queue="quick")
    async with asyncio.timeout(60), WorkerPool(alone, without=["slow", "unheard-of"]) as worker:
        await worker.emptied()
        assert worker.describe().endswith("every queue but slow, unheard-of")
        # A queue that appears later is served as well.
        assert await (await alone.enqueue(plain, (4,), queue="fresh")).result(60) == 5
    assert (await taken.status()) == "success" and (await left.status()) == "pending"


async def test_queues_to_serve_and_to_leave_out_exclude_each_other(alone: AsyncOmniQ) -> None:
    with pytest.raises(ConfigError, match="not both"):
        await WorkerPool(alone, queues=["a"], without=["b"]).start()


@pytest.mark.parametrize("runs", [0, -1])
async def test_a_quota_of_nothing_is_refused(runs: int) -> None:
    with pytest.raises(ConfigError, match=f"may run {runs} tasks"):
        Quota(runs)
