"""Events: kept once, in the order they came, read on from a cursor."""

from __future__ import annotations

import pytest

from omniq.clock import ManualClock
from omniq.models import EventType, PutEvents, TaskEvent
from omniq.models.filters import EventFilter
from omniq.storage.base import AsyncStorage

from .conftest import MakeStorage
from .kit import (
    APPLIED,
    SECOND,
    START,
    add_running,
    apply,
    event,
    finish,
    outcome,
    settle,
    task_id,
)

pytestmark = pytest.mark.asyncio


async def test_events_are_read_in_the_order_they_were_stored(storage: AsyncStorage) -> None:
    """Not by their stamps: clocks of hosts differ."""
    told = [event("t", n, at=START - n) for n in range(5)]
    await _tell(storage, *told[:2])
    await _tell(storage, *told[2:])
    assert await _read(storage) == told


async def test_every_field_of_an_event_is_kept(storage: AsyncStorage) -> None:
    told = TaskEvent(
        task=task_id(),
        epoch=3,
        n=2,
        at=START,
        type=EventType.ERROR,
        queue="mail",
        name="app:send",
        worker="w1",
        data={"type": "ValueError", "ok": False, "n": 1.5, "list": [1, None, {"a": "ü"}]},
        keep_until=START + SECOND,
    )
    await _tell(storage, told)
    assert await _read(storage) == [told]


async def test_an_event_sent_twice_is_kept_once(storage: AsyncStorage) -> None:
    """Its identity is (task, epoch, n); what came first stays."""
    first = event("t", 1, epoch=1, data={"v": 1})
    await _tell(storage, first, first)
    assert await outcome(storage, PutEvents((first,))) is APPLIED
    await _tell(storage, event("t", 1, epoch=1, data={"v": 2}))
    others = [event("t", 2, epoch=1), event("t", 1, epoch=2), event("u", 1, epoch=1)]
    await _tell(storage, *others)
    assert await _read(storage) == [first, *others]


async def test_events_of_units_ride_in_the_order_of_the_batch(storage: AsyncStorage) -> None:
    one, two = await add_running(storage), await add_running(storage)
    told = [event(two.id, 1), event(two.id, 2), event(one.id, 1)]
    await apply(storage, finish(two, events=(told[0], told[1])), finish(one, events=(told[2],)))
    assert await _read(storage) == told


async def test_an_event_that_rides_again_is_kept_once(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    told = event(task.id, 1, epoch=1)
    await _tell(storage, told)
    await apply(storage, settle(task, None, {"progress": b"1"}, events=(told,)))
    assert await _read(storage) == [told]


async def test_a_cursor_goes_on_behind_the_last_one_read(storage: AsyncStorage) -> None:
    told = [event("t", n) for n in range(7)]
    await _tell(storage, *told)
    seen: list[TaskEvent] = []
    cursor: str | None = None
    for size in (3, 3, 1):
        page = await storage.read_events(EventFilter(), after=cursor, limit=3)
        assert len(page.events) == size
        seen += page.events
        cursor = page.cursor
    assert seen == told


async def test_a_cursor_is_given_even_when_nothing_is_left(storage: AsyncStorage) -> None:
    told = [event("t", n) for n in range(4)]
    await _tell(storage, *told[:2])
    cursor = (await storage.read_events(EventFilter())).cursor
    assert cursor is not None
    empty = await storage.read_events(EventFilter(), after=cursor)
    assert empty.events == []
    assert empty.cursor is not None
    await _tell(storage, *told[2:])
    assert (await storage.read_events(EventFilter(), after=empty.cursor)).events == told[2:]


async def test_a_reader_of_an_empty_place_sees_what_comes(storage: AsyncStorage) -> None:
    page = await storage.read_events(EventFilter())
    assert page.events == []
    await _tell(storage, event("t"))
    assert (await storage.read_events(EventFilter(), after=page.cursor)).events == [event("t")]


async def test_a_cursor_is_good_at_every_client(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await _tell(one, event("t", 1))
    cursor = (await one.read_events(EventFilter())).cursor
    await _tell(other, event("t", 2))
    assert (await other.read_events(EventFilter(), after=cursor)).events == [event("t", 2)]
    assert (await one.read_events(EventFilter(), after=cursor)).events == [event("t", 2)]


async def test_the_newest_may_come_first_and_pages_go_back(storage: AsyncStorage) -> None:
    told = [event("t", n) for n in range(5)]
    await _tell(storage, *told)
    newest = EventFilter(newest_first=True)
    page = await storage.read_events(newest, limit=2)
    assert page.events == [told[4], told[3]]
    page = await storage.read_events(newest, after=page.cursor, limit=2)
    assert page.events == [told[2], told[1]]
    page = await storage.read_events(newest, after=page.cursor, limit=2)
    assert page.events == [told[0]]


FIELDS: list[tuple[EventFilter, list[int]]] = [
    (EventFilter(), [0, 1, 2, 3]),
    (EventFilter(task="a"), [0, 1]),
    (EventFilter(types=(EventType.COMPLETE,)), [1, 3]),
    (EventFilter(types=(EventType.COMPLETE, EventType.RETRY)), [1, 2, 3]),
    (EventFilter(queues=("mail",)), [2]),
    (EventFilter(queues=("mail", "q")), [0, 1, 2, 3]),
    (EventFilter(names=("app:x", "app:y")), [2, 3]),
    (EventFilter(at_from=START + 2), [2, 3]),
    (EventFilter(task="b", types=(EventType.COMPLETE,), at_from=START + 1), [3]),
    (EventFilter(task="b", newest_first=True), [3, 2]),
    (EventFilter(task="nobody"), []),
]


@pytest.mark.parametrize(("filter", "wanted"), FIELDS, ids=range(len(FIELDS)))
async def test_every_field_of_a_filter_must_match(
    storage: AsyncStorage, filter: EventFilter, wanted: list[int]
) -> None:
    told = [
        event("a", 1, at=START),
        event("a", 2, at=START + 1, type=EventType.COMPLETE),
        event("b", 1, at=START + 2, type=EventType.RETRY, queue="mail", name="app:x"),
        event("b", 2, at=START + 3, type=EventType.COMPLETE, name="app:y"),
    ]
    await _tell(storage, *told)
    assert await _read(storage, filter) == [told[n] for n in wanted]


async def test_a_filtered_reader_pages_through_what_it_does_not_want(
    storage: AsyncStorage,
) -> None:
    told = [event("x" if n % 50 else "wanted", n) for n in range(400)]
    await _tell(storage, *told)
    seen: list[int] = []
    cursor: str | None = None
    for _ in range(9):
        page = await storage.read_events(EventFilter(task="wanted"), after=cursor, limit=3)
        seen += [e.n for e in page.events]
        cursor = page.cursor
    assert seen == list(range(0, 400, 50))


async def test_events_past_their_time_are_swept(storage: AsyncStorage, clock: ManualClock) -> None:
    short, long = event("t", 1, keep_until=START + SECOND), event("t", 2)
    await _tell(storage, short, long)
    await storage.sweep()
    assert await _read(storage) == [short, long]
    clock.advance(2)
    await storage.sweep()
    assert await _read(storage) == [long]


async def _tell(storage: AsyncStorage, *told: TaskEvent) -> None:
    await apply(storage, PutEvents(told))


async def _read(storage: AsyncStorage, filter: EventFilter | None = None) -> list[TaskEvent]:
    return (await storage.read_events(filter or EventFilter(), limit=1000)).events
