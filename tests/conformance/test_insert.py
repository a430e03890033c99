"""Insert: a new row, its first status, and ids that are known already."""

from __future__ import annotations

import pytest

from omniq.clock import ManualClock
from omniq.models import EventType, Insert, Status, Unique
from omniq.models.filters import EventFilter
from omniq.storage.base import AsyncStorage

from .kit import (
    ALREADY,
    APPLIED,
    HOUR,
    START,
    add,
    add_many,
    apply,
    counts,
    event,
    get,
    insert,
    outcome,
    row,
    take,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.ways]


async def test_every_field_of_a_new_row_is_kept(storage: AsyncStorage) -> None:
    new = row(
        queue="mail",
        lane="thread",
        name="app.tasks:send",
        priority=-3,
        run_at=START - 5,
        created_at=START - 6,
        expires_at=START + HOUR,
        unique=Unique("mail/7", START + HOUR, "time"),
        group="night",
        tags=("big", "späť"),
        reply="client-1",
        body=bytes(range(256)) * 100,
        error=b"\x00\xff",
        preview="send(to='a@b', n=2)",
    )
    await apply(storage, Insert(new))
    assert await get(storage, new.id) == new


async def test_a_due_row_is_ready_and_its_queue_is_woken(storage: AsyncStorage) -> None:
    unit = insert(run_at=START)
    receipt = await apply(storage, unit)
    assert (await get(storage, unit.row.id)).status is Status.READY
    assert receipt.woken == {"q"}


async def test_a_row_for_later_is_scheduled_and_wakes_nobody(storage: AsyncStorage) -> None:
    unit = insert(run_at=START + 1)
    receipt = await apply(storage, unit)
    assert (await get(storage, unit.row.id)).status is Status.SCHEDULED
    assert receipt.woken == frozenset()


async def test_a_row_with_an_open_parent_waits(storage: AsyncStorage) -> None:
    parents = [await add(storage), await add(storage, run_at=START + HOUR)]
    child = await add(storage, *(p.id for p in parents))
    assert (child.status, child.waiting) == (Status.WAITING, 2)


async def test_the_status_a_client_writes_is_not_read(storage: AsyncStorage) -> None:
    for claimed in (Status.RUNNING, Status.SUCCEEDED, Status.WAITING, Status.SCHEDULED):
        assert (await add(storage, status=claimed)).status is Status.READY
    assert (await add(storage, status=Status.READY, run_at=START + 1)).status is Status.SCHEDULED


async def test_a_known_id_answers_already_and_changes_nothing(storage: AsyncStorage) -> None:
    first = await add(storage, body=b"first")
    again = insert(id=first.id, body=b"second", queue="other", priority=9)
    assert await outcome(storage, again) is ALREADY
    assert await get(storage, first.id) == first
    assert await counts(storage) == {("q", Status.READY): 1}


async def test_a_known_id_answers_already_whatever_became_of_it(storage: AsyncStorage) -> None:
    unit = insert()
    await apply(storage, unit)
    [running] = await take(storage)
    assert await outcome(storage, unit) is ALREADY
    assert await get(storage, unit.row.id) == running


async def test_the_events_of_an_insert_ride_with_it(storage: AsyncStorage) -> None:
    new = row()
    told = event(new.id, type=EventType.ENQUEUED, data={"by": "alice", "n": [1, 2.5, None]})
    await apply(storage, Insert(new, events=(told,)))
    assert (await storage.read_events(EventFilter(task=new.id))).events == [told]


async def test_the_events_of_a_known_row_are_not_told_again(storage: AsyncStorage) -> None:
    first = await add(storage)
    late = event(first.id, n=7)
    assert await outcome(storage, Insert(row(id=first.id), events=(late,))) is ALREADY
    assert (await storage.read_events(EventFilter())).events == []


async def test_rows_are_given_in_the_order_asked_for(storage: AsyncStorage) -> None:
    a, b, c = [await add(storage) for _ in range(3)]
    assert await storage.get_tasks([c.id, "unknown", a.id, b.id]) == [c, a, b]
    assert await storage.get_tasks([]) == []


async def test_a_thousand_rows_go_in_by_batches(storage: AsyncStorage) -> None:
    await add_many(storage, [insert(queue=f"q{n % 2}") for n in range(1000)])
    assert await counts(storage) == {("q0", Status.READY): 500, ("q1", Status.READY): 500}


async def test_a_row_whose_time_came_while_it_was_sent_is_ready(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    unit = insert(run_at=START + 1000)
    clock.advance(2)
    assert (await storage.apply([unit])).outcome == [APPLIED]
    assert (await get(storage, unit.row.id)).status is Status.READY
