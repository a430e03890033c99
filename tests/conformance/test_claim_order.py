"""Claim: which rows, in which order, and what a claim writes into them."""

from __future__ import annotations

import random

import pytest

from omniq.clock import ManualClock
from omniq.ids import derived_id
from omniq.models import PutDoc, Status
from omniq.models.filters import Claim, Slot
from omniq.storage.base import AsyncStorage

from .kit import (
    HOUR,
    LEASE,
    SECOND,
    START,
    add,
    add_many,
    add_running,
    apply,
    change,
    chores,
    claim,
    fence,
    finish,
    get,
    ids,
    insert,
    retry,
    status,
    take,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.clusters]


async def test_order_is_priority_then_run_at_then_id(storage: AsyncStorage) -> None:
    units = [
        insert(priority=priority, run_at=START - ago)
        for priority in (-1, 0, 5)
        for ago in (0, 10, 10, 20)
    ]
    wanted = [u.row.id for u in sorted(units, key=_order)]
    random.Random(1).shuffle(units)
    await apply(storage, *units)
    got = [task.id for _ in range(4) for task in await take(storage, limit=3)]
    assert got == wanted


async def test_pitfall_24_derived_tick_ids_keep_the_order(storage: AsyncStorage) -> None:
    ticks = [insert(id=derived_id(START + n, "nightly")) for n in range(20)]
    plain = [insert(at=START + n, run_at=START) for n in range(20)]
    units = [*ticks, *plain]
    random.Random(2).shuffle(units)
    await apply(storage, *units)
    got = ids(await take(storage, limit=40))
    assert got == sorted(u.row.id for u in units)
    assert [int(id.replace("-", "")[:12], 16) for id in got] == sorted(
        START + n for n in range(20) for _ in (0, 1)
    )


