"""Another process at the same place: `python -m tests.conformance.neighbour SPOT GROUND DO...`.

Says "open", waits for a line, does what it was told, and says what came of it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import msgspec

from omniq.ids import uuid7
from omniq.storage.base import AsyncStorage

from .kit import APPLIED, claim, finish, insert
from .places import Ground, Spot

PAST = 1_700_000_000_000
"""Due by any clock: what `kit` makes is for clocks that begin later than ours."""


async def empty(storage: AsyncStorage, owner: str) -> list[str]:
    """Claim and settle together until nothing is left; the ids that were given."""
    given: list[str] = []
    batch = await storage.claim(claim(owner, limit=7, request=f"{owner}-0"))
    while batch.tasks:
        given += [task.id for task in batch.tasks]
        units = [finish(task, owner.encode()) for task in batch.tasks]
        asked = claim(owner, limit=7, request=f"{owner}-{len(given)}")
        receipt, batch = await storage.exchange(units, asked)
        assert set(receipt.outcome) == {APPLIED}, receipt
    return given


async def add(storage: AsyncStorage, queue: str) -> list[str]:
    """Put one task in a queue."""
    unit = insert(at=PAST, id=uuid7(), queue=queue)
    receipt = await storage.apply([unit])
    assert receipt.outcome == [APPLIED], receipt
    return [unit.row.id]


async def end(storage: AsyncStorage, queue: str) -> list[str]:
    """Run the one task of a queue."""
    [task] = (await storage.claim(claim("neighbour", queues=(queue,)))).tasks
    await storage.apply([finish(task, b"from next door")])
    return [task.id]


async def hold(storage: AsyncStorage, queue: str) -> list[str]:
    """Claim what is there, and wait to be killed."""
    tasks = (await storage.claim(claim("neighbour", queues=(queue,), lease=1000))).tasks
    print(msgspec.json.encode([task.id for task in tasks]).decode(), flush=True)
    await asyncio.Event().wait()
    return []


DEEDS: dict[str, Callable[[AsyncStorage, str], Awaitable[list[str]]]] = {
    deed.__name__: deed for deed in (empty, add, end, hold)
}


async def main(spot: Spot, ground: Ground, deed: str, word: str) -> None:
    async with spot.new(ground) as storage:
        print("open", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(msgspec.json.encode(await DEEDS[deed](storage, word)).decode(), flush=True)


if __name__ == "__main__":
    spot, ground, *told = sys.argv[1:]
    asyncio.run(main(Spot(*msgspec.json.decode(spot)), Ground(*msgspec.json.decode(ground)), *told))
