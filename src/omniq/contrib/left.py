"""What a worker leaves behind that nobody will run by itself: tasks whose function is unknown."""

from __future__ import annotations

from collections.abc import Callable

from omniq.core import AsyncOmniQ
from omniq.models.event import TaskEvent
from omniq.models.filters import EventFilter
from omniq.models.status import EventType, Status

PAGE, PAGES = 500, 20
"""How many events are read at most: every task leaves one each time it is given back."""
SHOWN = 3
_GIVEN_BACK = EventFilter(types=(EventType.UNKNOWN_FUNCTION,), newest_first=True)


async def left_behind(queue: AsyncOmniQ, serves: Callable[[str], bool]) -> list[str]:
    """One line for each function that tasks in the served queues wait for in vain.

    Known from the events, so nothing is found if only errors are kept of those.
    """
    last = await _last_given_back(queue)
    waiting: dict[str, list[TaskEvent]] = {}
    ids = [event.task for event in last.values() if serves(event.queue)]
    for start in range(0, len(ids), PAGE):
        for row in await queue.stores.tasks.get_tasks(ids[start : start + PAGE]):
            event = last[row.id]
            # Of the same epoch: nobody has taken it since.
            if row.status in (Status.SCHEDULED, Status.READY) and row.epoch == event.epoch:
                waiting.setdefault(event.name, []).append(event)
    return [_told(events) for _, events in sorted(waiting.items())]


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


def _told(events: list[TaskEvent]) -> str:
    number = "1 task" if len(events) == 1 else f"{len(events)} tasks"
    which = ", ".join(event.task for event in events[:SHOWN])
    more = ", ..." if len(events) > SHOWN else ""
    return f"Left: {number} ({which}{more}), since {events[0].data['reason']}."
