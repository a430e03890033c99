"""Docs: small records by compare-and-set, with a due time, an end, and riders."""

from __future__ import annotations

import pytest

from omniq.clock import ManualClock
from omniq.ids import derived_id
from omniq.models import Doc, Insert, PutDoc, Status, Unique
from omniq.models.filters import EventFilter
from omniq.storage.base import AsyncStorage

from .conftest import MakeStorage
from .kit import (
    APPLIED,
    HOUR,
    REFUSED,
    SECOND,
    START,
    add,
    apply,
    chores,
    counts,
    event,
    ids,
    insert,
    outcome,
    row,
    status,
)

pytestmark = pytest.mark.asyncio


async def test_a_doc_starts_at_revision_one_and_grows_by_one(storage: AsyncStorage) -> None:
    for rev, value in enumerate((b"a", b"", b"\x00\xff"), start=1):
        await apply(storage, PutDoc(kind="k", key="a", value=value))
        assert await storage.get_docs("k") == [Doc("k", "a", value, rev)]


async def test_a_doc_keeps_its_stamps(storage: AsyncStorage) -> None:
    unit = PutDoc(kind="k", key="a", value=b"v", due_at=START + 1, expires_at=START + HOUR)
    await apply(storage, unit)
    assert await storage.get_docs("k") == [Doc("k", "a", b"v", 1, START + 1, START + HOUR)]
    await apply(storage, PutDoc(kind="k", key="a", value=b"v"))
    assert await storage.get_docs("k") == [Doc("k", "a", b"v", 2)]


async def test_a_write_expects_a_revision(storage: AsyncStorage) -> None:
    new = PutDoc(kind="k", key="a", value=b"1", expect=0)
    assert await outcome(storage, new) is APPLIED
    assert await outcome(storage, new) is REFUSED
    for wrong in (0, 2, 3):
        stale = PutDoc(kind="k", key="a", value=b"x", expect=wrong)
        assert await outcome(storage, stale) is REFUSED
    assert await storage.get_docs("k") == [Doc("k", "a", b"1", 1)]
    assert await outcome(storage, PutDoc(kind="k", key="a", value=b"2", expect=1)) is APPLIED
    assert await storage.get_docs("k") == [Doc("k", "a", b"2", 2)]


async def test_a_revision_of_what_is_not_there_is_refused(storage: AsyncStorage) -> None:
    assert await outcome(storage, PutDoc(kind="k", key="a", value=b"1", expect=1)) is REFUSED
    assert await storage.get_docs("k") == []


async def test_a_doc_is_deleted_under_the_same_guard(storage: AsyncStorage) -> None:
    await apply(storage, PutDoc(kind="k", key="a", value=b"1"))
    assert await outcome(storage, PutDoc(kind="k", key="a", value=None, expect=2)) is REFUSED
    assert await outcome(storage, PutDoc(kind="k", key="a", value=None, expect=1)) is APPLIED
    assert await storage.get_docs("k") == []
    assert await outcome(storage, PutDoc(kind="k", key="a", value=b"2", expect=0)) is APPLIED


async def test_a_doc_past_its_end_does_not_exist(storage: AsyncStorage, clock: ManualClock) -> None:
    await apply(storage, PutDoc(kind="k", key="a", value=b"1", expires_at=START + 10 * SECOND))
    clock.advance(11)
    assert await storage.get_docs("k") == []
    assert await outcome(storage, PutDoc(kind="k", key="a", value=b"x", expect=1)) is REFUSED
    assert await outcome(storage, PutDoc(kind="k", key="a", value=b"2", expect=0)) is APPLIED
    assert await storage.get_docs("k") == [Doc("k", "a", b"2", 1)]


async def test_a_pause_keeps_no_task_from_expiring(
    storage: AsyncStorage, clock: ManualClock
) -> None:
    task = await add(storage, expires_at=START + SECOND)
    await apply(storage, PutDoc(kind="pause", key="q", value=b""))
    clock.advance(2)
    assert ids(await chores(storage)) == [task.id]