async def test_a_claim_makes_the_row_running_and_raises_its_epoch(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    before = await add(storage, body=b"work", error=b"last time", preview="work()")
    clock.advance(1)
    batch = await storage.claim(claim("w1", request="r-1"))
    [task] = batch.tasks
    assert task.status is Status.RUNNING
    assert (task.epoch, task.attempt) == (before.epoch + 1, before.attempt + 1)
    assert (task.claim, task.owner, task.started_at) == ("r-1", "w1", START + SECOND)
    assert (task.body, task.error, task.preview) == (b"work", b"last time", "work()")
    assert await get(storage, task.id) == task


async def test_a_second_claim_counts_on(storage: AsyncStorage, clock: ManualClock) -> None:
    first = await add_running(storage, queue="q")
    await apply(storage, retry(first, START))
    clock.advance(5)
    [second] = await take(storage, "w2", request="r-2")
    assert (second.epoch, second.attempt) == (2, 2)
    assert (second.owner, second.claim) == ("w2", "r-2")
    assert second.started_at == START + 5 * SECOND


async def test_what_is_claimed_is_not_given_again(storage: AsyncStorage) -> None:
    task = await add(storage)
    assert ids(await take(storage, "w1")) == [task.id]
    assert await take(storage, "w1") == []
    assert await take(storage, "w2") == []


async def test_a_claim_takes_only_its_queue_and_lane(storage: AsyncStorage) -> None:
    wanted = await add(storage, queue="mail", lane="thread")
    await add(storage, queue="mail", lane="async")
    await add(storage, queue="other", lane="thread")
    assert ids(await take(storage, queues=("mail",), lanes=("thread",))) == [wanted.id]


async def test_a_full_lane_does_not_starve_the_other(storage: AsyncStorage) -> None:
    """Lanes are in the claim: work for one cannot hide behind work for another."""
    await add_many(storage, [insert(lane="process", priority=9) for _ in range(50)])
    quick = await add(storage, lane="async")
    slots = (Slot("q", "async", 1), Slot("q", "process", 0))
    batch = await storage.claim(Claim(owner="w1", request="r", slots=slots, limit=10, lease=LEASE))
    assert ids(batch.tasks) == [quick.id]


async def test_slots_of_one_lane_share_its_room_and_are_served_in_order(
    storage: AsyncStorage,
) -> None:
    for queue in ("a", "b"):
        for lane in ("async", "thread"):
            await add_many(storage, [insert(queue=queue, lane=lane) for _ in range(5)])
    slots = (
        Slot("b", "thread", 7),
        Slot("a", "thread", 7),
        Slot("a", "async", 2),
        Slot("b", "async", 2),
    )
    asked = Claim(owner="w1", request="r", slots=slots, limit=8, lease=LEASE)
    got = [(task.queue, task.lane) for task in (await storage.claim(asked)).tasks]
    assert got == [("b", "thread")] * 5 + [("a", "thread")] * 2 + [("a", "async")]


async def test_a_claim_without_room_takes_nothing(storage: AsyncStorage) -> None:
    task = await add(storage)
    assert await take(storage, limit=0) == []
    assert await take(storage, queues=()) == []
    assert await status(storage, task.id) is Status.READY


async def test_due_rows_are_promoted_before_the_choice(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    now = await add(storage, priority=0)
    later = await add(storage, priority=5, run_at=START + 10 * SECOND)
    clock.advance(11)
    assert ids(await take(storage)) == [later.id, now.id]


async def test_a_row_is_not_given_before_its_time(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add(storage, run_at=START + 10 * SECOND)
    clock.advance(9.999)
    assert await take(storage) == []
    clock.advance(0.001)
    assert ids(await take(storage)) == [task.id]


async def test_next_due_is_the_next_time_that_lies_ahead(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    assert (await storage.claim(claim())).next_due is None
    await add(storage, run_at=START + 30 * SECOND)
    await add(storage, run_at=START + 20 * SECOND)
    await add(storage)
    assert (await storage.claim(claim())).next_due == START + 20 * SECOND
    clock.advance(20)
    assert (await storage.claim(claim())).next_due == START + 30 * SECOND
    clock.advance(10)
    assert (await storage.claim(claim())).next_due is None


async def test_a_retry_and_a_change_of_time_are_in_next_due(storage: AsyncStorage) -> None:
    task = await add_running(storage, queue="q")
    await apply(storage, retry(task, START + 40 * SECOND))
    assert (await storage.claim(claim())).next_due == START + 40 * SECOND
    await apply(storage, change(task.id, {"run_at": START + 7 * SECOND}))
    assert (await storage.claim(claim())).next_due == START + 7 * SECOND


async def test_what_is_handed_out_as_a_chore_is_not_in_next_due(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    await add(storage, run_at=START + HOUR, expires_at=START + SECOND)
    clock.advance(2)
    batch = await storage.claim(claim(chores=1))
    assert (len(batch.chores), batch.next_due) == (1, None)


async def test_a_changed_priority_changes_the_order(storage: AsyncStorage) -> None:
    first, second = await add(storage), await add(storage)
    await apply(storage, change(second.id, {"priority": 1}))
    assert ids(await take(storage)) == [second.id, first.id]


async def test_a_paused_queue_gives_nothing(storage: AsyncStorage) -> None:
    paused, open_ = await add(storage, queue="a"), await add(storage, queue="b")
    await apply(storage, PutDoc(kind="pause", key="a", value=b""))
    assert ids(await take(storage, queues=("a", "b"))) == [open_.id]
    await apply(storage, PutDoc(kind="pause", key="a", value=None))
    assert ids(await take(storage, queues=("a", "b"))) == [paused.id]


async def test_a_pause_ends_with_its_doc(storage: AsyncStorage, clock: ManualClock) -> None:
    task = await add(storage)
    await apply(storage, PutDoc(kind="pause", key="q", value=b"", expires_at=START + HOUR))
    assert await take(storage) == []
    clock.advance(3601)
    assert ids(await take(storage)) == [task.id]


async def test_a_row_past_its_expiry_is_not_given(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    await add(storage, expires_at=START + 10 * SECOND)
    fresh = await add(storage, expires_at=START + HOUR)
    clock.advance(11)
    assert ids(await take(storage)) == [fresh.id]


async def test_pitfall_25_a_claim_resent_gives_the_same_rows(storage: AsyncStorage) -> None:
    await add_many(storage, [insert() for _ in range(5)])
    asked = claim("w1", limit=3)
    first = await storage.claim(asked)
    assert len(first.tasks) == 3
    again = await storage.claim(asked)
    assert again.tasks == first.tasks
    assert [fence(t) for t in again.tasks] == [fence(t) for t in first.tasks]
    assert len(await take(storage, "w1")) == 2, "a new request takes the rest"


async def test_a_claim_resent_after_a_part_was_settled_gives_the_rest(
    storage: AsyncStorage,
) -> None:
    await add_many(storage, [insert() for _ in range(3)])
    asked = claim("w1", limit=3)
    one, two, three = (await storage.claim(asked)).tasks
    await apply(storage, finish(two))
    assert (await storage.claim(asked)).tasks == [one, three]


async def test_a_claim_renews_the_lease_of_its_owner(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add_running(storage, "w1")
    for _ in range(4):
        clock.advance(20)
        assert await take(storage, "w1") == []
        assert await chores(storage) == []
    clock.advance(31)
    assert ids(await chores(storage)) == [task.id]


def _order(unit: object) -> tuple[int, int, str]:
    task = unit.row  # type: ignore[attr-defined]
    return (-task.priority, task.run_at, task.id)
