"""What the tests of far results do, and ask, again and again."""

from __future__ import annotations

import asyncio

from omniq.clock import ManualClock
from omniq.models import Applied, Status, TaskRow
from omniq.queue.late import KIND
from omniq.storage.base import AsyncStorage
from tests.conformance.kit import (
    HOUR,
    LEASE,
    claim,
    finish,
    get,
    insert,
    settle,
)
from tests.queue.apart import Apart


async def start(places: Apart, owner: str = "w1", id: str | None = None) -> TaskRow:
    """A new task that `owner` runs."""
    unit = insert() if id is None else insert(id=id)
    assert (await places.stores.apply([unit])).outcome == [Applied.APPLIED]
    return await take(places, owner)


async def take(places: Apart, owner: str) -> TaskRow:
    [task] = (await places.tasks.claim(claim(owner, limit=1))).tasks
    return task


async def lose(places: Apart, clock: ManualClock, owner: str = "janitor") -> TaskRow:
    """The lease of whoever runs the only running task ends; it is back in line."""
    clock.advance(LEASE / 1000 + 1)
    [lost] = (await places.tasks.claim(claim(owner, queues=(), limit=0, chores=1))).chores
    back = settle(lost, Status.READY, {"attempt": 0})
    assert (await places.stores.apply([back])).outcome == [Applied.APPLIED]
    return lost


async def value(places: Apart, id: str) -> bytes | None:
    """What a reader is shown."""
    found = await places.stores.read_results([await get(places.tasks, id)])
    return found[id].value if id in found else None


async def far(places: Apart, id: str) -> bytes | None:
    found = await places.results.get_results([id])
    return found[0].value if found else None


async def near(places: Apart, id: str) -> bytes | None:
    found = await places.tasks.get_results([id])
    return found[0].value if found else None


async def end(places: Apart, task: TaskRow, value: bytes = b"v") -> Applied:
    move = finish(task, value, patch={"keep_until": places.tasks.clock.now() + HOUR})
    return (await places.stores.apply([move])).outcome[0]


async def notes(tasks: AsyncStorage) -> int:
    return len(await tasks.get_docs(KIND))


async def moved(places: Apart) -> None:
    """Wait until every note is worked off."""
    async with asyncio.timeout(30):
        while await notes(places.tasks):
            places.stores._late.work()  # type: ignore[union-attr]
            await asyncio.sleep(0.002)


async def gone(places: Apart, id: str) -> None:
    """Wait until the result place has let go of a result."""
    async with asyncio.timeout(30):
        while True:
            if await far(places, id) is None:
                return
            await asyncio.sleep(0.002)
