"""Group commit: one trip for what came while the last was under way."""

from __future__ import annotations

import asyncio
import random
import zlib
from typing import Any

import pytest

from omniq.errors import StorageUnavailable
from omniq.ids import uuid7
from omniq.models import Applied, Dep, Insert, Move, Receipt, Status, Unit
from omniq.models.units import is_alone
from omniq.queue.batcher import Answer, Batcher
from tests.conformance import kit

pytestmark = pytest.mark.asyncio


def move(id: str | None = None) -> Move:
    return Move(id=id or uuid7(), expect=(Status.READY,), to=Status.CANCELLED)


class Trips:
    """Takes batches one after the other; each ends when it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[Unit]] = []
        self.gate = asyncio.Event()
        self.under_way = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def send(self, units: list[Unit]) -> Receipt:
        self.batches.append(units)
        self.under_way.set()
        await self.gate.wait()
        if self.error:
            raise self.error
        return Receipt([Applied.APPLIED] * len(units))


async def test_an_idle_batcher_sends_at_once() -> None:
    trips = Trips()
    answer = await Batcher(trips.send).put(move())
    assert answer.applied is Applied.APPLIED
    assert [len(b) for b in trips.batches] == [1]


async def test_what_comes_during_a_trip_shares_the_next() -> None:
    trips = Trips()
    batcher = Batcher(trips.send)
    trips.gate.clear()
    first = asyncio.create_task(batcher.put(move()))
    await trips.under_way.wait()
    rest = [asyncio.create_task(batcher.put(move())) for _ in range(50)]
    await asyncio.sleep(0)
    trips.gate.set()
    await asyncio.gather(first, *rest)
    assert [len(b) for b in trips.batches] == [1, 50]


async def test_a_batch_has_one_unit_per_row_and_a_bound() -> None:
    trips = Trips()
    batcher = Batcher(trips.send, max_units=3)
    same = uuid7()
    await batcher.put_many([move(same), move(same), *(move() for _ in range(4))])
    assert [len(b) for b in trips.batches] == [1, 3, 2]


async def test_everyone_in_a_failed_batch_is_told_and_the_next_goes_through() -> None:
    trips = Trips()
    batcher = Batcher(trips.send)
    trips.error = StorageUnavailable("gone")
    both = await asyncio.gather(batcher.put(move()), batcher.put(move()), return_exceptions=True)
    assert [type(e) for e in both] == [StorageUnavailable, StorageUnavailable]
    trips.error = None
    assert (await batcher.put(move())).applied is Applied.APPLIED


async def test_a_full_line_makes_callers_wait_and_loses_none() -> None:
    trips = Trips()
    batcher = Batcher(trips.send, max_units=2, max_backlog=4)
    answers = await asyncio.gather(*(batcher.put(move()) for _ in range(40)))
    assert len(answers) == 40
    assert sum(len(b) for b in trips.batches) == 40


async def test_flush_waits_for_units_nobody_waits_for() -> None:
    trips = Trips()
    batcher = Batcher(trips.send)
    batcher.put_later(move())
    await batcher.flush()
    assert [len(b) for b in trips.batches] == [1]


async def test_a_caller_that_gives_up_harms_no_other() -> None:
    trips = Trips()
    batcher = Batcher(trips.send)
    trips.gate.clear()
    quitter = asyncio.create_task(batcher.put(move()))
    stayer = asyncio.create_task(batcher.put(move()))
    await trips.under_way.wait()
    quitter.cancel()
    trips.gate.set()
    assert (await stayer).applied is Applied.APPLIED


# ---- full batches of new rows, two at a time


def new(id: str | None = None, **options: Any) -> Insert:
    return Insert(kit.row(id=id or uuid7(), **options))


async def held(trips: Trips, batcher: Batcher, units: list[Unit], batches: int) -> list[Answer]:
    """Put units while no trip ends, see so many trips begin, then let them end."""
    trips.gate.clear()
    putting = asyncio.create_task(batcher.put_many(units))
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(trips.batches) == batches
    trips.gate.set()
    return await putting


async def test_full_batches_of_new_rows_go_two_at_a_time() -> None:
    trips = Trips()
    units: list[Unit] = [new() for _ in range(10)]
    answers = await held(trips, Batcher(trips.send, max_units=3, abreast=2), units, 2)
    assert [len(b) for b in trips.batches] == [3, 3, 3, 1]
    assert [unit for batch in trips.batches for unit in batch] == units
    assert [answer.applied for answer in answers] == [Applied.APPLIED] * 10


async def test_what_is_not_full_grows_until_none_is_under_way() -> None:
    trips = Trips()
    batcher = Batcher(trips.send, max_units=4, abreast=2)
    trips.gate.clear()
    putting = [asyncio.create_task(batcher.put_many([new() for _ in range(5)]))]
    await trips.under_way.wait()
    putting += [asyncio.create_task(batcher.put(new())) for _ in range(2)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(trips.batches) == 1
    trips.gate.set()
    await asyncio.gather(*putting)
    assert [len(b) for b in trips.batches] == [4, 3]


async def test_a_full_batch_that_comes_during_a_trip_goes_beside_it() -> None:
    trips = Trips()
    batcher = Batcher(trips.send, max_units=4, abreast=2)
    trips.gate.clear()
    putting = [asyncio.create_task(batcher.put_many([new() for _ in range(4)]))]
    await trips.under_way.wait()
    putting += [asyncio.create_task(batcher.put_many([new() for _ in range(4)]))]
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(trips.batches) == 2
    trips.gate.set()
    await asyncio.gather(*putting)


@pytest.mark.parametrize("abreast", [1, 2])
async def test_more_than_the_line_holds_goes_into_a_place_that_never_suspends(abreast: int) -> None:
    async def send(units: list[Unit]) -> Receipt:
        return Receipt([Applied.APPLIED] * len(units))

    batcher = Batcher(send, max_units=2, max_backlog=4, abreast=abreast)
    assert len(await batcher.put_many([new() for _ in range(11)])) == 11


async def test_what_speaks_of_other_rows_waits_for_those_before_it() -> None:
    parent = new()
    others: list[list[Unit]] = [
        [Insert(kit.row(), deps=(Dep(parent.row.id),)), new()],
        [new(unique="one"), new()],
        [move(parent.row.id), new()],
        [new(parent.row.id), new()],
    ]
    for second in others:
        trips = Trips()
        await held(trips, Batcher(trips.send, max_units=2, abreast=2), [parent, new(), *second], 1)
        assert [len(b) for b in trips.batches] == [2, 2]


async def test_a_failed_batch_beside_another_fails_its_own_callers_only() -> None:
    class Half(Trips):
        async def send(self, units: list[Unit]) -> Receipt:
            receipt = await super().send(units)
            if units[0] is broken:
                raise StorageUnavailable("gone")
            return receipt

    broken = new()
    trips = Half()
    batcher = Batcher(trips.send, max_units=2, abreast=2)
    ends = await asyncio.gather(
        batcher.put_many([broken, new()]),
        batcher.put_many([new(), new()]),
        batcher.put(new()),
        return_exceptions=True,
    )
    assert [type(end) for end in ends] == [StorageUnavailable, list, Answer]


async def test_flush_waits_for_every_batch_under_way() -> None:
    trips = Trips()
    batcher = Batcher(trips.send, max_units=2, abreast=2)
    trips.gate.clear()
    for _ in range(4):
        batcher.put_later(new())
    flushing = asyncio.create_task(batcher.flush())
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(trips.batches) == 2 and not flushing.done()
    trips.gate.set()
    await flushing


async def test_a_drain_that_is_cancelled_tells_all_whose_batch_was_under_way() -> None:
    trips = Trips()
    batcher = Batcher(trips.send, max_units=2, abreast=2)
    trips.gate.clear()
    putting = [asyncio.create_task(batcher.put_many([new(), new()])) for _ in range(4)]
    await trips.under_way.wait()
    for task in asyncio.all_tasks():
        if task.get_name() == "omniq-batcher":
            task.cancel()
    ends = await asyncio.gather(*putting, return_exceptions=True)
    assert [type(end) for end in ends] == [asyncio.CancelledError] * 4


async def test_a_drain_that_is_cancelled_before_it_began_leaves_nobody_behind() -> None:
    trips = Trips()
    batcher = Batcher(trips.send)
    early = asyncio.create_task(batcher.put(move()))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks():
        if task.get_name() == "omniq-batcher":
            task.cancel()
    await asyncio.sleep(0)
    assert (await batcher.put(move())).applied is Applied.APPLIED
    assert (await early).applied is Applied.APPLIED


# ---- in any order


class Place:
    """Suspends now and then, fails now and then, and looks at what is under way together."""

    def __init__(self, chance: random.Random, abreast: int) -> None:
        self.chance, self.abreast = chance, abreast
        self.under_way: list[list[Unit]] = []
        self.stored: list[Unit] = []

    async def send(self, units: list[Unit]) -> Receipt:
        together = [*self.under_way, units]
        every = [unit for batch in together for unit in batch]
        assert len(together) <= self.abreast
        assert len(together) == 1 or all(map(is_alone, every))
        assert len({about(unit) for unit in every}) == len(every)
        self.under_way.append(units)
        self.stored += units
        try:
            for _ in range(self.chance.choice([0, 0, 1, 2, 9])):
                await asyncio.sleep(0)
            if self.chance.random() < 0.1:
                raise StorageUnavailable("gone")
            return Receipt([answer_to(unit) for unit in units])
        finally:
            self.under_way.remove(units)


def about(unit: Unit) -> str:
    assert isinstance(unit, Insert | Move)
    return unit.row.id if isinstance(unit, Insert) else unit.id


def answer_to(unit: Unit) -> Applied:
    return (Applied.APPLIED, Applied.ALREADY, Applied.REFUSED)[zlib.crc32(about(unit).encode()) % 3]


@pytest.mark.parametrize("seed", range(40))
async def test_everyone_is_told_of_their_own_once_whatever_comes_together(seed: int) -> None:
    chance = random.Random(seed)
    place = Place(chance, chance.choice([1, 2, 3]))
    batcher = Batcher(
        place.send,
        max_units=chance.choice([1, 2, 3, 5]),
        max_backlog=chance.choice([5, 8, 30]),
        abreast=place.abreast,
    )
    known = [uuid7() for _ in range(12)]

    def unit() -> Unit:
        kind = chance.random()
        if kind < 0.8:
            return new(None if kind < 0.6 else chance.choice(known))
        if kind < 0.9:
            return move(chance.choice(known))
        return Insert(kit.row(), deps=(Dep(chance.choice(known)),))

    async def caller() -> None:
        for _ in range(chance.randrange(15)):
            await asyncio.sleep(0)
        units = [unit() for _ in range(chance.choice([1, 2, 7, 20, 45]))]
        try:
            answers = await batcher.put_many(units)
        except StorageUnavailable:
            return
        assert [answer.applied for answer in answers] == list(map(answer_to, units))
        places = [at for each in units for at, unit in enumerate(place.stored) if unit is each]
        assert len(places) == len(units), "each is sent once"
        assert places == sorted(places)

    callers = [asyncio.create_task(caller()) for _ in range(chance.randint(3, 20))]
    quitter = chance.choice(callers)
    for _ in range(chance.randrange(20)):
        await asyncio.sleep(0)
    quitter.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait(callers)
        await batcher.flush()
    for each in callers:
        if each is not quitter:
            each.result()
