"""The fence: whoever lost a task writes nothing more of it."""

from __future__ import annotations

import pytest

from omniq.clock import ManualClock
from omniq.models import Fence, PutDoc, PutResult, ResultRow, Status, TaskRow
from omniq.models.filters import EventFilter
from omniq.storage.base import AsyncStorage

from .kit import (
    APPLIED,
    LEASE,
    REFUSED,
    START,
    apply,
    chores,
    event,
    fail,
    finish,
    get,
    held,
    insert,
    outcome,
    result,
    retry,
    settle,
    snooze,
    take,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.clusters]


@pytest.mark.parametrize(
    "wrong",
    [Fence(0, "r-1"), Fence(2, "r-1"), Fence(1, "r-2"), Fence(1, ""), Fence(2, "r-2")],
    ids=["epoch-before", "epoch-after", "other-claim", "no-claim", "both"],
)
async def test_a_write_must_match_epoch_and_claim(storage: AsyncStorage, wrong: Fence) -> None:
    task = await _running(storage)
    assert await outcome(storage, finish(task, fence=wrong)) is REFUSED
    assert await get(storage, task.id) == task
    assert await result(storage, task.id) is None
    assert await outcome(storage, finish(task)) is APPLIED


async def test_a_refused_write_leaves_no_rider_behind(storage: AsyncStorage) -> None:
    task = await _running(storage)
    spawned = insert()
    unit = finish(
        task,
        fence=Fence(9, "r-1"),
        events=(event(task.id, 1),),
        spawn=(spawned,),
        docs=(PutDoc(kind="step", key=task.id, value=b"1"),),
    )
    assert await outcome(storage, unit) is REFUSED
    assert (await storage.read_events(EventFilter())).events == []
    assert await storage.get_tasks([spawned.row.id]) == []
    assert await storage.get_docs("step") == []


async def test_a_worker_that_stalled_writes_nothing_over_its_successor(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    """Finish, failure, retry, snooze, progress and heartbeat of the zombie, one by one."""
    stale = await _running(storage, "zombie")
    clock.advance(31)
    [lost] = await chores(storage)
    await apply(storage, settle(lost, Status.READY, {"run_at": START}))
    [current] = await take(storage, "w2")
    for unit in (
        finish(stale, b"zombie"),
        fail(stale),
        retry(stale, START),
        snooze(stale, START),
        settle(stale, None, {"progress": b"99"}),
    ):
        assert await outcome(storage, unit) is REFUSED
    answer = await storage.extend("zombie", LEASE, [held(stale, b"99")])
    assert answer.lost == (stale.id,)
    assert await get(storage, stale.id) == current
    assert await outcome(storage, finish(current, b"mine")) is APPLIED
    assert await result(storage, stale.id) == ResultRow(stale.id, current.epoch, b"mine")


async def test_the_same_worker_may_claim_again_and_its_old_fence_is_void(
    storage: AsyncStorage,
) -> None:
    first = await _running(storage, "w1")
    await apply(storage, retry(first, START))
    [second] = await take(storage, "w1")
    assert await outcome(storage, finish(first)) is REFUSED
    assert await outcome(storage, finish(second)) is APPLIED


async def test_a_snooze_gives_the_attempt_back_but_never_the_epoch(
    storage: AsyncStorage,
) -> None:
    first = await _running(storage)
    await apply(storage, snooze(first, START))
    [second] = await take(storage)
    assert second.attempt == first.attempt
    assert second.epoch == first.epoch + 1
    assert await outcome(storage, finish(first)) is REFUSED


async def test_a_released_row_has_no_claim_that_fits(storage: AsyncStorage) -> None:
    task = await _running(storage)
    await apply(storage, retry(task, START))
    assert await outcome(storage, finish(task)) is REFUSED
    assert await outcome(storage, settle(task, None, {"progress": b"1"})) is REFUSED


async def test_a_move_without_fence_is_guarded_by_the_status_alone(storage: AsyncStorage) -> None:
    task = await _running(storage)
    assert await outcome(storage, settle(task, None, {"priority": 7}, fence=None)) is APPLIED
    assert (await get(storage, task.id)).priority == 7


async def test_the_result_of_a_move_carries_the_epoch_of_its_run(storage: AsyncStorage) -> None:
    task = await _running(storage)
    await apply(storage, retry(task, START))
    [again] = await take(storage)
    await apply(storage, finish(again, b"second"))
    assert await result(storage, task.id) == ResultRow(task.id, 2, b"second")


async def test_pitfall_11_a_zombie_result_is_refused_over_a_higher_epoch(
    storage: AsyncStorage,
) -> None:
    """In a result place of its own no row can be asked: the epoch is all there is."""
    id = insert().row.id
    assert await outcome(storage, PutResult(id, 2, b"current")) is APPLIED
    assert await outcome(storage, PutResult(id, 1, b"zombie")) is REFUSED
    assert await result(storage, id) == ResultRow(id, 2, b"current")
    assert await outcome(storage, PutResult(id, 3, b"next")) is APPLIED
    assert await result(storage, id) == ResultRow(id, 3, b"next")


async def _running(storage: AsyncStorage, owner: str = "w1") -> TaskRow:
    await apply(storage, insert())
    [task] = await take(storage, owner, request="r-1")
    return task
