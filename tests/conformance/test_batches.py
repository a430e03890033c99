"""Batches are ordered, not atomic: one refused unit harms no other; a unit with riders is."""

from __future__ import annotations

import pytest

from omniq.models import Dep, Fence, PutDoc, PutEvents, PutResult, Status, Unique
from omniq.models.filters import EventFilter
from omniq.models.units import Receipt
from omniq.storage.base import AsyncStorage

from .kit import (
    ALREADY,
    APPLIED,
    CANCEL_ASKED,
    REFUSED,
    START,
    add,
    add_running,
    apply,
    cancel,
    change,
    claim,
    event,
    fail,
    finish,
    get,
    ids,
    insert,
    result,
    retry,
    status,
    take,
    task_id,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.ways]


async def test_an_empty_batch_answers_nothing(storage: AsyncStorage) -> None:
    assert await storage.apply([]) == Receipt([])
    receipt, batch = await storage.exchange([], claim())
    assert (receipt.outcome, batch.tasks) == ([], [])


async def test_one_refused_unit_harms_no_other(storage: AsyncStorage) -> None:
    """The batcher mixes callers who know nothing of each other."""
    known = await add(storage, unique=Unique("k"))
    running, asked = await add_running(storage), await add_running(storage)
    first, last = insert(), insert()
    receipt = await storage.apply(
        [
            first,
            insert(id=known.id),
            insert(unique=Unique("k")),
            insert(task_id()),
            finish(running, fence=Fence(9, "x")),
            cancel(asked.id),
            PutDoc(kind="k", key="a", value=b"", expect=4),
            PutResult(running.id, 1, b"v"),
            PutEvents((event("t"),)),
            last,
        ]
    )
    assert receipt.outcome == [
        APPLIED,
        ALREADY,
        REFUSED,
        REFUSED,
        REFUSED,
        CANCEL_ASKED,
        REFUSED,
        APPLIED,
        APPLIED,
        APPLIED,
    ]
    assert receipt.taken == {2: known.id}
    assert set(receipt.missing) == {3}
    assert receipt.riders_refused == {}
    assert len(await storage.get_tasks([first.row.id, last.row.id])) == 2


async def test_new_rows_among_known_ones_are_stored(storage: AsyncStorage) -> None:
    """As in a batch that is sent again, and has grown: what was stored is left as it is."""
    first, second = insert(body=b"1"), insert(body=b"2")
    assert (await storage.apply([first, second])).outcome == [APPLIED, APPLIED]
    again = insert(id=first.row.id, body=b"another")
    news = [insert() for _ in range(3)]
    receipt = await storage.apply([news[0], again, news[1], second, news[2]])
    assert receipt.outcome == [APPLIED, ALREADY, APPLIED, ALREADY, APPLIED]
    rows = await storage.get_tasks([unit.row.id for unit in (first, *news)])
    assert len(rows) == 4
    assert [row.body for row in rows if row.id == first.row.id] == [b"1"]


async def test_a_unit_sees_what_the_units_before_it_wrote(storage: AsyncStorage) -> None:
    holder = await add_running(storage, unique=Unique("k"))
    heir = insert(holder.id, unique=Unique("k"))
    receipt = await storage.apply([finish(holder), heir])
    assert receipt.outcome == [APPLIED, APPLIED]
    assert await status(storage, heir.row.id) is Status.READY
    early, late = insert(unique=Unique("j")), insert(unique=Unique("j"))
    receipt = await storage.apply([late, early])
    assert receipt.taken == {1: late.row.id}


async def test_a_child_does_not_see_a_parent_that_comes_behind_it(
    storage: AsyncStorage,
) -> None:
    parent = insert()
    receipt = await storage.apply([insert(parent.row.id), parent])
    assert receipt.outcome == [REFUSED, APPLIED]
    assert receipt.missing == {0: (parent.row.id,)}


