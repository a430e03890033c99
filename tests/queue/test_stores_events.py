"""Events at a place of their own: told after the commit, kept while it is down, never in the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from omniq.clock import ManualClock
from omniq.errors import ConfigError, OmniQError, StorageClosed, StorageError, StorageUnavailable
from omniq.models import Applied, EventType, Move, PutDoc, PutEvents, Status, TaskEvent
from omniq.models.filters import EventFilter
from omniq.queue import outbox as outboxes
from omniq.queue.spool import Spool, Spooled
from omniq.queue.stores import Stores
from tests.conformance.kit import START, claim, event, fence, finish, insert, retry, settle
from tests.queue.apart import Apart, apart, unlooked
from tests.waiting import until

pytestmark = pytest.mark.asyncio
NEWEST = EventFilter(newest_first=True)


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def spool(tmp_path: Path) -> Spooled:
    return Spooled(tmp_path / "base" / "spool")


@pytest_asyncio.fixture
async def places(
    kind: str, tmp_path: Path, clock: ManualClock, spool: Spooled
) -> AsyncIterator[Apart]:
    places = apart(kind, tmp_path, clock, spool=spool)
    await places.stores.open()
    yield places
    await places.stores.close()


@pytest_asyncio.fixture
async def spoolless(kind: str, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Apart]:
    places = apart(kind, tmp_path, clock)
    await places.stores.open()
    yield places
    await places.stores.close()


def files(spool: Spooled) -> list[Path]:
    return [path for path in spool.folder.rglob("*") if path.is_file()]


async def told(places: Apart, filter: EventFilter | None = None) -> list[TaskEvent]:
    found = await places.stores.read_events(filter or EventFilter(), limit=100_000)
    return found.events


async def stored(places: Apart) -> list[TaskEvent]:
    """What stands at the place itself, in the order in which it came."""
    return (await places.events.read_events(EventFilter(), limit=100_000)).events


def healthy(places: Apart) -> bool:
    outbox = places.stores._outbox
    return outbox is not None and outbox.breaker.up


# ---- what is told


async def test_events_are_at_their_place_and_not_with_tasks(places: Apart) -> None:
    unit = insert()
    enqueued = event(unit.row.id)
    await places.stores.apply([insert(id=unit.row.id, events=(enqueued,))])
    assert await told(places) == [enqueued]
    assert (await places.tasks.read_events(EventFilter())).events == []


async def test_events_of_riders_are_told_too(places: Apart) -> None:
    """Of what a unit brings with it, at any depth."""
    a, b, c, d = (event("subject", n) for n in range(4))
    doc = PutDoc(kind="k", key="1", value=b"", events=(b,), spawn=(insert(events=(c,)),))
    first = insert(events=(a,))
    await places.stores.apply([first])
    [row] = (await places.tasks.claim(claim())).tasks
    done = finish(row, docs=(doc,), spawn=(insert(events=(d,)),))
    assert (await places.stores.apply([done])).riders_refused == {}
    assert sorted(e.n for e in await told(places)) == [0, 1, 2, 3]
    assert (await places.tasks.read_events(EventFilter())).events == []


async def test_what_is_refused_tells_nothing(places: Apart) -> None:
    await places.stores.apply([insert()])
    [row] = (await places.tasks.claim(claim())).tasks
    late = Move(
        id=row.id,
        expect=(Status.RUNNING,),
        fence=fence(row)._replace(epoch=9),
        to=Status.FAILED,
        events=(event(row.id, 1),),
    )
    receipt = await places.stores.apply([late, PutEvents((event("w"),))])
    assert receipt.outcome == [Applied.REFUSED, Applied.APPLIED]
    assert [e.task for e in await told(places)] == ["w"]


async def test_an_end_whose_answer_was_lost_tells_its_events_once(
    places: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent again it is refused, yet it happened."""
    await places.stores.apply([insert()])
    [row] = (await places.tasks.claim(claim())).tasks
    move = finish(row, patch={"finished_at": START}, events=(event(row.id, 1, epoch=1),))
    real = places.tasks.apply

    async def cut(units: object) -> object:
        await real(units)  # type: ignore[arg-type]
        raise StorageUnavailable("the answer is lost")

    monkeypatch.setattr(places.tasks, "apply", cut)
    with pytest.raises(StorageUnavailable):
        await places.stores.apply([move])
    monkeypatch.setattr(places.tasks, "apply", real)
    for _ in range(2):
        assert (await places.stores.apply([move])).outcome == [Applied.REFUSED]
    assert await told(places) == list(move.events)


