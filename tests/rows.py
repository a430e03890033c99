"""What a queue holds, all of it, for tests that count."""

from __future__ import annotations

from omniq import AsyncOmniQ, TaskFilter
from omniq.models.row import TaskRow


async def rows_in(queue: AsyncOmniQ) -> dict[str, TaskRow]:
    """Every task by its id, however many pages that takes."""
    found = dict[str, TaskRow]()
    cursor = None
    while True:
        page = await queue.find(TaskFilter(), limit=500, cursor=cursor)
        found |= {row.id: row for row in page.tasks}
        cursor = page.cursor
        if cursor is None:
            return found
