"""Cancel: at once before a run, as a flag the worker answers during one."""

from __future__ import annotations

import pytest

from omniq.clock import ManualClock
from omniq.models import Status
from omniq.storage.base import AsyncStorage

from .kit import (
    APPLIED,
    CANCEL_ASKED,
    HOUR,
    LEASE,
    REFUSED,
    START,
    add,
    add_running,
    apply,
    cancel,
    chores,
    fail,
    finish,
    get,
    held,
    outcome,
    replay,
    retry,
    settle,
    snooze,
    status,
    take,
)

pytestmark = pytest.mark.asyncio


async def test_before_its_run_a_task_is_cancelled_at_once(storage: AsyncStorage) -> None:
    ready = await add(storage)
    scheduled = await add(storage, run_at=START + HOUR)
    waiting = await add(storage, scheduled.id)
    for task in (ready, waiting, scheduled):
        assert await outcome(storage, cancel(task.id)) is APPLIED
        assert await status(storage, task.id) is Status.CANCELLED
    assert await take(storage) == []


async def test_a_running_task_is_asked(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    assert await outcome(storage, cancel(task.id)) is CANCEL_ASKED
    asked = await get(storage, task.id)
    assert (asked.status, asked.cancel) == (Status.RUNNING, True)
    assert (asked.epoch, asked.claim, asked.owner) == (task.epoch, task.claim, task.owner)


async def test_its_heartbeat_tells_the_worker(storage: AsyncStorage) -> None:
    task, other = await add_running(storage), await add_running(storage)
    await storage.apply([cancel(task.id)])
    answer = await storage.extend("w1", LEASE, [held(task), held(other)])
    assert answer.cancelled == (task.id,)
    assert answer.lost == ()


async def test_the_worker_answers_and_the_flag_is_gone(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    await storage.apply([cancel(task.id)])
    await apply(storage, settle(task, Status.CANCELLED))
    ended = await get(storage, task.id)
    assert (ended.status, ended.cancel, ended.claim) == (Status.CANCELLED, False, None)


@pytest.mark.parametrize("end", [Status.SUCCEEDED, Status.FAILED])
async def test_a_task_that_was_quicker_than_the_cancel_ends_as_it_ended(
    storage: AsyncStorage, end: Status
) -> None:
    task = await add_running(storage)
    await storage.apply([cancel(task.id)])
    unit = finish(task) if end is Status.SUCCEEDED else fail(task)
    assert await outcome(storage, unit) is APPLIED
    assert await status(storage, task.id) is end


async def test_pitfall_12_no_retry_snooze_or_release_slips_past_a_cancel(
    storage: AsyncStorage,
) -> None:
    task = await add_running(storage)
    await storage.apply([cancel(task.id)])
    asked = await get(storage, task.id)
    for unit in (
        retry(task, START),
        retry(task, START + HOUR),
        snooze(task, START),
        settle(task, Status.READY, fence=None),
    ):
        assert await outcome(storage, unit) is REFUSED
    assert await get(storage, task.id) == asked
    assert await outcome(storage, settle(task, Status.CANCELLED)) is APPLIED


async def test_progress_is_still_taken_from_a_task_asked_to_stop(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    await storage.apply([cancel(task.id)])
    assert await outcome(storage, settle(task, None, {"progress": b"stopping"})) is APPLIED
    assert (await get(storage, task.id)).progress == b"stopping"


async def test_a_second_ask_changes_nothing(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    assert await outcome(storage, cancel(task.id)) is CANCEL_ASKED
    asked = await get(storage, task.id)
    assert await outcome(storage, cancel(task.id)) is CANCEL_ASKED
    assert await get(storage, task.id) == asked


async def test_an_ended_task_cannot_be_cancelled(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    await apply(storage, finish(task))
    assert await outcome(storage, cancel(task.id)) is REFUSED
    assert await status(storage, task.id) is Status.SUCCEEDED


async def test_an_unknown_task_cannot_be_cancelled(storage: AsyncStorage) -> None:
    assert await outcome(storage, cancel("0-unknown")) is REFUSED


async def test_a_cancel_whose_worker_died_is_a_chore(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add_running(storage, "dead")
    await storage.apply([cancel(task.id)])
    clock.advance(31)
    [chore] = await chores(storage)
    assert (chore.id, chore.cancel) == (task.id, True)
    assert await outcome(storage, retry(chore, START)) is REFUSED
    assert await outcome(storage, settle(chore, Status.CANCELLED)) is APPLIED


async def test_a_replay_starts_without_the_flag(storage: AsyncStorage) -> None:
    task = await add_running(storage, queue="q")
    await storage.apply([cancel(task.id)])
    await apply(storage, settle(task, Status.CANCELLED))
    await apply(storage, replay(task.id))
    [again] = await take(storage)
    assert (again.id, again.cancel) == (task.id, False)
