"""What a worker leaves behind is found on every page of the events, and in the served queues only."""

from __future__ import annotations

from pathlib import Path

import pytest

from omniq import AsyncOmniQ, EventFilter, EventType
from omniq.contrib import left

pytestmark = pytest.mark.asyncio


async def test_every_page_of_events_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left, "PAGE", 2)
    async with AsyncOmniQ(storage_type="memory", base_dir=tmp_path) as queue:
        await queue.start_worker()
        tasks = [await queue.enqueue("gone", queue=name) for name in "aabbb"]
        given_back = EventFilter(types=(EventType.UNKNOWN_FUNCTION,))
        async with queue.listen({"events"}) as ear:
            while len({e.task for e in (await queue.events(given_back)).events}) < 5:
                await ear.wait(1)
        await queue.stop_worker()
        (told,) = await left.left_behind(queue, lambda name: True)
        assert told.startswith("Left: 5 tasks (") and ", ...), since task function 'gone'" in told
        (told,) = await left.left_behind(queue, lambda name: name == "a")
        assert told.startswith("Left: 2 tasks (")
        for task in tasks:
            assert await task.cancel()
        assert await left.left_behind(queue, lambda name: True) == []
