"""Processes for torture: `python -m tests.chaos.crew DEED SETTINGS FOLDER NAME [COUNT]`.

Each says "ready" first. What really happened is written down in FOLDER, outside of the queue:
`acked-NAME`, an id for each enqueue after it was acknowledged; `ran-NAME`, a line when an
execution starts and when it ends. A line is one write to a file opened for appending.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from omniq import AsyncOmniQ, Task, task
from omniq.errors import OmniQError
from omniq.ids import uuid7
from omniq.workers import WorkerPool, ahead, current
from tests.conformance.kit import APPLIED, claim, finish, outcome

LEASE = 2.0
"""Seconds, unless the settings say otherwise: short where it is to run out."""
SLOTS = 5
BATCH = 20


@cache
def _file(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def write(path: Path, *lines: str) -> None:
    os.write(_file(path), "".join(f"{line}\n" for line in lines).encode())


@task("chaos.step")
async def step(folder: str, seconds: float) -> int:
    """Leave a line before and after; the result says which claim it is of."""
    row, pid = current().row, os.getpid()
    path = Path(folder) / f"ran-{pid}"
    write(path, f"start {row.id} {row.epoch} {pid} {time.monotonic_ns()}")
    try:
        await asyncio.sleep(seconds)
    finally:  # also if its worker breaks it off, as one does that was cut off for a lease
        write(path, f"end {row.id} {row.epoch} {pid} {time.monotonic_ns()}")
    return row.epoch


@task("chaos.wait")
async def wait(folder: str) -> int:
    """The same, and the first to claim it ends it only when there is a file `go`."""
    row, pid = current().row, os.getpid()
    path = Path(folder) / f"ran-{pid}"
    write(path, f"start {row.id} {row.epoch} {pid} {time.monotonic_ns()}")
    try:
        while row.epoch == 1 and not (Path(folder) / "go").exists():
            await asyncio.sleep(0.01)
    finally:
        write(path, f"end {row.id} {row.epoch} {pid} {time.monotonic_ns()}")
    return row.epoch


def open_queue(settings: dict[str, Any]) -> AsyncOmniQ:
    """A queue at that place, which keeps every event and has no worker of its own."""
    settings = {"lease": LEASE} | settings
    return AsyncOmniQ(**settings, event_level="DEBUG", retry_delay=0.01, embedded=False)


async def work(queue: AsyncOmniQ, folder: Path, name: str, count: int) -> None:
    """Run tasks until killed."""
    async with WorkerPool(queue, async_workers=SLOTS, thread_workers=1):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def keep(queue: AsyncOmniQ, folder: Path, name: str, count: int) -> None:
    """The same, and what it has claimed ahead it keeps: however slow it is, a claim is a run."""
    ahead.PATIENCE = math.inf
    await work(queue, folder, name, count)


async def enqueue(queue: AsyncOmniQ, folder: Path, name: str, count: int) -> None:
    """Enqueue until so many are acknowledged, whatever becomes of the place meanwhile."""
    await queue.open()
    print("ready", flush=True)
    acked = 0
    while acked < count:
        tasks = [Task(func=step, args=(str(folder), 0.001)) for _ in range(BATCH)]
        try:
            handles = await queue.enqueue_many(tasks)
        except OmniQError as error:
            print(f"not acknowledged: {error}", flush=True)
            await asyncio.sleep(0.05)
            continue
        write(folder / f"acked-{name}", *handles)
        acked += len(handles)
    print("done", flush=True)


async def zombie(queue: AsyncOmniQ, folder: Path, name: str, count: int) -> None:
    """Claim one task without a heartbeat, and end it at SIGUSR1, however late that is."""
    await queue.open()
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
    place = queue.stores.tasks
    asked = claim(name, queues=("default",), limit=1, lease=int(LEASE * 1000), request=uuid7())
    print("ready", flush=True)
    while not (given := (await place.claim(asked)).tasks):
        await asyncio.sleep(0.01)
    print("holds", given[0].id, given[0].epoch, flush=True)
    await told.wait()
    applied = await outcome(place, finish(given[0], b"of a zombie"))
    print("applied" if applied is APPLIED else "refused", flush=True)


DEEDS = {
    deed.__name__: deed
    for deed in (
        work,
        keep,
        enqueue,
        zombie,
    )
}


async def main(deed: str, settings: str, folder: str, name: str, count: str = "0") -> None:
    async with open_queue(msgspec.json.decode(settings)) as queue:
        await DEEDS[deed](queue, Path(folder), name, int(count))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
