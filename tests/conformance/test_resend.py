"""Everything may be sent twice: a lost answer is asked for again and does no harm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from omniq.models import (
    Applied,
    Dep,
    PutDoc,
    PutEvents,
    PutResult,
    TaskRow,
    Unique,
    Unit,
)
from omniq.models.filters import EventFilter, TaskFilter
from omniq.storage.base import AsyncStorage

from .kit import (
    ALREADY,
    APPLIED,
    CANCEL_ASKED,
    HOUR,
    LEASE,
    REFUSED,
    START,
    add,
    add_many,
    add_running,
    apply,
    cancel,
    change,
    claim,
    event,
    fail,
    find_ids,
    finish,
    held,
    insert,
    replay,
    retry,
    settle,
    snooze,
    task_id,
)

pytestmark = pytest.mark.asyncio

Make = Callable[[TaskRow, TaskRow], Unit]

# A unit about (a running row, a ready row), and what it answers at first and again.
UNITS: dict[str, tuple[Make, Applied, Applied]] = {
    "insert": (lambda run, ready: insert(id=task_id(START)), APPLIED, ALREADY),
    "insert-unique": (lambda run, ready: insert(unique=Unique("k")), APPLIED, ALREADY),
    "insert-child": (lambda run, ready: insert(run.id, ready.id), APPLIED, ALREADY),
    "insert-missing": (
        lambda run, ready: insert(Dep(task_id(), missing="fail")),
        APPLIED,
        ALREADY,
    ),
    "finish": (
        lambda run, ready: finish(
            run,
            events=(event(run.id, 1),),
            spawn=(insert(),),
            docs=(PutDoc(kind="k", key="step", value=b"1", expect=0),),
        ),
        APPLIED,
        REFUSED,
    ),
    "fail": (lambda run, ready: fail(run), APPLIED, REFUSED),
    "retry": (lambda run, ready: retry(run, START + HOUR), APPLIED, REFUSED),
    "retry-now": (lambda run, ready: retry(run, START), APPLIED, REFUSED),
    "snooze": (lambda run, ready: snooze(run, START), APPLIED, REFUSED),
    "progress": (
        lambda run, ready: settle(run, None, {"progress": b"1"}, events=(event(run.id, 2),)),
        APPLIED,
        APPLIED,
    ),
    "cancel-ready": (lambda run, ready: cancel(ready.id), APPLIED, REFUSED),
    "cancel-running": (lambda run, ready: cancel(run.id), CANCEL_ASKED, CANCEL_ASKED),
    "change": (lambda run, ready: change(ready.id, {"priority": 4}), APPLIED, APPLIED),
    "doc-new": (
        lambda run, ready: PutDoc(kind="k", key="a", value=b"1", expect=0),
        APPLIED,
        REFUSED,
    ),
    "result": (lambda run, ready: PutResult(run.id, 1, b"v"), APPLIED, APPLIED),
    "events": (
        lambda run, ready: PutEvents((event("t", 1), event("t", 2))),
        APPLIED,
        APPLIED,
    ),
}


@pytest.mark.parametrize("name", UNITS)
async def test_a_unit_sent_twice_leaves_what_the_first_left(
    storage: AsyncStorage, name: str
) -> None:
    make, first, again = UNITS[name]
    unit = make(await add_running(storage, queue="q"), await add(storage))
    assert (await storage.apply([unit])).outcome == [first]
    before = await _everything(storage)
    assert (await storage.apply([unit])).outcome == [again]
    assert await _everything(storage) == before


async def test_a_replay_sent_twice_runs_once(storage: AsyncStorage) -> None:
    task = await add_running(storage, queue="q")
    await apply(storage, fail(task))
    await apply(storage, replay(task.id))
    before = await _everything(storage)
    assert (await storage.apply([replay(task.id)])).outcome == [REFUSED]
    assert await _everything(storage) == before


async def test_a_batch_sent_twice_after_it_was_cut(storage: AsyncStorage) -> None:
    """The client knows nothing of the cut: it sends all again."""
    units = [insert() for _ in range(10)]
    await apply(storage, *units[:4])
    receipt = await storage.apply(units)
    assert receipt.outcome == [ALREADY] * 4 + [APPLIED] * 6
    assert len(await find_ids(storage)) == 10


async def test_a_claim_sent_twice_gives_the_same_rows(storage: AsyncStorage) -> None:
    await add_many(storage, [insert() for _ in range(4)])
    asked = claim("w1", limit=2)
    first = await storage.claim(asked)
    before = await _everything(storage)
    again = await storage.claim(asked)
    assert again.tasks == first.tasks
    assert await _everything(storage) == before


async def test_an_exchange_sent_twice_settles_once_and_gives_the_same_rows(
    storage: AsyncStorage,
) -> None:
    done = await add_running(storage, "w1", queue="q")
    child = insert(done.id)
    await apply(storage, child, insert(), insert())
    units, asked = [finish(done, events=(event(done.id, 1),))], claim("w1", limit=2)
    receipt, first = await storage.exchange(units, asked)
    assert receipt.outcome == [APPLIED]
    assert len(first.tasks) == 2
    before = await _everything(storage)
    receipt, again = await storage.exchange(units, asked)
    assert receipt.outcome == [REFUSED]
    assert again.tasks == first.tasks
    assert await _everything(storage) == before


async def test_a_heartbeat_sent_twice_is_one(storage: AsyncStorage) -> None:
    task = await add_running(storage)
    beats = [held(task, b"1/2")]
    first = await storage.extend("w1", LEASE, beats)
    before = await _everything(storage)
    assert await storage.extend("w1", LEASE, beats) == first
    assert await _everything(storage) == before


async def _everything(storage: AsyncStorage) -> dict[str, Any]:
    """All that anybody could read."""
    ids = await find_ids(storage, TaskFilter())
    return {
        "rows": await storage.get_tasks(ids),
        "results": await storage.get_results(ids),
        "docs": await storage.get_docs("k"),
        "counts": sorted(await storage.count_tasks(), key=lambda c: (c.queue, c.status)),
        "events": (await storage.read_events(EventFilter(), limit=1000)).events,
    }
