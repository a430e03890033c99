"""Tasks, results and events at three places: what a queue does is the same, whichever they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from omniq import AsyncOmniQ, task
from omniq.errors import TaskCancelled, TaskFailed
from omniq.models import EventType, Status
from omniq.models.filters import EventFilter
from omniq.storage.memory import AsyncMemoryStorage

pytestmark = [pytest.mark.asyncio, pytest.mark.newer]

EMBEDDED = list(product(("memory", "sqlite"), repeat=3))
SERVED = [
    ("postgres", "redis", "jsonl"),
    ("redis", "postgres", "nats"),
    ("nats", "redis", "postgres"),
    ("file", "nats", "redis"),
    ("sqlite", "postgres", "nats"),
    ("memory", "file", "jsonl"),
    ("postgres", "sqlite", "file"),
    ("redis", "redis", "jsonl"),
    ("nats", "sqlite", "sqlite"),
]
COMBINATIONS = [
    pytest.param(combination, id="-".join(combination)) for combination in EMBEDDED + SERVED
]


@task("three_places.add")
async def add(x: int, y: int) -> int:
    return x + y


@task("three_places.shaky", retries=2, retry_delay=0.01)
async def shaky(path: str) -> str:
    tries = Path(path)
    tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
    if len(tries.read_text()) < 3:
        raise RuntimeError("not yet")
    return "at last"


@task("three_places.broken", retries=1, retry_delay=0.01)
async def broken(path: str) -> str:
    if not Path(path).exists():
        raise ValueError("nothing there")
    return "mended"


@task("three_places.endless")
async def endless() -> None:
    await asyncio.Event().wait()


@pytest.fixture
def places(
    tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[[tuple[str, ...]], AsyncOmniQ]:
    """Gives a queue with three places, each new and empty; servers are started at need."""
    namespace = f"t{uuid4().hex[:16]}"

    def place(kind: str, role: str) -> dict[str, Any]:
        if kind == "jsonl":
            return {"type": kind}
        if kind == "sqlite":
            return {"url": f"sqlite:///{tmp_path / role}.db"}
        if kind == "file":
            return {"url": f"file://{tmp_path / role}"}
        return {"url": request.getfixturevalue(f"{kind}_url")}

    def opened(kinds: tuple[str, ...]) -> AsyncOmniQ:
        roles = dict(zip(("task_queue", "result_storage", "event_storage"), kinds, strict=True))
        # The same words would mean the same memory.
        parts = {role: AsyncMemoryStorage() for role, kind in roles.items() if kind == "memory"}
        said = {role: place(kind, role) for role, kind in roles.items() if kind != "memory"}
        config = said | {
            "base_dir": str(tmp_path / "base"),
            "namespace": namespace,
            "events": {"level": "DEBUG"},
            "worker": {"grace": 1},
            "signing_keys": "k1:a secret of at least thirty-two bytes",
        }
        return AsyncOmniQ(config, **parts)  # type: ignore[arg-type]

    return opened


@pytest.mark.parametrize("kinds", COMBINATIONS)
async def test_a_tasks_life(
    kinds: tuple[str, ...], places: Callable[[tuple[str, ...]], AsyncOmniQ], tmp_path: Path
) -> None:
    """Success, retries, failure, replay, cancel before and in the run, deletion; and what is
    told of each."""
    async with places(kinds) as queue:
        async with asyncio.timeout(60):
            # Its value, and those of many at once.
            one = await queue.enqueue(add, (5, 10))
            assert await one.result() == 15
            many = [await queue.enqueue(add, (n, n)) for n in range(50)]
            assert [await each.result() for each in many] == [2 * n for n in range(50)]

            again = await queue.enqueue(shaky, (str(tmp_path / "tries"),))
            assert await again.result() == "at last"

            dead = await queue.enqueue(broken, (str(tmp_path / "mended"),))
            with pytest.raises(TaskFailed, match="nothing there"):
                await dead.result()
            (tmp_path / "mended").write_text("")
            assert await queue.retry(dead)
            assert await dead.result() == "mended"

            later = await queue.enqueue(add, (1, 1), delay=3600)
            assert await queue.cancel(later)
            with pytest.raises(TaskCancelled):
                await later.result()

            stuck = await queue.enqueue(endless)
            while True:
                if (await queue.info(stuck)).row.status is Status.RUNNING:
                    break
                await asyncio.sleep(0.01)
            assert await queue.cancel(stuck)
            with pytest.raises(TaskCancelled):
                await stuck.result()

            # A replay takes the old value away, and the new run gives the new one.
            assert await queue.retry(one)
            assert await one.result() == 15
            assert await queue.delete(one)

            await queue.stop_worker()
            every = await queue.events(EventFilter(), limit=1000)
            told = {id: await story(queue, id) for id in (*many, again, dead, later, stuck)}
            kept = await queue.find(limit=1000)

    e = EventType
    for each in many:
        assert told[each] == [e.ENQUEUED, e.EXECUTING, e.COMPLETE]
    tried = [e.EXECUTING, e.ERROR, e.RETRY]
    assert told[again] == [e.ENQUEUED, *tried, *tried, e.EXECUTING, e.COMPLETE]
    assert [t for t in told[dead] if t is not e.ACTION] == [
        *(e.ENQUEUED, *tried, e.EXECUTING, e.ERROR, e.DEAD),
        *(e.EXECUTING, e.COMPLETE),
    ]
    assert e.ACTION in told[dead]
    assert told[later] == [e.SCHEDULED, e.CANCELLED]
    assert told[stuck] == [e.ENQUEUED, e.EXECUTING, e.CANCELLED]
    assert len({(x.task, x.epoch, x.n) for x in every.events}) == len(every.events)
    assert one not in {row.id for row in kept.tasks}


async def story(queue: AsyncOmniQ, id: str) -> list[EventType]:
    """What is told of a task, in its own order."""
    page = await queue.events(EventFilter(task=str(id)), limit=100)
    return [event.type for event in page.events]


@pytest.mark.parametrize("kind", ["redis", "nats", "postgres"])
async def test_far_places_killed_in_the_middle_lose_nothing(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Results and events on one server, which is killed and started again while tasks run."""
    server = request.getfixturevalue(f"private_{kind}")()
    config = {
        "base_dir": str(tmp_path),
        "task_queue": {"url": f"sqlite:///{tmp_path}/tasks.db"},
        "result_storage": {"url": server.url},
        "event_storage": {"url": server.url},
        "events": {"level": "DEBUG"},
        "signing_keys": "k1:a secret of at least thirty-two bytes",
    }
    async with AsyncOmniQ(config) as queue:
        async with asyncio.timeout(90):
            handles = [await queue.enqueue(add, (n, 0)) for n in range(100)]
            values = [await h.result() for h in handles[:50]]
            await asyncio.to_thread(server.kill)
            # Tasks go on: those enqueued now end, and their values can be read.
            while_down = [await queue.enqueue(add, (n, 0)) for n in range(100, 200)]
            handles += while_down
            values_down = [await h.result() for h in while_down]
            await asyncio.to_thread(server.start)
            handles += [await queue.enqueue(add, (n, 0)) for n in range(200, 250)]
            values += [await h.result() for h in handles[50:100]]
            values += values_down
            values += [await h.result() for h in handles[200:]]
            assert values == list(range(250))
            await queue.stop_worker()
            outbox = queue.stores._outbox
            assert outbox is not None
            assert await outbox.breaker.wait(30)
            told = {str(handle): await story(queue, handle) for handle in handles}
            rows = (await queue.find(limit=1000)).tasks
    # Again, by a process that knows nothing: everything is where it belongs.
    async with AsyncOmniQ(config, embedded=False) as reader:
        async with asyncio.timeout(60):
            assert [await reader.get_result(h) for h in handles] == list(range(250))
    assert all(row.status is Status.SUCCEEDED for row in rows)
    whole = [EventType.ENQUEUED, EventType.EXECUTING, EventType.COMPLETE]
    assert [h for h in handles if told[h] != whole] == []
    assert list((tmp_path / "spool").rglob("*.spool")) == []
