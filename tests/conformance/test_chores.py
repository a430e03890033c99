"""Chores: rows whose ending is a rule's business are handed out, and never lost."""

from __future__ import annotations

import pytest

from omniq.clock import ManualClock
from omniq.models import Flag, Status
from omniq.storage.base import AsyncStorage

from .conftest import MakeStorage
from .kit import (
    APPLIED,
    HOUR,
    LEASE,
    REFUSED,
    SECOND,
    START,
    add,
    add_many,
    add_running,
    apply,
    cancel,
    chores,
    claim,
    fail,
    finish,
    get,
    held,
    ids,
    insert,
    outcome,
    settle,
    status,
    take,
)

pytestmark = pytest.mark.asyncio


async def test_a_task_whose_worker_is_silent_is_lost(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add_running(storage, "dead")
    clock.advance(29)
    assert await chores(storage) == []
    clock.advance(2)
    [chore] = await chores(storage)
    assert (chore.id, chore.status, chore.flags) == (task.id, Status.RUNNING, Flag.LOST)
    assert chore.losses == task.losses + 1
    assert await get(storage, task.id) == chore


async def test_a_chore_is_held_under_the_claim_that_took_it(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add_running(storage, "dead")
    clock.advance(31)
    batch = await storage.claim(claim("janitor", queues=(), chores=1, request="r-9"))
    [chore] = batch.chores
    assert (chore.epoch, chore.attempt) == (task.epoch + 1, task.attempt)
    assert (chore.owner, chore.claim) == ("janitor", "r-9")
    assert chore.started_at == task.started_at, "nobody started it"
    assert await outcome(storage, finish(task)) is REFUSED
    assert await outcome(storage, settle(chore, Status.READY)) is APPLIED


async def test_a_heartbeat_keeps_a_task_from_being_lost(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add_running(storage, "w1")
    for _ in range(5):
        clock.advance(25)
        await storage.extend("w1", LEASE, [held(task)])
        assert await chores(storage) == []


async def test_a_late_heartbeat_keeps_what_nobody_took_meanwhile(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add_running(storage, "w1")
    clock.advance(300)
    answer = await storage.extend("w1", LEASE, [held(task)])
    assert answer.lost == ()
    assert await chores(storage) == []
    assert await outcome(storage, finish(task)) is APPLIED


async def test_chores_are_given_only_to_who_asks_and_up_to_a_number(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    for _ in range(3):
        await add_running(storage, "dead")
    clock.advance(31)
    batch = await storage.claim(claim("w1"))
    assert (batch.tasks, batch.chores) == ([], [])
    assert len(await chores(storage, limit=2)) == 2
    assert len(await chores(storage, limit=2)) == 1
    assert await chores(storage) == []


async def test_a_chore_is_not_work_and_work_is_not_a_chore(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    lost = await add_running(storage, "dead", queue="q")
    clock.advance(31)
    work = await add(storage)
    batch = await storage.claim(claim("w1", chores=5))
    assert (ids(batch.tasks), ids(batch.chores)) == ([work.id], [lost.id])
    assert batch.tasks[0].flags == 0


async def test_a_lost_task_is_found_by_the_very_exchange_that_changed_it(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    lost = await add_running(storage, "dead")
    clock.advance(31)
    unit = settle(lost, None, {"priority": 3}, fence=None)
    receipt, batch = await storage.exchange([unit], claim("w1", queues=(), chores=5))
    assert (receipt.outcome, ids(batch.chores)) == ([APPLIED], [lost.id])


async def test_a_claim_with_chores_resent_gives_the_same(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    for _ in range(3):
        await add_running(storage, "dead", queue="q")
    clock.advance(31)
    await add_many(storage, [insert() for _ in range(3)])
    asked = claim("w1", limit=2, chores=2)
    first = await storage.claim(asked)
    assert (len(first.tasks), len(first.chores)) == (2, 2)
    again = await storage.claim(asked)
    assert again.tasks == first.tasks
    assert sorted(ids(again.chores)) == sorted(ids(first.chores))
    assert [c.epoch for c in again.chores] == [2, 2]


async def test_pitfall_23_a_task_expires_in_a_queue_nobody_serves(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add(storage, queue="deserted", expires_at=START + 10 * SECOND)
    clock.advance(9)
    assert await chores(storage) == []
    clock.advance(2)
    [chore] = await chores(storage)
    assert (chore.id, chore.status, chore.flags) == (task.id, Status.RUNNING, Flag.EXPIRED)
    assert (chore.losses, chore.attempt, chore.started_at) == (0, 0, None)
    await apply(storage, settle(chore, Status.EXPIRED))
    assert await status(storage, task.id) is Status.EXPIRED


async def test_every_status_before_a_run_can_expire(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    until = START + 10 * SECOND
    ready = await add(storage, expires_at=until)
    scheduled = await add(storage, expires_at=until, run_at=START + HOUR)
    waiting = await add(storage, scheduled.id, expires_at=until)
    running = await add_running(storage, "w1", expires_at=until)
    clock.advance(11)
    handed = await chores(storage)
    assert {c.id: c.flags & Flag.EXPIRED for c in handed} == {
        ready.id: Flag.EXPIRED,
        scheduled.id: Flag.EXPIRED,
        waiting.id: Flag.EXPIRED,
    }
    assert await get(storage, running.id) == running, "a start in time is a start"


async def test_pitfall_9_a_stranded_child_outlives_the_client_that_settled_its_parent(
    make_storage: MakeStorage,
) -> None:
    """The receipt is a hint and may be lost; the mark in the store is what counts."""
    settler, other = await make_storage(), await make_storage()
    parent = await add_running(settler, "w1")
    child = await add(settler, parent.id)
    await settler.apply([fail(parent)])
    await settler.close()
    [chore] = await chores(other, "w2")
    assert (chore.id, chore.flags, chore.status) == (child.id, Flag.STRANDED, Status.RUNNING)
    assert (chore.epoch, chore.attempt, chore.owner) == (1, 0, "w2")
    await apply(other, settle(chore, Status.CANCELLED))
    assert await chores(other) == []


async def test_a_stranded_row_is_no_work(storage: AsyncStorage) -> None:
    parent = await add_running(storage, queue="q")
    child = await add(storage, parent.id)
    await apply(storage, fail(parent))
    assert await take(storage) == []
    assert await status(storage, child.id) is Status.WAITING


async def test_a_chore_whose_janitor_died_is_handed_out_again_with_its_reason(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    await add(storage, expires_at=START + SECOND)
    clock.advance(2)
    [first] = await chores(storage, "janitor-1")
    clock.advance(31)
    [second] = await chores(storage, "janitor-2")
    assert second.flags == Flag.EXPIRED | Flag.LOST
    assert (second.epoch, second.losses, second.attempt) == (2, 1, 0)
    assert await outcome(storage, settle(first, Status.EXPIRED)) is REFUSED
    assert await outcome(storage, settle(second, Status.EXPIRED)) is APPLIED


async def test_flags_stay_until_the_row_leaves_running(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add_running(storage, "dead", queue="q")
    clock.advance(31)
    [chore] = await chores(storage)
    await apply(storage, settle(chore, None, {"priority": 1}))
    assert (await get(storage, task.id)).flags == Flag.LOST
    await apply(storage, settle(chore, Status.READY))
    assert (await get(storage, task.id)).flags == 0
    [again] = await take(storage)
    assert (again.flags, again.losses, again.attempt) == (0, 1, 2)


async def test_the_cancel_flag_of_a_lost_task_is_handed_on_as_it_was(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    asked, plain = await add_running(storage, "dead"), await add_running(storage, "dead")
    await storage.apply([cancel(asked.id)])
    clock.advance(31)
    flags = {c.id: c.cancel for c in await chores(storage)}
    assert flags == {asked.id: True, plain.id: False}


async def test_pitfall_30_a_fast_clock_on_one_host_moves_no_lease(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    """A lease is a length of time on the store's clock; stamps a worker writes are not asked."""
    fast = await add_running(storage, "fast", at=START + HOUR, run_at=START)
    slow = await add_running(storage, "slow", at=START - HOUR, run_at=START)
    await apply(
        storage,
        settle(fast, None, {"started_at": START + HOUR}),
        settle(slow, None, {"started_at": START - HOUR}),
    )
    clock.advance(29)
    assert await chores(storage) == []
    clock.advance(2)
    assert sorted(ids(await chores(storage))) == sorted([fast.id, slow.id])
