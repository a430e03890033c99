"""A worker whose store is away: what it says of it, and how long its stop waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from omniq import AsyncOmniQ, task
from omniq.errors import StorageUnavailable
from omniq.ids import uuid7
from omniq.models import Status
from omniq.models.filters import Batch, Claim, Held, HeldTask
from omniq.models.row import Doc, TaskRow
from omniq.models.units import Move, Receipt, Unit
from omniq.queue import waiting
from omniq.storage.memory import AsyncMemoryStorage
from omniq.workers import pool, pump
from tests.waiting import until

pytestmark = pytest.mark.asyncio


class Leaving(AsyncMemoryStorage):
    """Memory that can be away; every worker's call is counted that finds it so."""

    away = False
    missed = 0

    def _at_home(self) -> None:
        if self.away:
            self.missed += 1
            raise StorageUnavailable("gone for a walk")

    async def apply(self, units: Sequence[Unit]) -> Receipt:
        self._at_home()
        return await super().apply(units)

    async def exchange(self, units: Sequence[Unit], claim: Claim) -> tuple[Receipt, Batch]:
        self._at_home()
        return await super().exchange(units, claim)

    async def extend(self, owner: str, lease: int, held: Sequence[HeldTask]) -> Held:
        self._at_home()
        return await super().extend(owner, lease, held)

    async def get_tasks(self, ids: Sequence[str]) -> list[TaskRow]:
        self._at_home()
        return await super().get_tasks(ids)


@pytest.fixture
def place() -> Leaving:
    return Leaving()


@pytest.fixture
async def queue(
    place: Leaving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncOmniQ]:
    monkeypatch.setattr(pump, "AGAIN", 0.001)  # the pause that spares a real server
    async with AsyncOmniQ(task_queue=place, base_dir=tmp_path, lease=60) as queue:
        yield queue
        place.away = False


