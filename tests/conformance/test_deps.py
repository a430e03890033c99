"""Dependencies: a child runs after its parents, whatever dies or comes late."""

from __future__ import annotations

import pytest

from omniq.clock import ManualClock
from omniq.models import Dep, Flag, Status
from omniq.storage.base import AsyncStorage

from .kit import (
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
    claim,
    fail,
    finish,
    get,
    ids,
    insert,
    result,
    settle,
    status,
    take,
    task_id,
)

pytestmark = pytest.mark.asyncio


async def test_the_last_parent_releases_the_child_in_its_own_commit(
    storage: AsyncStorage,
) -> None:
    one, two = await add_running(storage), await add_running(storage)
    child = await add(storage, one.id, two.id)
    receipt = await apply(storage, finish(one))
    assert receipt.woken == frozenset()
    assert (await get(storage, child.id)).waiting == 1
    receipt = await apply(storage, finish(two))
    assert receipt.woken == {"q"}
    released = await get(storage, child.id)
    assert (released.status, released.waiting) == (Status.READY, 0)


async def test_a_child_released_by_an_exchange_is_claimed_in_it(storage: AsyncStorage) -> None:
    parent = await add_running(storage)
    child = await add(storage, parent.id)
    receipt, batch = await storage.exchange([finish(parent)], claim())
    assert receipt.outcome == [APPLIED]
    assert ids(batch.tasks) == [child.id]


