"""Releases under stress: late children, crowds of children, clients that die half-way."""

from __future__ import annotations

import asyncio

import pytest

from omniq.models import Flag, Status
from omniq.storage.base import AsyncStorage

from .conftest import MakeStorage
from .kit import (
    APPLIED,
    REFUSED,
    add_many,
    add_running,
    apply,
    cancel,
    chores,
    counts,
    fail,
    finish,
    insert,
    outcome,
    settle,
    status,
)

pytestmark = pytest.mark.asyncio


async def test_the_race_of_a_late_child_with_its_parent_s_end(make_storage: MakeStorage) -> None:
    """Whoever is first, the child is released: never left waiting for an end that was."""
    one, other = await make_storage(), await make_storage()
    for _ in range(30):
        parent = await add_running(one)
        child = insert(parent.id)
        await asyncio.gather(one.apply([finish(parent)]), other.apply([child]))
        assert await status(one, child.row.id) is Status.READY
        await apply(other, cancel(child.row.id))


async def test_the_race_of_a_late_child_with_its_parent_s_failure(
    make_storage: MakeStorage,
) -> None:
    one, other = await make_storage(), await make_storage()
    for _ in range(15):
        parent = await add_running(one)
        child = insert(parent.id)
        await asyncio.gather(other.apply([child]), one.apply([fail(parent)]))
        [chore] = await chores(one)
        assert (chore.id, chore.flags) == (child.row.id, Flag.STRANDED)
        await apply(one, settle(chore, Status.CANCELLED))


async def test_pitfall_16_a_crowd_of_children_is_released_though_the_releaser_dies(
    make_storage: MakeStorage,
) -> None:
    """More children than one unit may release: `sweep` of any client goes on, once for each."""
    settler, other = await make_storage(), await make_storage()
    parent = await add_running(settler)
    await add_many(settler, [insert(parent.id) for _ in range(5000)])
    receipt = await settler.apply([finish(parent)])
    assert receipt.outcome == [APPLIED]
    await settler.close()
    for _ in range(50):
        found = await counts(other)
        if found.get(("q", Status.READY)) == 5000:
            break
        await other.sweep()
    assert found.get(("q", Status.WAITING), 0) == 0
    assert found[("q", Status.READY)] == 5000
    assert await outcome(other, finish(parent)) is REFUSED


async def test_pitfall_16_children_beyond_the_first_are_stranded_too(
    storage: AsyncStorage,
) -> None:
    crowd = storage.capabilities.unit_rows + 50
    parent = await add_running(storage)
    await add_many(storage, [insert(parent.id) for _ in range(crowd)])
    await apply(storage, fail(parent))
    seen: set[str] = set()
    for _ in range(50):
        batch = await chores(storage, limit=200)
        seen |= {c.id for c in batch if c.flags == Flag.STRANDED}
        if len(seen) == crowd:
            break
        await storage.sweep()
    assert len(seen) == crowd


async def test_a_receipt_says_when_a_release_has_to_go_on(storage: AsyncStorage) -> None:
    """Until then children wait that could run: whoever settled had better sweep at once."""
    few, many = await add_running(storage), await add_running(storage)
    room = storage.capabilities.unit_rows
    await add_many(storage, [insert(few.id) for _ in range(room)])
    await add_many(storage, [insert(many.id) for _ in range(room + 1)])
    assert not (await storage.apply([finish(few)])).unreleased
    assert (await storage.apply([finish(many)])).unreleased
    other = await add_running(storage)
    assert not (await storage.apply([finish(other)])).unreleased, "it speaks of its own units"
    assert await storage.sweep() > 0
    assert (await counts(storage)).get(("q", Status.WAITING), 0) == 0
