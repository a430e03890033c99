"""Takes one task after the other from a queue and runs it here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from omniq._inline import MAX_RUNS, Inline, Ran, endless
from omniq._portal import by_caller
from omniq._records import TaskRun
from omniq.clock import ManualClock
from omniq.core import AsyncOmniQ
from omniq.models.filters import TaskFilter
from omniq.models.row import Ms, TaskRow
from omniq.models.status import Status
from omniq.models.units import Applied, Move
from omniq.queue import policy
from omniq.sync import OmniQ

PAGE = 200
_QUEUES = "queue"


class Runner:
    """Runs what is ready in `queue`, one task at a time, in the order of one worker.

    Coroutines run in this loop; a plain function in the thread of whoever waits for this loop
    (the blocking face), else in a thread beside the loop.
    """

    def __init__(self, queue: AsyncOmniQ) -> None:
        self.queue = queue
        self.runs: list[TaskRun] = []
        self.running: dict[str, asyncio.Event] = {}
        """Tasks that run now, with what is set at their end."""

    async def step(self) -> Ran | None:
        """Run the next task; None: nothing is ready."""
        queue = self.queue
        await queue.open()
        inline, tasks = Inline(queue.engine), queue.stores.tasks
        while True:
            names = [doc.key for doc in await tasks.get_docs(_QUEUES)]
            wanted = TaskFilter(statuses=(Status.READY,), oldest_first=True)
            ready = (await tasks.find_tasks(wanted, limit=PAGE)).rows
            batch = await tasks.claim(inline.claim(names, ready))
            for row in batch.chores:
                await self._apply(inline, row, inline.chore(row))
            if batch.tasks:
                return await self._run(inline, batch.tasks[0])
            if not batch.chores:  # they may have released something
                return None

    async def _run(self, inline: Inline, row: TaskRow) -> Ran:
        ended = self.running[row.id] = asyncio.Event()
        try:
            ran = await inline.arun(row, plain=by_caller)
            await self._apply(inline, row, ran.move)
        except BaseException:
            with suppress(asyncio.CancelledError):
                await asyncio.shield(self._apply(inline, row, inline.give_back(row)))
            raise
        finally:
            del self.running[row.id]
            ended.set()
        if len(self.runs) >= MAX_RUNS:
            raise endless(row, len(self.runs))
        self.runs.append(ran.told(self.queue.engine.clock.now()))
        return ran

    async def _apply(self, inline: Inline, row: TaskRow, move: Move | None) -> None:
        while move is not None:
            receipt = await self.queue.stores.apply([move])
            applied, done = receipt.outcome[0], move
            move = inline.after(row, move, applied)
            if applied is not Applied.REFUSED:
                self.queue.settled([done])

    async def rows(self, ids: Sequence[str]) -> list[TaskRow]:
        """Those that exist."""
        return await self.queue.stores.tasks.get_tasks(list(ids))

    async def hasten(self, row: TaskRow) -> None:
        """Make a scheduled task ready now."""
        await self.queue.stores.apply([policy.replay(row, self.queue.engine.clock.now())])

    async def travel(self, until: Ms | None) -> bool:
        """Let it be the time of the next scheduled task; False: there is none by `until`.

        A ManualClock is moved; with any other the task is made ready although it is early.
        """
        row = await self._next()
        if row is None or (until is not None and row.run_at > until):
            return False
        clock = self.queue.engine.clock
        if isinstance(clock, ManualClock):
            clock.advance(max(row.run_at - clock.now(), 0) / 1000)
        else:
            await self.hasten(row)
        return True

    async def _next(self) -> TaskRow | None:
        wanted, cursor, first = TaskFilter(statuses=(Status.SCHEDULED,)), None, None
        while True:
            page = await self.queue.stores.tasks.find_tasks(wanted, limit=PAGE, cursor=cursor)
            for row in page.rows:
                if first is None or (row.run_at, row.id) < (first.run_at, first.id):
                    first = row
            if (cursor := page.cursor) is None:
                return first


def plain_queue(queue: AsyncOmniQ | OmniQ) -> AsyncOmniQ:
    """The async queue behind either face."""
    if isinstance(queue, OmniQ):
        return queue._async
    if isinstance(queue, AsyncOmniQ):
        return queue
    raise TypeError(
        f"an AsyncOmniQ or an OmniQ is needed, not {type(queue).__name__}: for an app, give its "
        "queue, such as app.state.omniq"
    )
