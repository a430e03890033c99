"""Waiting for results: one loop per process, woken by the place, all open ids in few reads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

from omniq.errors import StorageClosed, StorageError
from omniq.models.filters import EventFilter
from omniq.models.row import ResultRow, TaskRow
from omniq.models.status import EventType, Status
from omniq.models.units import Move
from omniq.queue.outage import Outage
from omniq.queue.stores import Stores
from omniq.storage.base import Ear

log = logging.getLogger("omniq.queue")

CHUNK = 200
POLL = 1.0
"""Seconds after which open ids are read even if nobody woke us (a push may get lost)."""
QUIET = 120.0
"""Seconds without a failed read after which the next one is told as another outage."""
UNREAD = "results cannot be waited for"


class Ended(NamedTuple):
    """A final row, and the result that counts if there is one."""

    row: TaskRow
    result: ResultRow | None


class Waiter:
    """Resolves a future per waiting caller with how its task ended; None: no such task.

    Tasks of this client signal its inbox; for tasks of others any change wakes the loop.
    Of many open ids the first are read at every wake-up, the rest at every poll: tasks end
    roughly in the order in which they are waited for.
    """

    def __init__(self, stores: Stores, client: str) -> None:
        self._stores, self._client, self._inbox = stores, client, f"inbox:{client}"
        self._open: dict[str, list[asyncio.Future[Ended | None]]] = {}
        self._fresh = asyncio.Event()
        self._hints: set[str] = set()
        self._loop: asyncio.Task[None] | None = None
        self._outage, self._failed_at = Outage(log), 0.0

    def wait_for(self, id: str) -> asyncio.Future[Ended | None]:
        """A future of how the task ended; None: no such task."""
        future: asyncio.Future[Ended | None] = asyncio.get_running_loop().create_future()
        self._open.setdefault(id, []).append(future)
        self._hints.add(id)
        self._fresh.set()
        if self._loop is None:
            self._loop = asyncio.create_task(self._run(), name="omniq-waiter")
        return future

    def hint(self, moves: Iterable[Move]) -> None:
        """This process settled these: read them first."""
        if self._open:
            ended = [m.id for m in moves if m.to is not None and m.to.final and m.id in self._open]
            if ended:
                self._hints.update(ended)
                self._fresh.set()

    async def stop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.cancel()
            await asyncio.wait([loop])
        for futures in self._open.values():
            for future in futures:
                if not future.done():
                    future.set_exception(StorageClosed("the queue was closed during this wait"))
                    future.exception()  # whoever gave up need not have seen it
        self._open.clear()

    async def _run(self) -> None:
        while True:
            try:
                await self._serve()
            except StorageError as error:
                self._failed(error)
                await asyncio.sleep(POLL)
            except Exception as error:
                log.exception("the waiter stumbled: this is a bug in OmniQ")
                for futures in self._open.values():
                    for future in futures:
                        if not future.done():
                            future.set_exception(error)
                            future.exception()
                self._open.clear()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._open:
                self._fresh.clear()
                await self._fresh.wait()
            async with self._stores.tasks.listen({self._inbox}) as ear:
                listening = asyncio.create_task(self._listen(ear), name="omniq-waiter-ear")
                try:
                    next_poll = loop.time() + POLL
                    while self._open:
                        self._fresh.clear()
                        hints, self._hints = self._hints, set()
                        full = loop.time() >= next_poll
                        if full:
                            next_poll = loop.time() + POLL
                        if await self._read(hints, full=full):
                            ear.add("tasks")
                        if not self._open:
                            break
                        try:
                            async with asyncio.timeout_at(next_poll):
                                await self._fresh.wait()
                        except TimeoutError:
                            pass
                finally:
                    listening.cancel()

    async def _listen(self, ear: Ear) -> None:
        while True:
            await ear.wait()
            self._fresh.set()

    async def _read(self, hints: set[str], *, full: bool) -> bool:
        """Resolve what has ended; whether some open task is another client's."""
        foreign = False
        if full:
            for id in [id for id, futures in self._open.items() if all(f.done() for f in futures)]:
                del self._open[id]  # whoever waited gave up
            ids = list(self._open)
        else:  # no step here may grow with the number of those who wait
            ids = [id for id in hints if id in self._open]
            ids += [id for id in islice(self._open, CHUNK) if id not in hints]
        for start in range(0, len(ids), CHUNK):
            chunk = ids[start : start + CHUNK]
            try:
                rows = await self._stores.tasks.get_tasks(chunk)
                done = [row for row in rows if row.status is Status.SUCCEEDED]
                results, why = await self._stores.read_known(done) if done else ({}, "")
            except StorageError as error:
                self._failed(error)
                return foreign
            self._outage.answered(UNREAD)
            if why:  # their place is down: others are told all the same
                later = {row.id for row in done if row.id not in results}
                rows = [row for row in rows if row.id not in later]
                chunk = [id for id in chunk if id not in later]
            found = {row.id: row for row in sorted(rows, key=_ended_at)}
            for id in [*found, *(id for id in chunk if id not in found)]:
                row = found.get(id)
                if row is None or row.status.final:
                    ended = None if row is None else Ended(row, results.get(id))
                    for future in self._open.pop(id, ()):
                        if not future.done():
                            future.set_result(ended)
                elif row.reply != self._client:
                    foreign = True
        return foreign

    def _failed(self, error: StorageError) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._failed_at > QUIET:  # nobody has asked, and it may have been back
            self._outage = Outage(log)
        self._failed_at = now
        self._outage.failed(UNREAD, error)


def _ended_at(row: TaskRow) -> int:
    return row.finished_at or 0


async def why_late(stores: Stores, id: str) -> str:
    """Where a task stands that somebody has waited for in vain, in words for them."""
    try:
        rows = await stores.tasks.get_tasks([id])
        if not rows:
            return "nobody knows it any more"
        row = rows[0]
        if row.status in (Status.READY, Status.SCHEDULED):
            given_back = EventFilter(
                task=id, types=(EventType.UNKNOWN_FUNCTION,), newest_first=True
            )
            if last := (await stores.read_events(given_back, limit=1)).events:
                return f"no worker that took it has its function ({last[0].data['reason']})"
    except StorageError as error:
        return f"where it stands cannot be read ({error})"
    if row.status is Status.READY:
        return f"no worker has taken it; is one running that serves the queue {row.queue!r}?"
    if row.status is Status.SCHEDULED:
        when = datetime.fromtimestamp(row.run_at / 1000, UTC).isoformat(timespec="seconds")
        return f"it waits until {when}" + (" to be tried again" if row.attempt else "")
    return _LATE.get(row.status, "it has ended just now")


_LATE = {
    Status.WAITING: "it waits for the tasks it depends on",
    Status.HELD: "it waits for its turn under a limit",
    Status.RUNNING: "it runs, and goes on",
}
