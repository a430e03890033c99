"""What a worker leaves behind is found on every page of the events, and in the served queues only."""

from __future__ import annotations

from pathlib import Path

import pytest

from omniq import AsyncOmniQ, EventFilter, EventType
from omniq.contrib import left
from omniq.ids import uuid7
from omniq.models.filters import Claim, Slot
from omniq.models.outcome import Outcome, Released, Snoozed
from omniq.models.units import Move
from omniq.queue import policy

pytestmark = pytest.mark.asyncio


async def test_every_page_of_events_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left, "PAGE", 2)
    async with AsyncOmniQ(storage_type="memory", base_dir=tmp_path) as queue:
        await queue.start_worker()
        tasks = [await queue.enqueue("gone", queue=name) for name in "aabbb"]
        await _given_back(queue, 5)
        await queue.stop_worker()
        (told,) = await left.left_behind(queue, lambda name: True)
        assert told.startswith("Left: 5 tasks (") and ", ...), since task function 'gone'" in told
        (told,) = await left.left_behind(queue, lambda name: name == "a")
        assert told.startswith("Left: 2 tasks (")
        for task in tasks:
            assert await task.cancel()
        assert await left.left_behind(queue, lambda name: True) == []


@pytest.mark.parametrize(
    ("outcome", "told"), [(Released(started=False), 1), (Snoozed(delay=600.0), 0)]
)
async def test_what_a_stop_gave_back_unbegun_is_left_too(
    tmp_path: Path, outcome: Outcome, told: int
) -> None:
    """It leaves no event, unlike what puts a task off: that was in the hands of who knows it."""
    async with AsyncOmniQ(storage_type="memory", base_dir=tmp_path) as queue:
        await queue.start_worker()
        task = await queue.enqueue("gone")
        await _given_back(queue, 1)
        await queue.stop_worker()
        row = (await task.info()).row
        due = Move(id=row.id, expect=(row.status,), patch={"run_at": queue.engine.clock.now()})
        slots = (Slot(row.queue, row.lane, 1),)
        claim = Claim(owner="w", request=uuid7(), slots=slots, limit=1, lease=60_000)
        await queue.stores.apply([due])
        _, batch = await queue.stores.exchange([], claim)
        (row,) = batch.tasks
        now, rules = queue.engine.clock.now(), queue.engine.rules
        await queue.stores.apply([policy.settle(row, queue.engine.body(row), outcome, now, rules)])
        assert len(await left.left_behind(queue, lambda name: True)) == told


async def _given_back(queue: AsyncOmniQ, tasks: int) -> None:
    """Wait until a worker gave back so many tasks whose function it does not know."""
    given_back = EventFilter(types=(EventType.UNKNOWN_FUNCTION,))
    async with queue.listen({"events"}) as ear:
        while len({e.task for e in (await queue.events(given_back)).events}) < tasks:
            await ear.wait(1)