async def test_docs_come_by_key_and_page_on_behind_the_last(storage: AsyncStorage) -> None:
    keys = ["a", "b/1", "b/2", "b/3", "b0", "c", "Z"]
    await apply(storage, *(PutDoc(kind="k", key=key, value=b"") for key in reversed(keys)))
    await apply(storage, PutDoc(kind="other", key="b/9", value=b""))
    assert await _keys(storage) == sorted(keys)
    assert await _keys(storage, prefix="b/") == ["b/1", "b/2", "b/3"]
    assert await _keys(storage, prefix="b/", limit=2) == ["b/1", "b/2"]
    assert await _keys(storage, prefix="b/", after="b/2") == ["b/3"]
    assert await _keys(storage, after="b/3", limit=2) == ["b0", "c"]
    assert await _keys(storage, prefix="nothing") == []


async def test_a_prefix_is_text_and_no_pattern(storage: AsyncStorage) -> None:
    keys = ["a%b", "a_b", "a*b", "a[b", "axb", "AXB", "é1", "é2", "f"]
    await apply(storage, *(PutDoc(kind="k", key=key, value=b"") for key in keys))
    for prefix in ("a%", "a_", "a*", "a[", "AX"):
        assert [key[:2] for key in await _keys(storage, prefix=prefix)] == [prefix]
    assert await _keys(storage, prefix="é") == ["é1", "é2"]


async def test_due_before_is_exclusive_and_needs_a_due_time(storage: AsyncStorage) -> None:
    for key, due in (("a", None), ("b", START), ("c", START + 1), ("d", START - 1)):
        await apply(storage, PutDoc(kind="k", key=key, value=b"", due_at=due))
    assert await _keys(storage, due_before=START) == ["d"]
    assert await _keys(storage, due_before=START + 1) == ["b", "d"]
    assert await _keys(storage, due_before=START + 2, after="b") == ["c", "d"]
    assert await _keys(storage, due_before=START + 2, limit=1) == ["b"]


async def test_the_riders_of_a_doc_ride_with_it(storage: AsyncStorage) -> None:
    spawned, told = insert(), event("schedule:nightly", 1)
    unit = PutDoc(kind="k", key="a", value=b"1", expect=0, spawn=(spawned,), events=(told,))
    receipt = await apply(storage, unit)
    assert receipt.woken == {"q"}
    assert await status(storage, spawned.row.id) is Status.READY
    assert (await storage.read_events(EventFilter())).events == [told]


async def test_a_refused_doc_leaves_no_rider_behind(storage: AsyncStorage) -> None:
    spawned, told = insert(), event("schedule:nightly", 1)
    unit = PutDoc(kind="k", key="a", value=b"1", expect=5, spawn=(spawned,), events=(told,))
    assert await outcome(storage, unit) is REFUSED
    assert await storage.get_tasks([spawned.row.id]) == []
    assert (await storage.read_events(EventFilter())).events == []


async def test_a_tick_that_overlaps_is_skipped_and_the_schedule_goes_on(
    storage: AsyncStorage,
) -> None:
    """The refused rider does not undo its unit."""
    await add(storage, unique=Unique("schedule/nightly"))
    tick = insert(unique=Unique("schedule/nightly"))
    receipt = await apply(storage, PutDoc(kind="schedule", key="n", value=b"2", spawn=(tick,)))
    assert receipt.riders_refused == {0: 1}
    assert await storage.get_tasks([tick.row.id]) == []
    assert [doc.value for doc in await storage.get_docs("schedule")] == [b"2"]


async def test_two_schedulers_make_one_tick(make_storage: MakeStorage) -> None:
    one, other = await make_storage(), await make_storage()
    await apply(one, PutDoc(kind="schedule", key="nightly", value=b"", due_at=START))
    tick = Insert(row(id=derived_id(START, "nightly")))
    unit = PutDoc(kind="schedule", key="nightly", value=b"", expect=1, spawn=(tick,))
    answers = {await outcome(one, unit), await outcome(other, unit)}
    assert answers == {APPLIED, REFUSED}
    assert await counts(one) == {("q", Status.READY): 1}


async def _keys(storage: AsyncStorage, **asked: object) -> list[str]:
    return [doc.key for doc in await storage.get_docs("k", **asked)]  # type: ignore[arg-type]
