"""The same work through OmniQ, as a user would have it: results, leases, fences, events."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from floors.work import noop

from omniq import AsyncOmniQ, Task, task
from omniq.ids import uuid7
from omniq.models import Fence, Move, Status, Value
from omniq.models.filters import Claim, Slot, TaskFilter
from omniq.models.row import TaskRow
from omniq.workers import AsyncWorker

HERE = Path(__file__).parent
MANY = 1000
"""Tasks sent in one call."""

add = task("bench.add")(noop)


@task("bench.start")
async def start() -> int:
    """When it was started, by the clock all processes of this machine share (ns)."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class Counting(AsyncOmniQ):
    """Knows when the last of `expected` tasks has been settled."""

    def expect(self, tasks: int) -> None:
        self.left, self.done = tasks, asyncio.Event()

    def settled(self, moves: list[Move]) -> None:
        super().settled(moves)
        self.left -= sum(1 for move in moves if move.to is Status.SUCCEEDED)
        if self.left <= 0:
            self.done.set()


@asynccontextmanager
async def queue_at(url: str, folder: Path) -> AsyncIterator[Counting]:
    """An open queue that does not work by itself, in a namespace nobody has used."""
    options: dict[str, Any] = {"storage_url": url, "base_dir": folder}
    if not url.startswith(("memory", "sqlite", "file")):
        options["namespace"] = f"bench-{uuid7()[-12:]}"
    queue = Counting(**options)
    queue.embedded = False
    async with queue:
        yield queue


async def fill(queue: AsyncOmniQ, tasks: int, **options: Any) -> None:
    for first in range(0, tasks, MANY):
        count = min(MANY, tasks - first)
        await queue.enqueue_many([Task(func=add, args=(5, 10), **options) for _ in range(count)])


async def throughput(url: str, folder: Path, tasks: int) -> float:
    """Seconds from the start of a worker with 100 slots to the last task settled."""
    async with queue_at(url, folder) as queue:
        await fill(queue, tasks)
        queue.expect(tasks)
        started = time.perf_counter()
        async with AsyncWorker(queue, max_workers=100):
            await queue.done.wait()
            return time.perf_counter() - started


async def bulk(url: str, folder: Path, tasks: int) -> float:
    """Seconds to enqueue `tasks`, 1,000 a call."""
    async with queue_at(url, folder) as queue:
        await queue.enqueue(add, (5, 10))  # the queue's name is known from here on
        started = time.perf_counter()
        await fill(queue, tasks)
        return time.perf_counter() - started


async def produce(url: str, folder: Path, tasks: int, producers: int) -> float:
    """Seconds for `producers` concurrent callers of `enqueue`."""

    async def one(queue: AsyncOmniQ) -> None:
        for _ in range(tasks // producers):
            await queue.enqueue(add, (5, 10))

    async with queue_at(url, folder) as queue:
        started = time.perf_counter()
        await asyncio.gather(*(one(queue) for _ in range(producers)))
        return time.perf_counter() - started


async def crowd(url: str, folder: Path, tasks: int, processes: int) -> tuple[float, list[float]]:
    """Seconds until `processes` workers have done all, and the share of each."""
    async with queue_at(url, folder) as queue:
        await fill(queue, tasks)
        workers = await hands(queue, url, folder, processes)
        try:
            started = time.perf_counter()
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write(b"go\n")
            while await unfinished(queue):  # noqa: ASYNC110  it is others who work
                await asyncio.sleep(0.05)
            taken = time.perf_counter() - started
            done = Counter([row.owner async for row in every_row(queue)])
        finally:
            await dismiss(workers)
    shares = sorted(count / tasks for count in done.values())
    return taken, [0.0] * (processes - len(shares)) + shares


async def latency(url: str, folder: Path, tasks: int) -> list[float]:
    """Seconds from `enqueue` to the start, one at a time, on an idle worker of another process."""
    taken = []
    async with queue_at(url, folder) as queue:
        workers = await hands(queue, url, folder, 1)
        try:
            assert workers[0].stdin is not None
            workers[0].stdin.write(b"go\n")
            for n in range(tasks + 20):
                before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
                handle = await queue.enqueue(start)
                await asyncio.sleep(0.06)  # as by hand: the sender does not work meanwhile
                began = await handle.result(timeout=30)
                if n >= 20:
                    taken.append((began - before) / 1e9)
                await asyncio.sleep(0.06)  # let it fall idle again
        finally:
            await dismiss(workers)
    return taken


async def claims(
    url: str, folder: Path, queued: int, scheduled: int, *, rounds: int = 40
) -> list[float]:
    """Seconds of each round that settles 100 tasks and claims 100 others."""
    async with queue_at(url, folder) as queue:
        await fill(queue, queued)
        await fill(queue, scheduled, delay=86_400.0)
        store = queue.stores.tasks
        units: list[Any] = []
        taken = []
        for _ in range(rounds + 3):
            claim = Claim(
                owner="bench",
                request=uuid7(),
                slots=(Slot("default", "async", 100),),
                limit=100,
                lease=30_000,
            )
            started = time.perf_counter()
            _, batch = await store.exchange(units, claim)
            taken.append(time.perf_counter() - started)
            assert len(batch.tasks) == 100
            now = int(time.time() * 1000)
            units = [
                Move(
                    id=row.id,
                    expect=(Status.RUNNING,),
                    fence=Fence(row.epoch, row.claim or ""),
                    to=Status.SUCCEEDED,
                    patch={"finished_at": now, "keep_until": now + 86_400_000},
                    result=Value(b"x", None),
                )
                for row in batch.tasks
            ]
            await fill(queue, 100)
        return taken[3:]


# -- workers in processes of their own -------------------------------------------------------


async def hands(
    queue: AsyncOmniQ, url: str, folder: Path, count: int
) -> list[asyncio.subprocess.Process]:
    """Worker processes, ready to begin."""
    command = (sys.executable, str(HERE / "hand.py"), url, str(folder), queue.config.namespace)
    pipe = asyncio.subprocess.PIPE
    workers = [
        await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
        for _ in range(count)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"ready\n"
    return workers


async def dismiss(workers: list[asyncio.subprocess.Process]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        await worker.wait()


async def every_row(queue: AsyncOmniQ) -> AsyncIterator[TaskRow]:
    cursor = None
    while True:
        page = await queue.stores.tasks.find_tasks(TaskFilter(), limit=1000, cursor=cursor)
        for row in page.rows:
            yield row
        if (cursor := page.cursor) is None:
            return


async def unfinished(queue: AsyncOmniQ) -> int:
    counts = await queue.stores.tasks.count_tasks()
    return sum(count.count for count in counts if not count.status.final)
