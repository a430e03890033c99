"""Results: bytes by task, never over a later run's, gone when their time is over."""

from __future__ import annotations

import pytest

from omniq.clock import ManualClock
from omniq.models import PutResult, ResultRow
from omniq.storage.base import AsyncStorage

from .kit import (
    APPLIED,
    HOUR,
    SECOND,
    START,
    add,
    add_running,
    apply,
    finish,
    outcome,
    result,
    task_id,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.ways]


async def test_a_result_rides_with_the_end_of_its_task(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    value = bytes(range(256)) * 400
    await apply(storage, finish(task, value, until=START + HOUR))
    assert await result(storage, task.id) == ResultRow(task.id, 1, value, START + HOUR)


async def test_an_empty_value_is_a_value(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    await apply(storage, finish(task, b""))
    assert await result(storage, task.id) == ResultRow(task.id, 1, b"")


async def test_a_result_may_come_alone(storage: AsyncStorage) -> None:
    """A result place of its own knows no rows."""
    id = task_id()
    await apply(storage, PutResult(id, 3, b"far", START + HOUR))
    assert await result(storage, id) == ResultRow(id, 3, b"far", START + HOUR)


async def test_a_result_sent_again_for_the_same_run_is_the_same(storage: AsyncStorage) -> None:
    unit = PutResult(task_id(), 1, b"v", START + HOUR)
    assert await outcome(storage, unit) is APPLIED
    assert await outcome(storage, unit) is APPLIED
    assert await result(storage, unit.id) == ResultRow(unit.id, 1, b"v", START + HOUR)


async def test_results_come_in_the_order_asked_for(storage: AsyncStorage) -> None:
    a, b, c = task_id(), task_id(), task_id()
    await apply(storage, *(PutResult(id, 1, id.encode()) for id in (a, b, c)))
    found = await storage.get_results([c, task_id(), a, b])
    assert [(r.id, r.value) for r in found] == [(id, id.encode()) for id in (c, a, b)]
    assert await storage.get_results([]) == []


async def test_a_row_without_result_has_none(storage: AsyncStorage) -> None:
    assert await result(storage, (await add(storage)).id) is None


async def test_a_result_past_its_time_is_not_shown(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add_running(storage)
    await apply(storage, finish(task, until=START + 10 * SECOND))
    clock.advance(9)
    assert await result(storage, task.id) is not None
    clock.advance(2)
    assert await result(storage, task.id) is None
    assert len(await storage.get_tasks([task.id])) == 1, "the row has its own time"


async def test_a_result_without_time_stays_as_long_as_its_row(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add_running(storage)
    await apply(storage, finish(task, until=None, patch={"keep_until": START + HOUR}))
    clock.advance(3500)
    await storage.sweep()
    assert await result(storage, task.id) is not None
    clock.advance(200)
    await storage.sweep()
    assert await result(storage, task.id) is None


async def test_a_result_may_be_kept_longer_than_its_row(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add_running(storage)
    await apply(storage, finish(task, until=START + HOUR, patch={"keep_until": START + SECOND}))
    clock.advance(10)
    await storage.sweep()
    assert await storage.get_tasks([task.id]) == []
    assert await result(storage, task.id) == ResultRow(task.id, 1, b"value", START + HOUR)
