"""Move: one row changes, guarded by its status; named fields only; riders ride along."""

from __future__ import annotations

import msgspec
import pytest

from omniq.models import Patch, PutDoc, ResultRow, Status
from omniq.models.filters import EventFilter
from omniq.storage.base import AsyncStorage

from .kit import (
    APPLIED,
    HOUR,
    REFUSED,
    START,
    UNFINISHED,
    add,
    add_running,
    apply,
    change,
    claim,
    counts,
    event,
    fail,
    finish,
    get,
    ids,
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

EVERYTHING: Patch = {
    "run_at": START - 1,
    "attempt": 4,
    "losses": 2,
    "priority": -8,
    "progress": b"half",
    "error": b"errors",
    "fault": "ValueError:1f",
    "body": b"new arguments",
    "preview": "work(2)",
    "tags": ("a", "b"),
    "finished_at": START + 3,
    "started_at": START + 2,
    "keep_until": START + HOUR,
    "expires_at": START + HOUR,
}


async def test_a_patch_names_the_fields_that_change(storage: AsyncStorage) -> None:
    assert set(EVERYTHING) == set(Patch.__annotations__), "a new field of Patch needs a value here"
    before = await add(storage)
    await apply(storage, change(before.id, EVERYTHING))
    assert await get(storage, before.id) == msgspec.structs.replace(before, **EVERYTHING)


@pytest.mark.parametrize("field", sorted(EVERYTHING))
async def test_a_field_that_is_not_named_stays(storage: AsyncStorage, field: str) -> None:
    before = await add(storage, tags=("t",), error=b"e", preview="p", expires_at=START + 1)
    one: Patch = {field: EVERYTHING[field]}  # type: ignore[misc]
    await apply(storage, change(before.id, one))
    assert await get(storage, before.id) == msgspec.structs.replace(before, **one)


async def test_a_field_can_be_emptied(storage: AsyncStorage) -> None:
    task = await add(storage, expires_at=START + HOUR, error=b"e")
    await apply(storage, change(task.id, {"expires_at": None, "error": None}))
    emptied = await get(storage, task.id)
    assert (emptied.expires_at, emptied.error) == (None, None)


async def test_the_status_must_be_one_of_those_expected(storage: AsyncStorage) -> None:
    task = await add(storage)
    unit = change(task.id, {"priority": 1}, expect=(Status.RUNNING, Status.SCHEDULED))
    assert await outcome(storage, unit) is REFUSED
    assert await get(storage, task.id) == task


async def test_a_row_that_is_not_there_is_refused(storage: AsyncStorage) -> None:
    assert await outcome(storage, change(insert().row.id, {"priority": 1})) is REFUSED


async def test_a_move_to_ready_with_a_time_ahead_is_scheduled(storage: AsyncStorage) -> None:
    task = await add_running(storage, queue="q")
    receipt = await apply(storage, retry(task, START + HOUR))
    later = await get(storage, task.id)
    assert (later.status, later.run_at) == (Status.SCHEDULED, START + HOUR)
    assert receipt.woken == frozenset()
    assert await take(storage) == []


async def test_a_move_to_ready_wakes_the_queue(storage: AsyncStorage) -> None:
    task = await add_running(storage, queue="q")
    receipt = await apply(storage, retry(task, START))
    assert receipt.woken == {"q"}
    assert await status(storage, task.id) is Status.READY


async def test_a_scheduled_row_can_be_run_now(storage: AsyncStorage) -> None:
    task = await add(storage, run_at=START + HOUR)
    receipt = await apply(storage, change(task.id, {"run_at": START}, to=Status.READY))
    assert receipt.woken == {"q"}
    assert ids(await take(storage)) == [task.id]


async def test_a_ready_row_can_be_put_off(storage: AsyncStorage) -> None:
    task = await add(storage)
    await apply(storage, change(task.id, {"run_at": START + HOUR}, to=Status.READY))
    assert await status(storage, task.id) is Status.SCHEDULED
    assert await take(storage) == []


@pytest.mark.parametrize("to", [Status.READY, Status.SUCCEEDED, Status.FAILED, Status.EXPIRED])
async def test_leaving_running_clears_the_claim_and_keeps_the_owner(
    storage: AsyncStorage, to: Status
) -> None:
    task = await add_running(storage, "w7")
    await apply(storage, settle(task, to))
    left = await get(storage, task.id)
    assert (left.status, left.claim, left.flags, left.cancel) == (to, None, 0, False)
    assert left.owner == "w7"
    assert (left.epoch, left.attempt) == (task.epoch, task.attempt)
    assert left.started_at == task.started_at


async def test_a_running_row_changes_fields_and_goes_on_running(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    await apply(storage, settle(task, None, {"progress": b"1/3"}))
    assert await get(storage, task.id) == msgspec.structs.replace(task, progress=b"1/3")


async def test_the_end_of_a_task_is_one_commit(storage: AsyncStorage) -> None:
    """State, result, released child, next task, event and doc: all of it or nothing."""
    task = await add_running(storage)
    child = await add(storage, task.id)
    callback = insert(name="app:callback")
    told = event(task.id, 1, epoch=1)
    unit = finish(
        task,
        b"42",
        patch={"finished_at": START + 9},
        events=(told,),
        spawn=(callback,),
        docs=(PutDoc(kind="step", key="s", value=b"done"),),
    )
    await apply(storage, unit)
    ended = await get(storage, task.id)
    assert (ended.status, ended.finished_at) == (Status.SUCCEEDED, START + 9)
    assert await result(storage, task.id) == ResultRow(task.id, 1, b"42")
    assert await status(storage, child.id) is Status.READY
    assert await status(storage, callback.row.id) is Status.READY
    assert (await storage.read_events(EventFilter())).events == [told]
    assert [doc.value for doc in await storage.get_docs("step")] == [b"done"]


async def test_counts_follow_every_move(storage: AsyncStorage) -> None:
    one, two = await add_running(storage, queue="q"), await add_running(storage, queue="q")
    await add(storage)
    await apply(storage, finish(one), retry(two, START + HOUR))
    assert await counts(storage) == {
        ("q", Status.READY): 1,
        ("q", Status.SCHEDULED): 1,
        ("q", Status.SUCCEEDED): 1,
    }


async def test_replay_runs_an_ended_task_again_and_forgets_its_result(
    storage: AsyncStorage,
) -> None:
    task = await add_running(storage, queue="q")
    await apply(storage, finish(task, b"old", patch={"finished_at": START + 1}))
    ended = await get(storage, task.id)
    receipt = await apply(storage, replay(task.id, {"attempt": 0, "body": b"new arguments"}))
    assert receipt.woken == {"q"}
    assert await result(storage, task.id) is None, "the old result is no longer served"
    assert await get(storage, task.id) == msgspec.structs.replace(
        ended, status=Status.READY, attempt=0, body=b"new arguments"
    )
    [again] = await take(storage)
    assert (again.epoch, again.attempt, again.body) == (2, 1, b"new arguments")
    await apply(storage, finish(again, b"new"))
    assert await result(storage, task.id) == ResultRow(task.id, 2, b"new")


async def test_replay_clears_what_its_patch_says(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    await apply(storage, fail(task, {"finished_at": START, "keep_until": START + HOUR}))
    await apply(
        storage,
        replay(task.id, {"started_at": None, "finished_at": None, "keep_until": None}),
    )
    fresh = await get(storage, task.id)
    assert (fresh.started_at, fresh.finished_at, fresh.keep_until) == (None, None, None)


async def test_a_replay_for_later_is_scheduled(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    await apply(storage, fail(task))
    await apply(storage, replay(task.id, {"run_at": START + HOUR}))
    assert await status(storage, task.id) is Status.SCHEDULED


async def test_a_final_row_takes_no_worker_s_word(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    await apply(storage, finish(task))
    assert await outcome(storage, change(task.id, {"priority": 3}, expect=UNFINISHED)) is REFUSED
    assert await outcome(storage, fail(task)) is REFUSED
    assert await outcome(storage, fail(task, fence=None)) is REFUSED


async def test_the_retention_of_an_ended_row_can_be_changed(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    await apply(storage, finish(task))
    unit = change(task.id, {"keep_until": START + HOUR}, expect=(Status.SUCCEEDED,))
    assert await outcome(storage, unit) is APPLIED
    assert (await get(storage, task.id)).keep_until == START + HOUR
    assert await result(storage, task.id) == ResultRow(task.id, 1, b"value")


async def test_an_exchange_settles_and_claims(storage: AsyncStorage) -> None:
    task = await add_running(storage, queue="q")
    following = await add(storage)
    receipt, batch = await storage.exchange([finish(task)], claim())
    assert receipt.outcome == [APPLIED]
    assert ids(batch.tasks) == [following.id]