async def test_a_released_child_keeps_its_own_time(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    parent = await add_running(storage)
    child = await add(storage, parent.id, run_at=START + HOUR)
    receipt = await apply(storage, finish(parent))
    assert receipt.woken == frozenset()
    assert await status(storage, child.id) is Status.SCHEDULED
    clock.advance(3600)
    assert ids(await take(storage)) == [child.id]


@pytest.mark.parametrize("end", [Status.FAILED, Status.CANCELLED, Status.EXPIRED])
async def test_a_parent_that_does_not_succeed_strands_its_child(
    storage: AsyncStorage, end: Status
) -> None:
    parent = await add_running(storage)
    child = await add(storage, parent.id)
    receipt = await apply(storage, settle(parent, end))
    assert receipt.stranded == (child.id,)
    assert await status(storage, child.id) is Status.WAITING
    [chore] = await chores(storage)
    assert (chore.id, chore.flags) == (child.id, Flag.STRANDED)


@pytest.mark.parametrize("end", [Status.FAILED, Status.CANCELLED, Status.EXPIRED])
async def test_a_child_that_needs_only_the_end_runs_after_any(
    storage: AsyncStorage, end: Status
) -> None:
    parent = await add_running(storage)
    child = await add(storage, Dep(parent.id, need="end"))
    receipt = await apply(storage, settle(parent, end))
    assert receipt.stranded == ()
    assert await status(storage, child.id) is Status.READY


async def test_a_cancel_before_the_run_counts_as_an_end(storage: AsyncStorage) -> None:
    parent = await add(storage)
    strict = await add(storage, parent.id)
    easy = await add(storage, Dep(parent.id, need="end"))
    receipt = await apply(storage, cancel(parent.id))
    assert receipt.stranded == (strict.id,)
    assert ids(await take(storage)) == [easy.id]


async def test_a_retry_is_no_end(storage: AsyncStorage) -> None:
    parent = await add_running(storage)
    child = await add(storage, parent.id, Dep((await add(storage)).id, need="end"))
    receipt = await apply(storage, settle(parent, Status.READY))
    assert receipt.stranded == ()
    assert await get(storage, child.id) == child


async def test_a_parent_that_ended_before_holds_nobody(storage: AsyncStorage) -> None:
    succeeded, failed = await add_running(storage), await add_running(storage)
    await apply(storage, finish(succeeded), fail(failed))
    assert (await add(storage, succeeded.id)).status is Status.READY
    assert (await add(storage, Dep(failed.id, need="end"))).status is Status.READY
    assert (await add(storage, succeeded.id, run_at=START + 1)).status is Status.SCHEDULED


async def test_a_parent_that_failed_before_strands_a_late_child(storage: AsyncStorage) -> None:
    parent = await add_running(storage)
    await apply(storage, fail(parent))
    child = await add(storage, parent.id)
    assert child.status is Status.WAITING
    [chore] = await chores(storage)
    assert (chore.id, chore.flags) == (child.id, Flag.STRANDED)


async def test_a_cascade_goes_on_chore_by_chore(storage: AsyncStorage) -> None:
    parent = await add_running(storage)
    child = await add(storage, parent.id)
    grandchild = await add(storage, child.id)
    await apply(storage, fail(parent))
    [first] = await chores(storage)
    assert first.id == child.id
    await apply(storage, settle(first, Status.CANCELLED))
    [second] = await chores(storage)
    assert (second.id, second.flags) == (grandchild.id, Flag.STRANDED)


async def test_a_missing_parent_refuses_the_insert_and_is_named(storage: AsyncStorage) -> None:
    nobody, noone, known = task_id(), task_id(), (await add(storage)).id
    unit = insert(nobody, known, Dep(noone, missing="refuse"))
    receipt = await storage.apply([insert(), unit])
    assert receipt.outcome == [APPLIED, REFUSED]
    assert {n: set(m) for n, m in receipt.missing.items()} == {1: {nobody, noone}}
    assert await storage.get_tasks([unit.row.id]) == []


async def test_a_missing_parent_may_count_as_done(storage: AsyncStorage) -> None:
    child = await add(storage, Dep(task_id(), missing="done"))
    assert child.status is Status.READY
    assert ids(await take(storage)) == [child.id]


async def test_a_missing_parent_may_count_as_failed(storage: AsyncStorage) -> None:
    child = await add(storage, Dep(task_id(), missing="fail"))
    assert child.status is Status.WAITING
    [chore] = await chores(storage)
    assert (chore.id, chore.flags) == (child.id, Flag.STRANDED)


async def test_a_graph_goes_in_with_one_batch(storage: AsyncStorage) -> None:
    """Parents first: a unit sees what the units before it wrote."""
    a = insert()
    b, c = insert(a.row.id), insert(a.row.id)
    d = insert(b.row.id, c.row.id)
    await apply(storage, a, b, c, d)
    order = []
    while batch := await take(storage):
        order.append(ids(batch))
        await apply(storage, *(finish(task) for task in batch))
    assert order == [[a.row.id], [b.row.id, c.row.id], [d.row.id]]


async def test_a_child_may_be_spawned_by_its_parent_s_end(storage: AsyncStorage) -> None:
    parent = await add_running(storage)
    child = insert(parent.id)
    receipt = await apply(storage, finish(parent, spawn=(child,)))
    assert receipt.riders_refused == {}
    assert await status(storage, child.row.id) is Status.READY


async def test_a_child_cancelled_while_it_waits_is_never_released(storage: AsyncStorage) -> None:
    parent = await add_running(storage, queue="q")
    child = await add(storage, parent.id)
    await apply(storage, cancel(child.id))
    receipt = await apply(storage, finish(parent))
    assert receipt.woken == frozenset()
    assert await status(storage, child.id) is Status.CANCELLED
    assert await take(storage) == []


async def test_a_parent_and_its_result_stay_while_a_child_has_not_ended(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    parent = await add_running(storage)
    child = await add(storage, parent.id)
    until = START + 10 * SECOND
    await apply(storage, finish(parent, b"for the child", until=until, patch={"keep_until": until}))
    clock.advance(11)
    assert await storage.sweep() == 0
    [running] = await take(storage)
    assert await storage.sweep() == 0
    await apply(storage, finish(running))
    assert running.id == child.id
    assert await storage.sweep() > 0
    assert await storage.get_tasks([parent.id]) == []


async def test_pitfall_10_a_parent_s_result_cannot_expire_before_the_child_runs(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    parent = await add_running(storage)
    child = await add(storage, parent.id, run_at=START + HOUR)
    await apply(storage, finish(parent, b"for the child", until=START + SECOND))
    clock.advance(3600)
    await storage.sweep()
    [running] = await take(storage)
    assert running.id == child.id
    given = await result(storage, parent.id)
    assert given is not None and given.value == b"for the child"