async def test_pitfall_14_of_two_units_on_one_row_none_vanishes_silently(
    storage: AsyncStorage,
) -> None:
    """Callers close the batch before that; who does not is told, or gets both in order."""
    task = await add(storage)
    two = [change(task.id, {"priority": 1}), change(task.id, {"priority": 2, "tags": ("t",)})]
    try:
        receipt = await storage.apply(two)
    except ValueError:
        assert await get(storage, task.id) == task
    else:
        assert receipt.outcome == [APPLIED, APPLIED]
        now = await get(storage, task.id)
        assert (now.priority, now.tags) == (2, ("t",))


async def test_pitfall_15_a_refused_rider_is_reported_and_undoes_nothing(
    storage: AsyncStorage,
) -> None:
    task = await add_running(storage, unique=Unique("mine"))
    await add(storage, unique=Unique("other"))
    good, taken, orphan = insert(), insert(unique=Unique("other")), insert(task_id())
    told = event(task.id, 1)
    unit = finish(
        task,
        b"v",
        events=(told,),
        spawn=(taken, good, orphan),
        docs=(
            PutDoc(kind="k", key="no", value=b"", expect=3),
            PutDoc(kind="k", key="yes", value=b"", expect=0),
        ),
    )
    receipt = await storage.apply([insert(), unit])
    assert receipt.outcome == [APPLIED, APPLIED]
    assert receipt.riders_refused == {1: 3}
    assert await status(storage, task.id) is Status.SUCCEEDED
    assert await result(storage, task.id) is not None
    assert len(await storage.get_tasks([good.row.id, taken.row.id, orphan.row.id])) == 1
    assert [doc.key for doc in await storage.get_docs("k")] == ["yes"]
    assert (await storage.read_events(EventFilter())).events == [told]


async def test_a_rider_that_is_known_was_not_refused(storage: AsyncStorage) -> None:
    """A callback inserted twice under one id is one callback."""
    callback = insert()
    await apply(storage, callback)
    task = await add_running(storage)
    receipt = await apply(storage, fail(task, spawn=(callback,)))
    assert receipt.riders_refused == {}


async def test_riders_of_riders_ride_too(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    told = event("schedule:n", 1)
    spawned = insert(Dep(task.id), events=(event("t", 2),))
    doc = PutDoc(kind="k", key="a", value=b"", spawn=(spawned,), events=(told,))
    receipt = await apply(storage, finish(task, docs=(doc,)))
    assert receipt.riders_refused == {}
    assert await status(storage, spawned.row.id) is Status.READY
    events = (await storage.read_events(EventFilter())).events
    assert {(e.task, e.n) for e in events} == {("schedule:n", 1), ("t", 2)}


async def test_woken_names_every_queue_in_which_a_row_became_ready(
    storage: AsyncStorage,
) -> None:
    parent, again = await add_running(storage, queue="p"), await add_running(storage, queue="r")
    await add(storage, parent.id, queue="child")
    receipt = await apply(
        storage,
        finish(parent, spawn=(insert(queue="spawned"),)),
        retry(again, START),
        insert(queue="new"),
        insert(queue="later", run_at=START + 1),
    )
    assert receipt.woken == {"child", "spawned", "r", "new"}


async def test_an_exchange_claims_whatever_became_of_its_units(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    waiting, new = await add(storage), insert()
    receipt, batch = await storage.exchange([finish(task, fence=Fence(5, "x")), new], claim())
    assert receipt.outcome == [REFUSED, APPLIED]
    assert ids(batch.tasks) == [waiting.id, new.row.id]


async def test_a_large_batch_goes_through_in_order(storage: AsyncStorage) -> None:
    units = [insert(priority=n % 3) for n in range(480)]
    receipt = await storage.apply(units)
    assert receipt.outcome == [APPLIED] * 480
    tasks = await take(storage, limit=480)
    assert [t.priority for t in tasks] == [2] * 160 + [1] * 160 + [0] * 160
    receipt = await storage.apply([finish(task) for task in tasks])
    assert receipt.outcome == [APPLIED] * 480
