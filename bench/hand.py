"""A worker process: `python hand.py URL FOLDER NAMESPACE`. Ready when it says so, works on "go"."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import ours  # noqa: F401  its tasks are what is run here

from omniq import AsyncOmniQ
from omniq.workers import AsyncWorker


async def main(url: str, folder: Path, namespace: str) -> None:
    queue = AsyncOmniQ(storage_url=url, base_dir=folder, namespace=namespace)
    queue.embedded = False
    async with queue:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        async with AsyncWorker(queue, max_workers=100):
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