async def test_an_insert_whose_answer_was_lost_tells_its_events_once(places: Apart) -> None:
    unit = insert(events=(event("t"),))
    for _ in range(2):
        await places.stores.apply([unit])
    assert await told(places) == [event("t")]


async def test_an_end_that_never_was_tells_nothing(
    places: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trip got lost on its way, and others took the task over before it was sent again."""
    await places.stores.apply([insert()])
    [row] = (await places.tasks.claim(claim())).tasks
    move = finish(row, patch={"finished_at": START}, events=(event(row.id, 1, epoch=1),))

    async def lost(units: object) -> object:
        raise StorageUnavailable("lost on its way")

    with monkeypatch.context() as patched:
        patched.setattr(places.tasks, "apply", lost)
        with pytest.raises(StorageUnavailable):
            await places.stores.apply([move])
    await places.tasks.apply([settle(row, Status.READY)])
    assert (await places.stores.apply([move])).outcome == [Applied.REFUSED]
    assert await told(places) == []


async def test_one_tasks_events_are_in_their_own_order(places: Apart) -> None:
    """Whichever process told first: order is by run and number."""
    order = [event("t", 0), event("t", 1, epoch=1), event("t", 2, epoch=1), event("t", 1, epoch=2)]
    for one in reversed(order):
        await places.stores.apply([PutEvents((one,))])
    assert await told(places, EventFilter(task="t")) == order
    assert await told(places, EventFilter(task="t", newest_first=True)) == order[::-1]


async def test_whoever_listens_hears_of_both_places(places: Apart) -> None:
    async with places.stores.listen({"events", "tasks"}) as ear:
        await places.stores.apply([insert()])
        assert await ear.wait(20) == {"tasks"}
        await places.stores.apply([PutEvents((event("t"),))])
        assert await ear.wait(20) == {"events"}
        assert await ear.wait(0.01) == set()
        ear.discard("tasks")
        ear.discard("events")
        ear.add("docs:k")
        await places.stores.apply([PutDoc(kind="k", key="1", value=b"")])
        assert await ear.wait(20) == {"docs:k"}


# ---- while it is down


async def test_events_are_kept_and_told_in_order_when_the_place_is_back(
    places: Apart, spool: Spooled, caplog: pytest.LogCaptureFixture
) -> None:
    every = [event("t", n) for n in range(30)]
    with caplog.at_level(logging.INFO, "omniq.storage"):
        for n, one in enumerate(every):
            if n == 10:
                places.no_events.down()
            if n == 20:
                assert files(spool)
                places.no_events.up()
            await places.stores.apply([PutEvents((one,))])
        await until(lambda: healthy(places))
    assert await stored(places) == every
    said = [r.levelname for r in caplog.records if "place of events" in r.getMessage()]
    assert said == ["WARNING", "INFO"]
    assert not [path for path in files(spool) if path.suffix == ".spool"]


async def test_a_dead_place_costs_its_time_once(places: Apart) -> None:
    outbox = places.stores._outbox
    assert outbox is not None
    may_look = unlooked(outbox.breaker)
    outbox.breaker._patience = 0.05
    places.no_events.hangs = True
    before = places.no_events.asked
    for n in range(50):
        await places.stores.apply([PutEvents((event("t", n),))])
    assert places.no_events.asked - before == 1, "the first"
    outbox.breaker._patience = 10.0
    places.no_events.up()
    may_look.set()
    await until(lambda: healthy(places))
    assert await stored(places) == [event("t", n) for n in range(50)]


@pytest.mark.parametrize("error", [ConfigError("wrong password"), StorageUnavailable("gone")])
async def test_whatever_the_place_says_tasks_go_on(places: Apart, error: OmniQError) -> None:
    places.no_events.off = error
    unit = insert(events=(event("t"),))
    assert (await places.stores.apply([unit])).outcome == [Applied.APPLIED]
    _, batch = await places.stores.exchange([], claim())
    assert len(batch.tasks) == 1
    places.no_events.up()
    await until(lambda: healthy(places))
    assert await stored(places) == [event("t")]


async def test_an_event_nobody_takes_holds_up_no_other(
    places: Apart, spool: Spooled, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = places.events.apply

    async def picky(units: list[PutEvents]) -> object:
        if any(e.task == "odd" for unit in units for e in unit.events):
            raise StorageError("I do not like it")
        return await real(units)

    monkeypatch.setattr(places.events, "apply", picky)
    many = tuple(event("odd" if n == 3 else "t", n) for n in range(6))
    await places.stores.apply([PutEvents(many)])
    await until(lambda: healthy(places))
    assert [e.n for e in await stored(places)] == [0, 1, 2, 4, 5]
    [aside] = [path for path in files(spool) if path.suffix == ".refused"]
    assert "I do not like it" in caplog.text
    assert str(aside) in caplog.text


async def test_what_a_closed_queue_left_is_told_by_the_next(
    kind: str, tmp_path: Path, clock: ManualClock, spool: Spooled
) -> None:
    first = apart("sqlite", tmp_path, clock, spool=spool)
    await first.stores.open()
    first.no_events.down()
    for n in range(5):
        await first.stores.apply([PutEvents((event("t", n),))])
    await first.stores.close()
    assert files(spool)
    second = apart("sqlite", tmp_path, clock, spool=spool)
    await second.stores.open()
    await second.stores.apply([PutEvents((event("t", 5),))])
    await until(lambda: healthy(second))
    assert await stored(second) == [event("t", n) for n in range(6)]
    await second.stores.close()


async def test_a_sweep_adopts_what_another_process_left(
    tmp_path: Path, clock: ManualClock, spool: Spooled
) -> None:
    lives = apart("sqlite", tmp_path, clock, spool=spool)
    await lives.stores.open()
    ends = apart("sqlite", tmp_path, clock, spool=spool)
    await ends.stores.open()
    ends.no_events.down()
    await ends.stores.apply([PutEvents((event("t"),))])
    await ends.stores.close()
    await lives.stores.sweep()
    await until(lambda: healthy(lives))
    assert await stored(lives) == [event("t")]
    await lives.stores.close()


async def test_events_of_one_place_are_not_sent_to_another(
    tmp_path: Path, clock: ManualClock, spool: Spooled
) -> None:
    """Two queues may share their base directory."""
    one = apart("sqlite", tmp_path / "one", clock, spool=spool)
    await one.stores.open()
    one.no_events.down()
    await one.stores.apply([PutEvents((event("t"),))])
    await one.stores.close()
    other = apart("sqlite", tmp_path / "other", clock, spool=spool)
    await other.stores.open()
    await other.stores.sweep()
    assert await stored(other) == []
    await other.stores.close()
    assert files(spool)


async def test_reading_events_of_a_place_that_is_down_says_so(places: Apart) -> None:
    places.no_events.down()
    with pytest.raises(StorageUnavailable, match="the cable is out"):
        await told(places)


# ---- back-pressure


async def test_a_full_spool_makes_tasks_wait_and_loses_nothing(
    kind: str,
    tmp_path: Path,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outboxes, "_AGAIN", 0.001)
    spool = Spooled(tmp_path / "base" / "spool", 2000)
    places = apart(kind, tmp_path, clock, spool=spool)
    await places.stores.open()
    places.no_events.down()
    every = [event("t", n) for n in range(200)]
    done = looked = 0
    full = Spool.full.fget
    assert full is not None

    def counted(spool: Spool) -> bool:
        nonlocal looked
        looked += 1
        return full(spool)

    monkeypatch.setattr(Spool, "full", property(counted))

    async def tell() -> None:
        nonlocal done
        for one in every:
            await places.stores.apply([PutEvents((one,))])
            done += 1

    telling = asyncio.create_task(tell())
    await until(lambda: "is full" in caplog.text)
    kept = done
    assert 0 < kept < 100
    assert sum(path.stat().st_size for path in files(spool) if path.suffix == ".spool") < 3000
    # What has no event goes on: claims, heartbeats, and at most levels nearly everything.
    assert (await places.stores.apply([insert()])).outcome == [Applied.APPLIED]
    looked = 0
    await until(lambda: looked > 10)
    assert done == kept
    assert caplog.text.count("is full") == 1
    places.no_events.up()
    await telling
    await until(lambda: healthy(places))
    assert await stored(places) == every
    await places.stores.close()


async def test_a_settle_that_waits_has_committed_nothing(spoolless: Apart) -> None:
    """Without a spool at all: the task is still its worker's, and a claim has handed out none."""
    places = spoolless
    await places.stores.apply([insert()])
    [row] = (await places.tasks.claim(claim())).tasks
    await places.stores.apply([insert()])
    places.no_events.down()
    outbox = places.stores._outbox
    assert outbox is not None
    outbox.breaker.fell(StorageUnavailable("down"))
    move = finish(row, events=(event(row.id, 1),))
    waiting = asyncio.create_task(places.stores.exchange([move], claim()))
    await until(lambda: outbox._crowded)  # it has looked for room
    assert not waiting.done()
    statuses = {c.status: c.count for c in await places.tasks.count_tasks()}
    assert statuses == {Status.RUNNING: 1, Status.READY: 1}
    places.no_events.up()
    receipt, batch = await waiting
    assert receipt.outcome == [Applied.APPLIED]
    assert len(batch.tasks) == 1
    assert await stored(places) == list(move.events)


async def test_who_waits_when_the_queue_closes_is_told_so(
    kind: str, tmp_path: Path, clock: ManualClock
) -> None:
    places = apart(kind, tmp_path, clock)
    await places.stores.open()
    places.no_events.down()
    waiting = asyncio.create_task(places.stores.apply([PutEvents((event("t"),))]))
    await until(lambda: not healthy(places))
    await places.stores.close()
    with pytest.raises(StorageClosed):
        await waiting


async def test_two_roles_may_share_the_far_place(
    kind: str, tmp_path: Path, clock: ManualClock, spool: Spooled
) -> None:
    places = apart(kind, tmp_path, clock)
    stores = Stores(places.tasks, places.results, places.results, spool=spool)
    async with asyncio.timeout(60):
        await stores.open()
        await stores.apply([insert()])
        [row] = (await places.tasks.claim(claim())).tasks
        await stores.apply([finish(row, b"v", events=(event(row.id, 1),))])
        [ended] = await places.tasks.get_tasks([row.id])
        assert (await stores.read_results([ended]))[row.id].value == b"v"
        assert (await stores.read_events(EventFilter())).events == [event(row.id, 1)]
        assert await stores.sweep() == 0
        await stores.close()


async def test_a_retry_tells_of_the_attempt_at_the_other_place(places: Apart) -> None:
    await places.stores.apply([insert()])
    [row] = (await places.tasks.claim(claim())).tasks
    failed = event(row.id, 1, epoch=1, type=EventType.ERROR)
    again = event(row.id, 2, epoch=1, type=EventType.RETRY)
    await places.stores.apply([retry(row, START, events=(failed, again))])
    assert await told(places, EventFilter(task=row.id)) == [failed, again]
