"""Redis at the edges of what may be stored: far stamps, mixed retention, what is left in the end."""

from __future__ import annotations

from uuid import uuid4

import pytest
from redis.asyncio import Redis

from omniq.clock import SYSTEM_CLOCK, ManualClock
from omniq.models import Applied, Dep, Move, PutDoc, PutEvents, Status, Unique
from omniq.models.filters import EventFilter
from omniq.storage.redis import AsyncRedisStorage
from tests.conformance import kit

pytestmark = pytest.mark.asyncio


def name() -> str:
    """A namespace of one test."""
    return f"t{uuid4().hex[:12]}"


@pytest.mark.parametrize("stamp", [-1, 10**14, 10**15, 2**53 - 1, 86_400_000_000_000_000])
@pytest.mark.parametrize("real", [True, False])
async def test_stamps_far_from_now(redis_url: str, stamp: int, real: bool) -> None:
    """A retention of a million years is a number like any other."""
    clock = SYSTEM_CLOCK if real else ManualClock(kit.START)
    at = clock.now() - 1000
    async with AsyncRedisStorage(redis_url, namespace=name(), clock=clock) as storage:
        unique = Unique("key", stamp, "time")
        await storage.apply([kit.insert(at=at, unique=unique, keep_until=stamp)])
        receipt = await storage.apply([kit.insert(at=at, unique=unique)])
        assert receipt.taken.keys() == ({0} if stamp > 0 else set())
        task = (await kit.take(storage))[0]
        await storage.apply([kit.finish(task, until=stamp)])
        results = await storage.get_results([task.id])
        assert [result.until for result in results] == ([stamp] if stamp > 0 else [])
        await storage.apply([PutDoc(kind="due", key="far", value=b"v", due_at=stamp)])
        docs = await storage.get_docs("due", due_before=stamp + 64)
        assert [doc.due_at for doc in docs] == [stamp]
        await storage.apply([PutDoc(kind="late", key="far", value=b"v", expires_at=stamp)])
        docs = await storage.get_docs("late")
        assert [doc.expires_at for doc in docs] == ([stamp] if stamp > 0 else [])
        await storage.apply([PutEvents((kit.event(task.id, keep_until=stamp),))])
        events = (await storage.read_events(EventFilter())).events
        assert [event.keep_until for event in events] == ([stamp] if stamp > 0 else [])
        await storage.sweep()
        assert len(await storage.get_tasks([task.id])) == (stamp > 0)


async def test_events_go_when_their_time_comes_whatever_lies_before_them(redis_url: str) -> None:
    clock = ManualClock(kit.START)
    async with AsyncRedisStorage(redis_url, namespace=name(), clock=clock) as storage:
        for first in range(0, 1200, 300):
            numbers = range(first, first + 300)
            keep = [kit.START + (10 if n % 2 else kit.HOUR) for n in numbers]
            events = (kit.event("t", n, keep_until=k) for n, k in zip(numbers, keep, strict=True))
            await storage.apply([PutEvents(tuple(events))])
        clock.advance(1)
        assert await storage.sweep(400) == 400
        assert await storage.sweep(400) == 200
        left = (await storage.read_events(EventFilter(), limit=1000)).events
        assert [event.n for event in left] == list(range(0, 1200, 2))


async def test_a_result_a_reopened_child_waits_for_stays(redis_url: str) -> None:
    """The server forgets results by itself, but not this one."""
    space, admin = name(), Redis.from_url(redis_url)
    now = SYSTEM_CLOCK.now()
    async with AsyncRedisStorage(redis_url, namespace=space) as storage:
        parent = kit.insert(at=now - 1000)
        child = kit.insert(parent.row.id, at=now - 1000)
        await storage.apply([parent, child])
        for _ in range(2):
            [task] = await kit.take(storage)
            await storage.apply([kit.finish(task)])
        replay = Move(id=parent.row.id, expect=(Status.SUCCEEDED,), to=Status.READY)
        await storage.apply([replay])
        [task] = await kit.take(storage)
        await storage.apply([kit.finish(task, until=now + 60_000)])
        key = f"{{omniq:{space}}}:v:{parent.row.id}"
        assert await admin.pexpiretime(key) == now + 60_000
        await storage.apply([Move(id=child.row.id, expect=(Status.SUCCEEDED,), to=Status.READY)])
        assert await admin.pexpiretime(key) == -1
        assert await admin.zscore(f"{{omniq:{space}}}:fade", parent.row.id) == now + 60_000
    await admin.aclose()


async def test_nothing_is_left_of_tasks_that_are_gone(redis_url: str) -> None:
    space, clock = name(), ManualClock(kit.START)
    admin = Redis.from_url(redis_url, decode_responses=True)
    soon = kit.START + kit.SECOND
    async with AsyncRedisStorage(redis_url, namespace=space, clock=clock) as storage:
        for n in range(20):
            parent = kit.insert(queue=f"q{n}", unique=Unique(f"k{n}"), group="g", priority=n)
            child = kit.insert(Dep(parent.row.id), queue=f"q{n}", unique=Unique(f"c{n}", soon))
            later = kit.insert(queue=f"q{n}", run_at=kit.START + 1, expires_at=soon)
            await storage.apply([parent, child, later])
        queues = tuple(f"q{n}" for n in range(20))
        for turn in range(3):
            for task in await kit.take(storage, f"w{turn}", queues=queues, limit=100):
                event = kit.event(task.id, keep_until=soon)
                end = kit.finish(task, until=soon, patch={"keep_until": soon}, events=(event,))
                assert (await storage.apply([end])).outcome == [Applied.APPLIED]
            clock.advance(0.5)
        clock.advance(60)
        while await storage.sweep():
            pass
        await storage.claim(kit.claim("another", queues=queues, chores=10))
        space = f"{{omniq:{space}}}:"
        left = {str(key).removeprefix(space) for key in await admin.keys(f"{space}*")}
        assert left == {"meta", "ev"}
        assert await admin.xlen(f"{space}ev") == 0
    await admin.aclose()
