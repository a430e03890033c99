"""Plain dicts."""

from __future__ import annotations

import time
from collections import deque

from floors.work import BATCH, PAYLOAD, run_all

from omniq.ids import uuid7


async def throughput(tasks: int) -> float:
    """Seconds for `tasks` no-op coroutines, 100 at a time."""
    rows = {uuid7(): PAYLOAD for _ in range(tasks)}
    ready, results = deque(rows), {}
    started = time.perf_counter()
    while ready:
        claimed = [ready.popleft() for _ in range(min(BATCH, len(ready)))]
        for id, value in await run_all((id, rows[id]) for id in claimed):
            del rows[id]
            results[id] = value
    taken = time.perf_counter() - started
    assert len(results) == tasks
    return taken