def slowed(place: Leaving, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """The first is set when the place is told of an end; it hears of it when the second is."""
    told, heard = asyncio.Event(), asyncio.Event()

    def slow(call: Any) -> Any:
        async def later(units: Sequence[Unit], *more: Any) -> Any:
            if any(isinstance(unit, Move) for unit in units):
                told.set()
                await heard.wait()
            return await call(units, *more)

        return later

    monkeypatch.setattr(place, "apply", slow(place.apply))
    monkeypatch.setattr(place, "exchange", slow(place.exchange))
    return told, heard


async def test_an_outage_is_no_stream_of_warnings(
    place: Leaving, queue: AsyncOmniQ, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="omniq.worker"):
        await queue.start_worker()
        place.away = True
        await until(lambda: place.missed > 100)
        place.away = False
        await until(lambda: "answers again" in caplog.text)
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert said[0] == "the store does not answer, trying again: gone for a walk"
    assert said[-1].startswith("the store answers again, after ")
    assert len(said) < 10, "a hundred tries, and few words"


async def test_nor_is_it_where_results_are_waited_for(
    place: Leaving,
    queue: AsyncOmniQ,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(waiting, "POLL", 0.001)
    queue.embedded = False
    handle = await queue.enqueue(asyncio.sleep, (0, "rested"))
    result = asyncio.create_task(handle.result(60))
    with caplog.at_level(logging.INFO, logger="omniq.queue"):
        place.away = True
        await until(lambda: place.missed > 100)
        place.away = False
        await until(lambda: "answers again" in caplog.text)
    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert said[0] == "results cannot be waited for, trying again: gone for a walk"
    assert said[-1].startswith("the store answers again, after ") and len(said) < 10
    await queue.start_worker()
    assert await result == "rested"


async def test_a_stop_does_not_wait_for_a_store_it_owes_nothing(
    place: Leaving, queue: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LEAVING", 600.0)
    monkeypatch.setattr(pool, "LEAVING_IN_VAIN", 0.01)
    await queue.start_worker()
    place.away = True
    await until(lambda: place.missed > 2)
    await asyncio.wait_for(queue.stop_worker(), 30)


async def test_a_stop_does_not_wait_for_a_store_that_hangs(
    place: Leaving, queue: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen server refuses nothing: nobody is told that it is away."""
    monkeypatch.setattr(pool, "LEAVING", 600.0)
    monkeypatch.setattr(pool, "LEAVING_IN_VAIN", 0.01)
    monkeypatch.setattr(pump, "MUTE", 0.0)
    asked, answer = asyncio.Event(), asyncio.Event()

    async def exchange(units: Sequence[Unit], claim: Claim) -> tuple[Receipt, Batch]:
        asked.set()
        await answer.wait()
        raise StorageUnavailable("too late")

    await queue.start_worker()
    monkeypatch.setattr(place, "exchange", exchange)
    await asyncio.wait_for(asked.wait(), 60)
    await asyncio.wait_for(queue.stop_worker(), 30)


async def test_a_stop_waits_longer_for_a_store_that_is_to_hear_how_tasks_ended(
    place: Leaving, queue: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LEAVING", 600.0)
    monkeypatch.setattr(pool, "LEAVING_IN_VAIN", 0.01)
    entered, may_end = asyncio.Event(), asyncio.Event()

    @task(f"tests.{uuid7()}")
    async def hold() -> str:
        entered.set()
        await may_end.wait()
        return "done"

    handle = await queue.enqueue(hold)
    await asyncio.wait_for(entered.wait(), 60)
    place.away = True
    may_end.set()
    await until(lambda: place.missed > 2)
    stopping = asyncio.create_task(queue.stop_worker())
    missed = place.missed
    await until(lambda: place.missed > missed + 50)
    assert not stopping.done()
    place.away = False
    await asyncio.wait_for(stopping, 30)
    row = (await queue.info(handle)).row
    assert (row.status, row.attempt) == (Status.SUCCEEDED, 1)


async def test_a_stop_waits_for_an_end_that_is_on_its_way(
    place: Leaving, queue: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is slow, not away, and nobody knows which."""
    monkeypatch.setattr(pool, "LEAVING", 600.0)
    monkeypatch.setattr(pool, "LEAVING_IN_VAIN", 0.01)
    monkeypatch.setattr(pump, "MUTE", 0.0)
    told, heard = slowed(place, monkeypatch)
    handle = await queue.enqueue(asyncio.sleep, (0, "rested"))
    await asyncio.wait_for(told.wait(), 60)
    stopping = asyncio.create_task(queue.stop_worker())
    done, _ = await asyncio.wait([stopping], timeout=0.2)  # twenty times what it waits in vain
    assert not done
    heard.set()
    await asyncio.wait_for(stopping, 30)
    assert (await queue.info(handle)).row.status is Status.SUCCEEDED


async def test_what_ended_is_not_given_back_while_the_store_is_slow_to_hear_of_it(
    place: Leaving,
    queue: AsyncOmniQ,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor however often the heart beats meanwhile, as on SQLite whenever anybody writes."""
    told, heard = slowed(place, monkeypatch)
    beats = 0
    heard_of = pool.Pool._heard

    def counted(self: pool.Pool, said: Sequence[HeldTask], held: Held) -> None:
        nonlocal beats
        assert held.unknown, "leased to the worker, and it runs no more"
        beats += 1
        heard_of(self, said, held)

    monkeypatch.setattr(pool.Pool, "_heard", counted)
    worker = await queue.start_worker()
    handle = await queue.enqueue(asyncio.sleep, (0, "rested"))
    await asyncio.wait_for(told.wait(), 60)
    assert worker._pool._beat is not None
    for beat in range(1, 6):
        worker._pool._beat.now()
        await until(lambda beat=beat: beats >= beat)
    heard.set()
    assert await handle.result(30) == "rested"
    await queue.stop_worker()
    assert "taken over" not in caplog.text


async def test_what_a_claim_brings_after_the_stop_began_is_given_back(
    place: Leaving, queue: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim was under way for longer than the grace; its tasks would run for an hour."""
    monkeypatch.setattr(pool, "LEAVING", 600.0)
    claimed, answer = asyncio.Event(), asyncio.Event()
    exchange = place.exchange

    async def slow(units: Sequence[Unit], claim: Claim) -> tuple[Receipt, Batch]:
        receipt, batch = await exchange(units, claim)
        if batch.tasks:
            claimed.set()
            await answer.wait()
        return receipt, batch

    monkeypatch.setattr(place, "exchange", slow)
    worker = await queue.start_worker()
    handle = await queue.enqueue(asyncio.sleep, (3600,))
    await asyncio.wait_for(claimed.wait(), 60)
    told = asyncio.Event()
    monkeypatch.setattr(worker._pool._pump, "give_back_rest", told.set)
    stopping = asyncio.create_task(worker.stop(0))
    await asyncio.wait_for(told.wait(), 60)
    answer.set()
    await asyncio.wait_for(stopping, 30)
    row = (await queue.info(handle)).row
    assert (row.status, row.attempt) == (Status.READY, 0)


@pytest.mark.parametrize("fails", [True, False], ids=["failed", "given back"])
async def test_a_stop_waits_for_a_store_that_is_to_hear_of_a_way_back(
    place: Leaving, queue: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Else an attempt's error would be lost, or a task that was only stopped count as lost."""
    monkeypatch.setattr(pool, "LEAVING", 600.0)
    monkeypatch.setattr(pool, "LEAVING_IN_VAIN", 0.01)
    entered, may_end = asyncio.Event(), asyncio.Event()

    @task(f"tests.{uuid7()}", retries=3)
    async def hold() -> None:
        entered.set()
        await may_end.wait()
        raise ValueError("no")

    handle = await queue.enqueue(hold)
    worker = await queue.start_worker()
    await asyncio.wait_for(entered.wait(), 60)
    place.away = True
    if fails:
        may_end.set()
        await until(lambda: not worker.running)
    stopping = asyncio.create_task(worker.stop(0))
    missed = place.missed
    await until(lambda: not worker.running and place.missed > missed + 50)
    assert not stopping.done()
    place.away = False
    await asyncio.wait_for(stopping, 30)
    row = (await queue.info(handle)).row
    assert row.status is (Status.SCHEDULED if fails else Status.READY)
    assert (row.attempt, row.losses) == (1 if fails else 0, 0)


async def test_a_wait_given_up_leaves_no_outage_behind(
    place: Leaving,
    queue: AsyncOmniQ,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = await queue.start_worker()
    asked = asyncio.Event()
    get_docs = place.get_docs

    async def none(kind: str, **more: Any) -> list[Doc]:
        if kind != "queue":
            return await get_docs(kind, **more)
        asked.set()
        raise StorageUnavailable("no names")

    monkeypatch.setattr(place, "get_docs", none)
    waiting = asyncio.create_task(worker.emptied())
    await asyncio.wait_for(asked.wait(), 60)
    await until(lambda: "no names" in caplog.text)
    waiting.cancel()
    await asyncio.wait([waiting])
    monkeypatch.setattr(place, "get_docs", get_docs)
    caplog.clear()
    place.away = True
    await until(lambda: place.missed > 2)
    assert "trying again" in caplog.text, "this outage is another one"
    place.away = False
    await until(lambda: "answers again" in caplog.text)


async def test_ends_the_store_never_heard_of_are_said(
    place: Leaving,
    queue: AsyncOmniQ,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(pool, "LEAVING", 0.01)
    may_end = asyncio.Event()

    @task(f"tests.{uuid7()}")
    async def hold() -> None:
        await may_end.wait()

    await queue.enqueue(hold)
    worker = await queue.start_worker()
    await until(lambda: worker.running)
    place.away = True
    may_end.set()
    await until(lambda: place.missed > 2)
    with caplog.at_level(logging.WARNING, logger="omniq.worker"):
        await queue.stop_worker()
    assert "the store may not have heard what became of 1 task" in caplog.text
