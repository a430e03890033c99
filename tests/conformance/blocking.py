"""The blocking face of a storage, made awaitable, so that one test fits both faces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from anyio import to_thread

from omniq.clock import Clock
from omniq.models.filters import (
    Batch,
    Claim,
    EventFilter,
    EventPage,
    Held,
    HeldTask,
    Page,
    QueueCount,
    TaskFilter,
)
from omniq.models.row import Doc, Ms, ResultRow, TaskRow
from omniq.models.units import Receipt, Unit
from omniq.storage.base import AsyncStorage, Ear

T = TypeVar("T")


class BlockingTwin(AsyncStorage):
    """A blocking storage, each call made in a thread of its own, so that one test fits both."""

    def __init__(self, blocking: Any, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._blocking = blocking
        self.capabilities = blocking.capabilities  # type: ignore[misc]

    async def _call(self, method: str, *args: Any, **options: Any) -> Any:
        call = partial(getattr(self._blocking, method), *args, **options)
        return await to_thread.run_sync(call)

    async def open(self) -> None:
        await self._call("open")

    async def close(self) -> None:
        await self._call("close")

    def twin(self) -> Self:
        return type(self)(_aside(self._blocking.twin), self.clock)

    def describe(self) -> str:
        return cast(str, _aside(self._blocking.describe))

    async def apply(self, units: Sequence[Unit]) -> Receipt:
        return cast(Receipt, await self._call("apply", units))

    async def claim(self, claim: Claim) -> Batch:
        return cast(Batch, await self._call("claim", claim))

    async def exchange(self, units: Sequence[Unit], claim: Claim) -> tuple[Receipt, Batch]:
        return cast("tuple[Receipt, Batch]", await self._call("exchange", units, claim))

    async def extend(self, owner: str, lease: Ms, held: Sequence[HeldTask]) -> Held:
        return cast(Held, await self._call("extend", owner, lease, held))

    async def sweep(self, limit: int = 1000) -> int:
        return cast(int, await self._call("sweep", limit))

    async def get_tasks(self, ids: Sequence[str]) -> list[TaskRow]:
        return cast("list[TaskRow]", await self._call("get_tasks", ids))

    async def find_tasks(
        self, filter: TaskFilter, *, limit: int = 100, cursor: str | None = None
    ) -> Page:
        return cast(Page, await self._call("find_tasks", filter, limit=limit, cursor=cursor))

    async def count_tasks(self) -> list[QueueCount]:
        return cast("list[QueueCount]", await self._call("count_tasks"))

    async def get_results(self, ids: Sequence[str]) -> list[ResultRow]:
        return cast("list[ResultRow]", await self._call("get_results", ids))

    async def get_docs(
        self,
        kind: str,
        *,
        prefix: str = "",
        after: str = "",
        due_before: Ms | None = None,
        limit: int = 1000,
    ) -> list[Doc]:
        options = {"prefix": prefix, "after": after, "due_before": due_before, "limit": limit}
        return cast("list[Doc]", await self._call("get_docs", kind, **options))

    async def read_events(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        page = await self._call("read_events", filter, after=after, limit=limit)
        return cast(EventPage, page)

    def listen(self, topics: Iterable[str]) -> Ear:
        return BlockingEar(partial(self._blocking.listen, topics))


class BlockingEar(Ear):
    """The blocking ear, entered, asked and left in threads."""

    def __init__(self, listen: Callable[[], AbstractContextManager[Any]]) -> None:
        self._listen = listen
        self._ear: Any = None

    def add(self, topic: str) -> None:
        _aside(partial(self._ear.add, topic))

    def discard(self, topic: str) -> None:
        _aside(partial(self._ear.discard, topic))

    async def wait(self, timeout: float | None = None) -> set[str]:
        heard = await to_thread.run_sync(partial(self._ear.wait, timeout))
        return cast("set[str]", heard)

    async def __aenter__(self) -> Self:
        self._ear = await to_thread.run_sync(lambda: self._listen().__enter__())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await to_thread.run_sync(lambda: self._ear.__exit__(kind, error, trace))


def _aside(call: Callable[[], T]) -> T:
    """Make a quick blocking call in a thread, where no loop runs, and wait for it."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()
