"""What somebody who waits in vain, or reads the log, is told of a task."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

import pytest

from omniq import AsyncOmniQ
from omniq.errors import ResultTimeout
from omniq.models.filters import EventFilter
from omniq.models.status import EventType
from omniq.queue import policy

pytestmark = pytest.mark.asyncio


def fails() -> None:
    raise ValueError("no such thing")


async def test_a_task_whose_function_nobody_has_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "UNKNOWN_DELAYS", (600,))  # not offered again while we ask
    async with AsyncOmniQ(storage_type="memory") as queue:
        handle = await queue.enqueue("no.such:thing")
        given_back = EventFilter(task=handle.id, types=(EventType.UNKNOWN_FUNCTION,))
        async with asyncio.timeout(60), queue.listen({"tasks"}) as ear:
            while not (await queue.events(given_back)).events:
                await ear.wait(1.0)
        with pytest.raises(ResultTimeout, match=r"no worker .* has its function \(.*no\.such"):
            await handle.result(0)


async def test_a_task_that_waits_says_for_what() -> None:
    async with AsyncOmniQ(storage_type="memory") as queue:
        queue.embedded = False  # nobody works
        ready = await queue.enqueue(fails, queue="mail")
        with pytest.raises(ResultTimeout, match=r"no worker has taken it.* the queue 'mail'"):
            await ready.result(0)
        child = await queue.enqueue(fails, depends_on=ready)
        with pytest.raises(ResultTimeout, match="waits for the tasks it depends on"):
            await child.result(0)
        later = await queue.enqueue(fails, run_at=datetime(2099, 1, 1, tzinfo=UTC))
        with pytest.raises(ResultTimeout, match=r"it waits until 2099-01-01T00:00:00\+00:00$"):
            await later.result(0)


async def test_a_failure_for_good_stands_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="omniq")
    async with AsyncOmniQ(storage_type="memory") as queue:
        handle = await queue.enqueue(fails, retries=1)
        await asyncio.wait_for(_ended(queue, handle), 30)
    (line,) = [line for line in caplog.messages if "failed for good" in line]
    assert handle.id in line and "in attempt 2: ValueError: no such thing" in line


async def _ended(queue: AsyncOmniQ, id: str) -> None:
    async for _ in queue.results([id]):
        return
