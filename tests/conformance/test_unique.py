"""Unique keys: one living holder each, freed as the key says."""

from __future__ import annotations

import pytest

from omniq.clock import ManualClock
from omniq.models import Insert, ResultRow, Status, TaskRow, Unique, Value
from omniq.storage.base import AsyncStorage

from .kit import (
    ALREADY,
    APPLIED,
    HOUR,
    REFUSED,
    SECOND,
    START,
    add,
    add_running,
    apply,
    cancel,
    chores,
    fail,
    finish,
    get,
    insert,
    outcome,
    replay,
    result,
    retry,
    settle,
    status,
    take,
)

pytestmark = pytest.mark.asyncio

KEY = Unique("report/7")


async def test_a_taken_key_refuses_the_insert_and_names_the_holder(storage: AsyncStorage) -> None:
    holder = await add(storage, unique=KEY)
    late = insert(unique=KEY)
    receipt = await storage.apply([insert(), late])
    assert receipt.outcome == [APPLIED, REFUSED]
    assert receipt.taken == {1: holder.id}
    assert await storage.get_tasks([late.row.id]) == []


async def test_keys_are_apart(storage: AsyncStorage) -> None:
    for key in ("a", "b", "A", "a/b"):
        await apply(storage, insert(unique=Unique(key)))


async def test_a_holder_sent_again_is_known_and_not_its_own_rival(storage: AsyncStorage) -> None:
    unit = insert(unique=KEY)
    await apply(storage, unit)
    receipt = await storage.apply([unit])
    assert (receipt.outcome, receipt.taken) == ([ALREADY], {})


async def test_two_in_one_batch_are_rivals(storage: AsyncStorage) -> None:
    first, second = insert(unique=KEY), insert(unique=KEY)
    receipt = await storage.apply([first, second])
    assert receipt.outcome == [APPLIED, REFUSED]
    assert receipt.taken == {1: first.row.id}


@pytest.mark.parametrize("end", [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.EXPIRED])
async def test_a_key_is_freed_at_the_end_whatever_it_is(storage: AsyncStorage, end: Status) -> None:
    """The row is still kept, the key is not."""
    task = await add_running(storage, unique=KEY)
    assert await _free(storage) is False
    await apply(storage, settle(task, end))
    assert await _free(storage) is True


async def test_a_cancel_before_the_run_frees_the_key(storage: AsyncStorage) -> None:
    task = await add(storage, unique=KEY)
    await apply(storage, cancel(task.id))
    assert await _free(storage) is True


async def test_a_retry_keeps_the_key(storage: AsyncStorage) -> None:
    task = await add_running(storage, unique=KEY)
    await apply(storage, retry(task, START + HOUR))
    assert await _free(storage) is False


async def test_a_key_may_be_freed_at_the_start(storage: AsyncStorage) -> None:
    key = Unique("report/7", free="start")
    await add(storage, unique=key)
    assert await _free(storage) is False
    [task] = await take(storage)
    successor = await add(storage, unique=key)
    await apply(storage, finish(task))
    receipt = await storage.apply([insert(unique=key)])
    assert receipt.taken == {0: successor.id}, "the end of the first frees nothing of the second"


async def test_a_key_freed_at_the_start_is_freed_by_an_end_without_one(
    storage: AsyncStorage,
) -> None:
    task = await add(storage, unique=Unique("report/7", free="start"))
    await apply(storage, cancel(task.id))
    assert await _free(storage) is True


async def test_a_key_may_be_held_for_a_time_even_past_the_end(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    key = Unique("report/7", START + HOUR, "time")
    task = await add_running(storage, unique=key)
    await apply(storage, finish(task))
    clock.advance(3590)
    assert await _free(storage) is False
    clock.advance(20)
    assert await _free(storage) is True


async def test_a_key_held_for_a_time_outlives_its_holder_s_row(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add_running(storage, unique=Unique("report/7", START + HOUR, "time"))
    await apply(storage, finish(task, patch={"keep_until": START + SECOND}))
    clock.advance(10)
    await storage.sweep()
    assert await storage.get_tasks([task.id]) == []
    assert await _free(storage) is False


async def test_past_its_time_anybody_may_take_the_key_and_keeps_it(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    old = await add_running(storage, "w1", unique=Unique("report/7", START + 10 * SECOND))
    clock.advance(11)
    new = await add(storage, unique=KEY)
    await storage.extend("w1", 30_000, [])
    await apply(storage, finish(old))
    receipt = await storage.apply([insert(unique=KEY)])
    assert (receipt.outcome, receipt.taken) == ([REFUSED], {0: new.id})


async def test_a_removed_row_does_not_keep_the_key(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add_running(storage, unique=KEY)
    await apply(storage, finish(task, patch={"keep_until": START + SECOND}))
    successor = await add(storage, unique=KEY)
    clock.advance(10)
    await storage.sweep()
    receipt = await storage.apply([insert(unique=KEY)])
    assert receipt.taken == {0: successor.id}


async def test_pitfall_13_a_dead_letter_is_not_replayed_over_a_new_holder(
    storage: AsyncStorage,
) -> None:
    dead = await _dead_letter(storage)
    holder = await add(storage, unique=KEY)
    before = await get(storage, dead.id)
    receipt = await storage.apply([replay(dead.id)])
    assert (receipt.outcome, receipt.taken) == ([REFUSED], {0: holder.id})
    assert await get(storage, dead.id) == before
    assert await result(storage, dead.id) == ResultRow(dead.id, 1, b"why it failed")


async def test_pitfall_13_a_replay_takes_the_key_again_and_drops_the_old_result(
    storage: AsyncStorage,
) -> None:
    dead = await _dead_letter(storage)
    await apply(storage, replay(dead.id))
    assert await result(storage, dead.id) is None
    receipt = await storage.apply([insert(unique=KEY)])
    assert (receipt.outcome, receipt.taken) == ([REFUSED], {0: dead.id})


async def test_a_new_task_replaces_the_holder_in_one_commit(storage: AsyncStorage) -> None:
    """Riders come after the unit that frees the key."""
    old = await add(storage, unique=KEY)
    new = insert(unique=KEY)
    receipt = await apply(storage, cancel(old.id, spawn=(new,)))
    assert receipt.riders_refused == {}
    assert await status(storage, old.id) is Status.CANCELLED
    assert await status(storage, new.row.id) is Status.READY
    assert (await storage.apply([insert(unique=KEY)])).taken == {0: new.row.id}


async def test_a_lost_task_keeps_its_key_until_the_rules_end_it(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    await add_running(storage, "dead", unique=KEY)
    clock.advance(31)
    [chore] = await chores(storage)
    assert await _free(storage) is False
    await apply(storage, fail(chore))
    assert await _free(storage) is True


async def _dead_letter(storage: AsyncStorage) -> TaskRow:
    task = await add_running(storage, unique=KEY)
    await apply(storage, fail(task, result=Value(b"why it failed", None)))
    return task


async def _free(storage: AsyncStorage) -> bool:
    """Whether the key could be had; whoever gets it here gives it back at once."""
    probe = insert(unique=KEY, run_at=START + 24 * HOUR)
    answer = await outcome(storage, Insert(probe.row))
    if answer is APPLIED:
        await apply(storage, cancel(probe.row.id))
    return answer is APPLIED
