"""The same work through OmniQ, as a user would have it: results, leases, fences, events."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from floors import noop

from omniq import AsyncOmniQ, Task, task
from omniq.ids import uuid7
from omniq.models import Fence, Move, Status, Value
from omniq.models.filters import Claim, Slot
from omniq.workers import AsyncWorker

add = task("bench.add")(noop)


class Counting(AsyncOmniQ):
    """Knows when the last of `expected` tasks has been settled."""

    def expect(self, tasks: int) -> None:
        self.left, self.done = tasks, asyncio.Event()

    def settled(self, moves: list[Move]) -> None:
        super().settled(moves)
        self.left -= sum(1 for move in moves if move.to is Status.SUCCEEDED)
        if self.left <= 0:
            self.done.set()


def queue_at(path: Path | None, **options: Any) -> Counting:
    if path is None:
        return Counting(storage_type="memory", **options)
    return Counting(storage_url=f"sqlite:///{path}", base_dir=path.parent, **options)


async def throughput(tasks: int, path: Path | None) -> float:
    """Seconds from the start of a worker with 100 slots to the last task settled."""
    queue = queue_at(path)
    queue.embedded = False
    async with queue:
        for start in range(0, tasks, 1000):
            await queue.enqueue_many(
                [Task(func=add, args=(5, 10)) for _ in range(min(1000, tasks - start))]
            )
        queue.expect(tasks)
        started = time.perf_counter()
        async with AsyncWorker(queue, max_workers=100):
            await queue.done.wait()
            return time.perf_counter() - started


async def enqueue(tasks: int, producers: int, path: Path) -> float:
    """Seconds for `producers` concurrent callers of `enqueue`."""
    queue = queue_at(path)
    queue.embedded = False

    async def produce() -> None:
        for _ in range(tasks // producers):
            await queue.enqueue(add, (5, 10))

    async with queue:
        started = time.perf_counter()
        await asyncio.gather(*(produce() for _ in range(producers)))
        return time.perf_counter() - started


async def claims(queued: int, scheduled: int, path: Path, *, rounds: int = 40) -> list[float]:
    """Seconds of each round that settles 100 tasks and claims 100 others."""
    queue = queue_at(path)
    queue.embedded = False
    async with queue:
        for total, delay in ((queued, None), (scheduled, 86_400.0)):
            for start in range(0, total, 1000):
                count = min(1000, total - start)
                await queue.enqueue_many(
                    [Task(func=add, args=(5, 10), delay=delay) for _ in range(count)]
                )
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
            await queue.enqueue_many([Task(func=add, args=(5, 10)) for _ in batch.tasks])
        return taken[3:]
