"""Listen: register, read, then wait; what comes in between is not lost."""

from __future__ import annotations

import asyncio

import pytest

from omniq.models import PutDoc, PutEvents, Status, TaskEvent
from omniq.models.filters import EventFilter
from omniq.storage.base import AsyncStorage, Ear

from .conftest import MakeStorage
from .kit import (
    APPLIED,
    START,
    add,
    add_running,
    apply,
    cancel,
    event,
    finish,
    insert,
    result,
    retry,
    settle,
    status,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.ways]

PATIENCE = 60.0
"""Seconds until a signal that never comes fails its test."""


async def test_pitfall_21_a_signal_between_the_read_and_the_wait_is_not_lost(
    storage: AsyncStorage,
) -> None:
    task = await add_running(storage, reply="client-1")
    async with storage.listen(["inbox:client-1"]) as ear:
        assert await result(storage, task.id) is None
        await apply(storage, finish(task))
        await _hear(ear, "inbox:client-1")
    assert await result(storage, task.id) is not None


async def test_a_waiter_is_woken_by_what_comes_later(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    task = await add_running(one, reply="client-1")
    async with one.listen(["inbox:client-1"]) as ear:
        waiting = asyncio.create_task(_hear(ear, "inbox:client-1"))
        await apply(other, finish(task))
        await waiting


async def test_a_signal_sticks_until_it_is_read_and_then_is_gone(storage: AsyncStorage) -> None:
    async with storage.listen(["queue:a", "queue:b"]) as ear:
        await apply(storage, insert(queue="a"))
        await apply(storage, insert(queue="b"))
        heard: set[str] = set()
        while heard != {"queue:a", "queue:b"}:
            more = await ear.wait(PATIENCE)
            assert more, heard
            heard |= more


async def test_several_ears_hear_the_same(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    async with (
        one.listen(["queue:q"]) as first,
        one.listen(["queue:q", "tasks"]) as second,
        other.listen(["queue:q"]) as third,
    ):
        await apply(one, insert())
        for ear in (first, second, third):
            await _hear(ear, "queue:q")


async def test_an_ear_hears_nothing_it_did_not_ask_for(storage: AsyncStorage) -> None:
    async with storage.listen(["queue:b"]) as ear:
        await apply(storage, insert(queue="a"), insert(queue="b"))
        assert await _hear(ear, "queue:b") == {"queue:b"}


async def test_topics_are_added_and_dropped_while_it_listens(storage: AsyncStorage) -> None:
    async with storage.listen([]) as ear:
        ear.add("queue:a")
        ear.add("queue:b")
        ear.discard("queue:a")
        await apply(storage, insert(queue="a"))
        await apply(storage, insert(queue="b"))
        assert await _hear(ear, "queue:b") == {"queue:b"}
        ear.add("queue:a")
        await apply(storage, insert(queue="a"))
        await _hear(ear, "queue:a")


async def test_a_wait_ends_with_its_time_though_nothing_came(storage: AsyncStorage) -> None:
    async with storage.listen(["inbox:nobody"]) as ear:
        assert await ear.wait(0.01) <= {"inbox:nobody"}
        assert await ear.wait(0) <= {"inbox:nobody"}


async def test_every_way_to_become_ready_wakes_the_queue(storage: AsyncStorage) -> None:
    parent = await add_running(storage, queue="p")
    again = await add_running(storage, queue="r")
    waiting = await add(storage, parent.id, queue="child")
    spawned = insert(queue="spawned")
    async with storage.listen(["queue:child", "queue:r", "queue:spawned"]) as ear:
        await apply(storage, finish(parent, spawn=(spawned,)))
        await _hear(ear, "queue:child")
        await apply(storage, retry(again, START))
        await _hear(ear, "queue:r")
    assert await status(storage, waiting.id) is Status.READY


@pytest.mark.parametrize("end", [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED])
async def test_the_inbox_of_a_client_tells_of_every_end(
    make_storage: MakeStorage, end: Status
) -> None:
    client, worker = await make_storage(), await make_storage()
    task = await add_running(client, reply="me")
    async with client.listen(["inbox:me"]) as ear:
        await apply(worker, settle(task, end))
        await _hear(ear, "inbox:me")


async def test_the_inbox_tells_of_a_cancel_before_the_run(storage: AsyncStorage) -> None:
    task = await add(storage, reply="me")
    async with storage.listen(["inbox:me"]) as ear:
        await apply(storage, cancel(task.id))
        await _hear(ear, "inbox:me")


async def test_a_worker_hears_that_its_task_should_stop(make_storage: MakeStorage) -> None:
    worker, client = await make_storage(), await make_storage()
    task = await add_running(worker, "w7")
    async with worker.listen(["owner:w7"]) as ear:
        await client.apply([cancel(task.id)])
        await _hear(ear, "owner:w7")


async def test_docs_events_and_tasks_have_topics(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    async with one.listen(["docs:pause", "events", "tasks"]) as ear:
        await apply(other, PutDoc(kind="pause", key="q", value=b""))
        await _hear(ear, "docs:pause")
        await apply(other, PutEvents((event("t"),)))
        await _hear(ear, "events")
        await apply(other, insert())
        await _hear(ear, "tasks")


async def test_a_follower_of_events_misses_none(make_storage: MakeStorage) -> None:
    """Register, read, wait, read on: the way every live page does it."""
    reader, writer = await make_storage(), await make_storage()
    told = [event("t", n) for n in range(40)]

    async def write() -> None:
        for each in told:
            receipt = await writer.apply([PutEvents((each,))])
            assert receipt.outcome == [APPLIED]

    seen: list[TaskEvent] = []
    cursor: str | None = None
    async with reader.listen(["events"]) as ear, asyncio.timeout(PATIENCE):
        writing = asyncio.create_task(write())
        while len(seen) < len(told):
            page = await reader.read_events(EventFilter(), after=cursor, limit=7)
            seen += page.events
            cursor = page.cursor
            if not page.events:
                await ear.wait(PATIENCE)
        await writing
    assert seen == told


async def _hear(ear: Ear, topic: str) -> set[str]:
    """All topics heard until this one was."""
    heard: set[str] = set()
    async with asyncio.timeout(PATIENCE):
        while topic not in heard:
            heard |= await ear.wait(PATIENCE)
    return heard
