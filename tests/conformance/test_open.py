"""Opening, closing, second clients, and what a place says of itself."""

from __future__ import annotations

import pytest

from omniq.clock import ManualClock
from omniq.errors import StorageClosed
from omniq.storage.base import AsyncStorage

from .conftest import MakeStorage
from .kit import add, get, take
from .places import PLACES, Ground, Spot

pytestmark = [pytest.mark.asyncio, pytest.mark.clusters, pytest.mark.ways]


async def test_opening_and_closing_again_has_no_effect(storage: AsyncStorage) -> None:
    task = await add(storage)
    await storage.open()
    assert await get(storage, task.id) == task
    await storage.close()
    await storage.close()


async def test_a_storage_is_not_used_before_it_is_opened(
    spot: Spot, ground: Ground, clock: ManualClock
) -> None:
    with pytest.raises(StorageClosed):
        await spot.new(ground, clock).count_tasks()


async def test_a_storage_is_not_used_after_it_was_closed(storage: AsyncStorage) -> None:
    await storage.close()
    with pytest.raises(StorageClosed):
        await storage.apply([])
    with pytest.raises(StorageClosed):
        await storage.count_tasks()


async def test_a_twin_is_a_second_client_of_the_same_place(make_storage: MakeStorage) -> None:
    one = await make_storage()
    async with one.twin() as other:
        task = await add(one)
        assert await get(other, task.id) == task
        [running] = await take(other)
        assert await get(one, task.id) == running


async def test_a_client_that_leaves_takes_nothing_from_the_others(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    task = await add(one)
    await one.close()
    assert await get(other, task.id) == task
    again = await make_storage()
    assert await get(again, task.id) == task


async def test_a_place_says_what_it_can_do_and_where_it_is(
    spot: Spot, storage: AsyncStorage
) -> None:
    can = storage.capabilities
    assert can.multiprocess == PLACES[spot.place].processes
    assert can.durability in {"none", "process", "power", "replicated"}
    assert can.unit_rows > 0
    assert storage.describe()
