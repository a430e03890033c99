"""Extend: one heartbeat renews the lease, tells progress, and compares both lists."""

from __future__ import annotations

import pytest

from omniq.clock import ManualClock
from omniq.models import Fence, Status
from omniq.models.filters import Held
from omniq.storage.base import AsyncStorage

from .kit import (
    APPLIED,
    LEASE,
    START,
    add,
    add_running,
    apply,
    cancel,
    chores,
    claim,
    finish,
    get,
    held,
    ids,
    insert,
    outcome,
    retry,
    settle,
    take,
    task_id,
)

pytestmark = pytest.mark.asyncio


async def test_an_owner_whose_list_is_right_hears_nothing(storage: AsyncStorage) -> None:
    tasks = [await add_running(storage) for _ in range(3)]
    assert await storage.extend("w1", LEASE, [held(task) for task in tasks]) == Held()
    assert await storage.extend("nobody", LEASE, []) == Held()


async def test_the_lease_is_as_long_as_asked_from_now(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add_running(storage, "w1")
    await storage.extend("w1", 100_000, [held(task)])
    clock.advance(99)
    assert await chores(storage) == []
    clock.advance(2)
    assert ids(await chores(storage)) == [task.id]


async def test_a_heartbeat_keeps_only_its_own_tasks(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    mine, other = await add_running(storage, "w1"), await add_running(storage, "w2")
    clock.advance(20)
    await storage.extend("w1", LEASE, [held(mine)])
    clock.advance(20)
    assert ids(await chores(storage)) == [other.id]


async def test_an_exchange_that_ends_everything_and_claims_more_keeps_the_lease(
    storage: AsyncStorage,
) -> None:
    """In the very millisecond of the claim before: the owner is never without a task."""
    await apply(storage, insert(), insert())
    [first] = await take(storage, "w1", limit=1)
    receipt, batch = await storage.exchange([finish(first)], claim("w1"))
    assert (receipt.outcome, len(batch.tasks)) == ([APPLIED], 1)
    assert await chores(storage) == []


async def test_what_another_owner_holds_is_lost(storage: AsyncStorage, clock: ManualClock) -> None:
    task = await add_running(storage, "w1", queue="q")
    clock.advance(31)
    [chore] = await chores(storage)
    assert (await storage.extend("w1", LEASE, [held(task)])).lost == (task.id,)
    await apply(storage, settle(chore, Status.READY))
    assert (await storage.extend("w1", LEASE, [held(task)])).lost == (task.id,)
    await take(storage, "w2")
    assert (await storage.extend("w1", LEASE, [held(task)])).lost == (task.id,)


async def test_what_ended_or_never_was_is_lost(storage: AsyncStorage) -> None:
    task, ghost = await add_running(storage), held(await add_running(storage, "w2"))
    await apply(storage, finish(task))
    ghost = type(ghost)(task_id(), 1, "r")
    answer = await storage.extend("w1", LEASE, [held(task), ghost])
    assert set(answer.lost) == {task.id, ghost.id}


async def test_a_claim_of_before_is_lost_though_the_owner_holds_the_task_again(
    storage: AsyncStorage,
) -> None:
    first = await add_running(storage, "w1", queue="q")
    await apply(storage, retry(first, START))
    [second] = await take(storage, "w1")
    answer = await storage.extend("w1", LEASE, [held(first)])
    assert answer.lost == (first.id,)
    assert [u.id for u in answer.unknown] == [second.id]


async def test_a_claim_whose_answer_got_lost_is_unknown_and_can_be_given_back(
    storage: AsyncStorage,
) -> None:
    """Within one heartbeat, not after a whole lease."""
    known = await add_running(storage, "w1")
    await apply(storage, insert(), insert())
    lost_answer = await storage.claim(claim("w1"))
    answer = await storage.extend("w1", LEASE, [held(known)])
    assert (answer.lost, answer.cancelled) == ((), ())
    assert {u.id for u in answer.unknown} == set(ids(lost_answer.tasks))
    for unknown in answer.unknown:
        row = await get(storage, unknown.id)
        back = settle(
            row,
            Status.READY,
            {"attempt": row.attempt - 1},
            fence=Fence(unknown.epoch, unknown.claim),
        )
        assert await outcome(storage, back) is APPLIED
    assert (await storage.extend("w1", LEASE, [held(known)])).unknown == ()
    assert [task.attempt for task in await take(storage, "w2")] == [1, 1]


async def test_a_chore_is_held_like_any_task(storage: AsyncStorage, clock: ManualClock) -> None:
    await add_running(storage, "dead")
    clock.advance(31)
    [chore] = await chores(storage, "w2")
    assert await storage.extend("w2", LEASE, [held(chore)]) == Held()
    assert [u.id for u in (await storage.extend("w2", LEASE, [])).unknown] == [chore.id]


async def test_progress_comes_with_the_heartbeat(storage: AsyncStorage) -> None:
    quiet, busy = await add_running(storage), await add_running(storage)
    await storage.extend("w1", LEASE, [held(quiet), held(busy, b"1/3")])
    assert (await get(storage, busy.id)).progress == b"1/3"
    await storage.extend("w1", LEASE, [held(quiet), held(busy)])
    assert (await get(storage, busy.id)).progress == b"1/3", "None says nothing"
    assert (await get(storage, quiet.id)).progress is None


async def test_progress_of_a_lost_task_is_not_written(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    stale = await add_running(storage, "w1", queue="q")
    await apply(storage, retry(stale, START))
    [current] = await take(storage, "w2")
    await storage.extend("w1", LEASE, [held(stale, b"99")])
    assert await get(storage, stale.id) == current


async def test_nobody_speaks_for_a_task_of_another_owner(storage: AsyncStorage) -> None:
    """Though it knows the claim: what is lost is told so, and nothing is written."""
    task = await add_running(storage, "w1")
    await storage.apply([cancel(task.id)])
    answer = await storage.extend("w2", LEASE, [held(task, b"99")])
    assert answer == Held(lost=(task.id,))
    assert (await get(storage, task.id)).progress is None


async def test_a_cancel_is_told_until_it_is_answered(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    await add(storage)
    await storage.apply([cancel(task.id)])
    for _ in range(2):
        assert (await storage.extend("w1", LEASE, [held(task)])).cancelled == (task.id,)
    await apply(storage, settle(task, Status.CANCELLED))
    answer = await storage.extend("w1", LEASE, [])
    assert answer == Held()


async def test_a_short_lease_is_renewed_as_well_as_a_long_one(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    """Each claim and each heartbeat counts, however small the step."""
    await apply(storage, insert(), insert())
    lease = 1000
    [first] = await take(storage, "w1", limit=1, lease=lease)
    clock.advance(0.4)
    [second] = await take(storage, "w1", limit=1, lease=lease)
    for _ in range(5):
        clock.advance(0.7)
        assert (await storage.extend("w1", lease, [held(first), held(second)])).lost == ()
        assert await chores(storage) == []
