"""Callers who wait for results a moment at a time, one after the other, while the store is away."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Sequence
from functools import partial

import pytest
import pytest_asyncio

from omniq.errors import StorageUnavailable
from omniq.ids import uuid7
from omniq.models.row import TaskRow
from omniq.queue import waiting
from omniq.queue.outage import Outage
from omniq.queue.stores import Stores
from omniq.queue.waiting import Waiter
from omniq.storage.memory import AsyncMemoryStorage
from tests.waiting import until

pytestmark = pytest.mark.asyncio


class Leaving(AsyncMemoryStorage):
    """Memory whose tasks cannot be read while it is away; every try is counted."""

    away = False
    missed = 0

    async def get_tasks(self, ids: Sequence[str]) -> list[TaskRow]:
        if self.away:
            self.missed += 1
            raise StorageUnavailable("gone for a walk")
        return await super().get_tasks(ids)


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Leaving]:
    async with Leaving() as place:
        yield place


@pytest_asyncio.fixture
async def waiter(
    place: Leaving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Waiter]:
    monkeypatch.setattr(waiting, "POLL", 0.001)
    # However slow this machine is: nothing is told again for having lasted so long.
    monkeypatch.setattr(waiting, "Outage", partial(Outage, now=lambda: 100.0))
    waiter = Waiter(Stores(place), "client")
    with caplog.at_level(logging.INFO, logger="omniq.queue"):
        yield waiter
    await waiter.stop()


async def in_vain(waiter: Waiter, place: Leaving) -> None:
    """Wait for a result, and give up when it could not be read."""
    missed = place.missed
    future = waiter.wait_for(uuid7())
    await until(lambda: place.missed > missed)
    future.cancel()
    await until(lambda: not waiter._open)


async def test_one_outage_is_told_as_one(
    waiter: Waiter,
    place: Leaving,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(waiting, "QUIET", math.inf)
    place.away = True
    for _ in range(10):
        await in_vain(waiter, place)
    place.away = False
    assert await waiter.wait_for(uuid7()) is None
    first, last = [record.getMessage() for record in caplog.records]
    assert first == "results cannot be waited for, trying again: gone for a walk"
    assert last.startswith("the store answers again, after ")
    place.away = True
    await in_vain(waiter, place)
    assert caplog.messages[2:] == [first], "the next one is another"


async def test_what_nobody_has_asked_about_for_long_is_another_outage(
    waiter: Waiter,
    place: Leaving,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place.away = True
    await in_vain(waiter, place)
    monkeypatch.setattr(waiting, "QUIET", 0.0)
    await in_vain(waiter, place)
    assert caplog.messages[-1].startswith("results cannot be waited for, trying again")
    assert len(caplog.messages) > 1
