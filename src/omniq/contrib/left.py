"""What a worker leaves behind that nobody will run by itself: tasks whose function is unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from omniq.core import AsyncOmniQ
from omniq.models.event import TaskEvent
from omniq.models.filters import EventFilter
from omniq.models.status import EventType, Status

PAGE, PAGES = 500, 20
"""How many events are read at most: every task leaves one each time it is given back."""
SHOWN = 3
_WAITING = (Status.SCHEDULED, Status.READY)
_GIVEN_BACK = EventFilter(types=(EventType.UNKNOWN_FUNCTION,), newest_first=True)


async def left_behind(queue: AsyncOmniQ, serves: Callable[[str], bool]) -> list[str]:
    """One line for each function that tasks in the served queues wait for and nobody here knows.

    Some worker found that out for itself, and left an event: nothing is found if only errors
    are kept of those. Raises StorageError.
    """
    last = await _last_given_back(queue)
    engine = queue.engine
    whys: dict[tuple[str, bytes], str] = {}
    waiting: dict[str, list[str]] = {}
    ids = [event.task for event in last.values() if serves(event.queue)]
    for start in range(0, len(ids), PAGE):
        for row in await queue.stores.tasks.get_tasks(ids[start : start + PAGE]):
            if row.status not in _WAITING:
                continue
            # Of a later epoch: somebody who may know it took it since, and wants it tried later.
            # A stop gives back at once what it was about to begin: due now, and nobody's.
            if row.epoch != last[row.id].epoch and row.run_at > engine.clock.now():
                continue
            payload = engine.body(row).payload
            known = (row.name, payload[:1])  # its tag: of a plain call nothing is imported
            if why := whys.get(known) or engine.unknown(row, payload):
                whys[known] = why
                waiting.setdefault(why, []).append(row.id)
            await asyncio.sleep(0)  # there may be thousands, and signals are to be heard
    return [_told(why, ids) for why, ids in sorted(waiting.items())]


async def _last_given_back(queue: AsyncOmniQ) -> dict[str, TaskEvent]:
    last: dict[str, TaskEvent] = {}
    after = None
    for _ in range(PAGES):
        page = await queue.events(_GIVEN_BACK, after=after, limit=PAGE)
        for event in page.events:
            known = last.setdefault(event.task, event)
            if known.epoch < event.epoch:
                last[event.task] = event
        if len(page.events) < PAGE:
            break
        after = page.cursor
    return last


def _told(why: str, ids: list[str]) -> str:
    number = "1 task" if len(ids) == 1 else f"{len(ids)} tasks"
    which = ", ".join(ids[:SHOWN])
    more = ", ..." if len(ids) > SHOWN else ""
    return f"Left: {number} ({which}{more}), since {why}."
