"""Everything pages read, read once for all viewers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable
from time import monotonic
from typing import Any, Protocol, TypeVar, cast

from htpy import Renderable, fragment
from markupsafe import Markup

from omniq.models import OmniQConfig, TaskRow
from omniq.models.filters import EventFilter, EventPage, QueueCount, TaskFilter
from omniq.models.info import TaskInfo, TaskList
from omniq.models.status import Status
from omniq.models.worker import MinuteMetric, WorkerCard
from omniq.queue.stores import Stores
from omniq.storage.base import Ear

T = TypeVar("T")
FRESH = 1.0
"""Seconds an answer is given again without asking the storage."""
KEPT = 512
"""Answers kept at most."""


class Watched(Protocol):
    """What the dashboard needs of a queue; `AsyncOmniQ` is one."""

    @property
    def config(self) -> OmniQConfig: ...
    @property
    def stores(self) -> Stores: ...
    async def open(self) -> None: ...
    async def info(self, id: str, /) -> TaskInfo: ...
    async def find(
        self, filter: TaskFilter = ..., /, *, limit: int = ..., cursor: str | None = ...
    ) -> TaskList: ...
    async def counts(self) -> list[QueueCount]: ...
    async def events(
        self, filter: EventFilter = ..., /, *, after: str | None = ..., limit: int = ...
    ) -> EventPage: ...
    async def workers(self) -> list[WorkerCard]: ...
    async def metrics(self, minutes: int = ..., /) -> list[MinuteMetric]: ...
    async def cancel(self, id: str, /, *, actor: str = ...) -> bool: ...
    async def retry(self, id: str, /, *, actor: str = ...) -> bool: ...
    async def delete(self, id: str, /, *, actor: str = ...) -> bool: ...
    def listen(self, topics: Iterable[str], /) -> Ear: ...
    def describe(self) -> str: ...


class Reads:
    """A cache of answers, each at most a second old, each fetched by one caller at a time.

    However many tabs are open, the storage is asked the same question once a second.
    """

    def __init__(self, queue: Watched) -> None:
        self.queue = queue
        self._answers: dict[Hashable, tuple[float, asyncio.Future[Any]]] = {}
        self._drawn: dict[Hashable, tuple[object, Renderable]] = {}

    def forget(self) -> None:
        """Ask again from now on; after an action, whose effect its author wants to see."""
        self._answers.clear()

    def drawn(self, key: Hashable, source: object, draw: Callable[[], Renderable]) -> Renderable:
        """What `draw` gives, drawn once for all viewers as long as `source` is that answer."""
        known = self._drawn.get(key)
        if known is not None and known[0] is source:
            return known[1]
        if len(self._drawn) >= KEPT // 8:
            self._drawn.clear()
        html = fragment[Markup(draw())]
        self._drawn[key] = (source, html)
        return html

    async def _once(self, key: Hashable, fetch: Callable[[], Awaitable[T]]) -> T:
        loop = asyncio.get_running_loop()
        known = self._answers.get(key)
        if known is not None and monotonic() - known[0] < FRESH:
            future = known[1]
            usable = not (future.done() and (future.cancelled() or future.exception()))
            if usable and future.get_loop() is loop:
                return cast("T", await asyncio.shield(future))
        if len(self._answers) >= KEPT:
            self._answers.clear()
        # A task of its own: the viewer who asked first may leave before the answer is there.
        task = loop.create_task(_await(fetch()))
        task.add_done_callback(_seen)
        self._answers[key] = (monotonic(), task)
        return await asyncio.shield(task)

    async def counts(self) -> list[QueueCount]:
        return await self._once("counts", self.queue.counts)

    async def workers(self) -> list[WorkerCard]:
        return await self._once("workers", self.queue.workers)

    async def metrics(self, minutes: int = 60) -> list[MinuteMetric]:
        return await self._once(("metrics", minutes), lambda: self.queue.metrics(minutes))

    async def find(
        self, filter: TaskFilter, *, limit: int = 50, cursor: str | None = None
    ) -> TaskList:
        return await self._once(
            ("find", _key(filter), limit, cursor),
            lambda: self.queue.find(filter, limit=limit, cursor=cursor),
        )

    async def events(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        return await self._once(
            ("events", _key(filter), after, limit),
            lambda: self.queue.events(filter, after=after, limit=limit),
        )

    async def info(self, id: str) -> TaskInfo:
        return await self._once(("info", id), lambda: self.queue.info(id))

    async def oldest_ready(self) -> TaskRow | None:
        """The task that has waited longest for a worker."""
        found = await self.find(TaskFilter(statuses=(Status.READY,), oldest_first=True), limit=1)
        return found.tasks[0] if found.tasks else None


def _key(filter: TaskFilter | EventFilter) -> Hashable:
    return tuple(getattr(filter, name) for name in filter.__struct_fields__)


async def _await(answer: Awaitable[T]) -> T:
    return await answer


def _seen(task: asyncio.Task[Any]) -> None:
    """Look at the error, so that one nobody waits for any more is not reported as lost."""
    if not task.cancelled():
        task.exception()
