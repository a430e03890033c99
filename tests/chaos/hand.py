"""A worker process for the tests beside it: `python hand.py BASE_DIR LEASE`.

Prints "ready" once it works. Its tasks write down who ran them, so that a test can tell.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from omniq import AsyncOmniQ, task
from omniq.workers import WorkerPool


@task("chaos.mark")
def mark(folder: str, name: str, seconds: float) -> int:
    """Leave a line in a file of its own when it starts and when it ends.

    It does not end as long as there is a file `NAME.hold` beside it.
    """
    path = Path(folder) / name
    with path.open("a") as file:
        file.write(f"start {os.getpid()}\n")
    while path.with_name(f"{name}.hold").exists():
        time.sleep(0.01)
    time.sleep(seconds)
    with path.open("a") as file:
        file.write(f"end {os.getpid()}\n")
    return os.getpid()


@task("chaos.block")
async def block(seconds: float) -> int:
    """Do what no coroutine should: hold the event loop."""
    time.sleep(seconds)
    return os.getpid()


def queue_in(folder: Path, lease: float) -> AsyncOmniQ:
    queue = AsyncOmniQ(base_dir=folder, lease=lease, retry_delay=0.01)
    queue.embedded = False
    return queue


async def main(folder: Path, lease: float) -> None:
    async with queue_in(folder, lease) as queue, WorkerPool(queue, thread_workers=5):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
