"""Sweep: removes what is past its own stamp, and nothing else."""

from __future__ import annotations

import pytest

from omniq.clock import ManualClock
from omniq.models import PutDoc, PutResult, Status
from omniq.storage.base import AsyncStorage

from .conftest import MakeStorage
from .kit import (
    HOUR,
    REFUSED,
    SECOND,
    START,
    add,
    add_many,
    add_running,
    apply,
    cancel,
    change,
    counts,
    finish,
    get,
    insert,
    outcome,
    replay,
    status,
    take,
    task_id,
)

pytestmark = pytest.mark.asyncio

SOON = START + 10 * SECOND


async def test_a_sweep_of_a_tidy_place_removes_nothing(storage: AsyncStorage) -> None:
    await add(storage)
    ended = await add_running(storage)
    await apply(storage, finish(ended, until=START + HOUR, patch={"keep_until": START + HOUR}))
    await apply(storage, PutDoc(kind="k", key="a", value=b"", expires_at=START + HOUR))
    assert await storage.sweep() == 0
    assert len(await storage.get_tasks([ended.id])) == 1
    assert len(await storage.get_results([ended.id])) == 1
    assert len(await storage.get_docs("k")) == 1


async def test_what_is_past_its_stamp_goes_and_is_counted_once(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    ended = await add_running(storage)
    await apply(storage, finish(ended, until=SOON, patch={"keep_until": SOON}))
    await apply(storage, PutDoc(kind="k", key="a", value=b"", expires_at=SOON))
    await apply(storage, PutResult(task_id(), 1, b"far", SOON))
    clock.advance(11)
    assert await storage.sweep() > 0
    assert await storage.sweep() == 0


async def test_a_row_swept_is_free_to_come_again(storage: AsyncStorage, clock: ManualClock) -> None:
    """Nothing of it is left: no result, no edge, no count."""
    ended = await add_running(storage)
    await apply(storage, finish(ended, patch={"keep_until": SOON}))
    clock.advance(11)
    await storage.sweep()
    again = await add(storage, id=ended.id)
    assert (again.status, again.epoch, again.attempt) == (Status.READY, 0, 0)
    assert await storage.get_results([ended.id]) == []
    assert await counts(storage) == {("q", Status.READY): 1}


async def test_a_sweep_keeps_to_its_limit_and_the_rest_goes_next(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    await add_many(storage, [insert() for _ in range(25)])
    tasks = await take(storage, limit=25)
    await apply(storage, *(finish(task, patch={"keep_until": SOON}) for task in tasks))
    clock.advance(11)
    removed = []
    for _ in range(40):
        removed.append(await storage.sweep(10))
        if removed[-1] == 0:
            break
    assert removed[-1] == 0
    assert max(removed) <= 10
    assert sum(removed) >= 25
    assert await counts(storage) == {}


async def test_what_has_not_ended_is_not_swept(storage: AsyncStorage, clock: ManualClock) -> None:
    """`expires_at` and a passed `run_at` are the rules' business, not the sweep's."""
    late = await add(storage, expires_at=SOON)
    running = await add_running(storage, "w1")
    clock.advance(3600)
    await storage.sweep()
    assert await status(storage, late.id) is Status.READY
    assert await status(storage, running.id) is Status.RUNNING


async def test_a_removal_by_hand_is_a_stamp_that_has_passed(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add(storage)
    await apply(storage, cancel(task.id))
    await apply(storage, change(task.id, {"keep_until": START}, expect=(Status.CANCELLED,)))
    clock.advance(1)
    assert await storage.get_tasks([task.id]) == []
    assert await storage.sweep() > 0


async def test_a_replay_in_time_saves_a_row(storage: AsyncStorage, clock: ManualClock) -> None:
    task = await add_running(storage)
    await apply(storage, finish(task, patch={"keep_until": SOON}))
    await apply(storage, replay(task.id, {"keep_until": None}))
    clock.advance(11)
    await storage.sweep()
    assert (await get(storage, task.id)).status is Status.READY


async def test_sweeps_of_several_clients_do_no_harm(
    make_storage: MakeStorage, clock: ManualClock
) -> None:
    one, other = await make_storage(), await make_storage()
    kept = await add(one)
    gone = await add_running(one)
    await apply(one, finish(gone, patch={"keep_until": SOON}))
    clock.advance(11)
    await one.sweep()
    await other.sweep()
    assert await other.sweep() == 0
    assert await get(other, kept.id) == kept
    assert await outcome(other, replay(gone.id)) is REFUSED
