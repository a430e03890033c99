"""Events as JSON lines: the contract of events, with tasks in memory beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import pytest
import pytest_asyncio

from omniq.clock import ManualClock
from omniq.models.filters import Claim, EventFilter, EventPage
from omniq.models.units import Receipt, Unit
from omniq.queue.stores import Stores
from omniq.storage.base import AsyncStorage, Ear
from omniq.storage.jsonl import AsyncJSONLEventStorage
from omniq.storage.memory import AsyncMemoryStorage
from tests.conformance.conftest import MakeStorage
from tests.conformance.test_events import *  # noqa: F403

pytestmark = pytest.mark.asyncio


class Together(AsyncStorage):
    """Tasks in memory and events in files as one storage, for tests that want one."""

    def __init__(self, stores: Stores) -> None:
        super().__init__(clock=stores.tasks.clock)
        self.stores = stores
        self.capabilities = stores.tasks.capabilities  # type: ignore[misc]

    async def open(self) -> None:
        await self.stores.open()

    async def close(self) -> None:
        await self.stores.close()

    def twin(self) -> Self:
        return type(self)(self.stores.twin())

    def describe(self) -> str:
        return self.stores.events.describe()

    async def apply(self, units: Sequence[Unit]) -> Receipt:
        return await self.stores.apply(units)

    async def sweep(self, limit: int = 1000) -> int:
        return await self.stores.sweep(limit)

    def listen(self, topics: Iterable[str]) -> Ear:
        return self.stores.listen(topics)

    async def read_events(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        return await self.stores.events.read_events(filter, after=after, limit=limit)

    async def claim(self, claim: Claim) -> Any:
        return await self.stores.tasks.claim(claim)

    async def extend(self, *args: Any) -> Any:
        return await self.stores.tasks.extend(*args)

    async def get_tasks(self, ids: Sequence[str]) -> Any:
        return await self.stores.tasks.get_tasks(ids)

    async def find_tasks(self, *args: Any, **options: Any) -> Any:
        return await self.stores.tasks.find_tasks(*args, **options)

    async def count_tasks(self) -> Any:
        return await self.stores.tasks.count_tasks()

    async def get_docs(self, kind: str, **options: Any) -> Any:
        return await self.stores.tasks.get_docs(kind, **options)

    async def get_results(self, ids: Sequence[str]) -> Any:
        return await self.stores.results.get_results(ids)


@pytest_asyncio.fixture
async def make_storage(tmp_path: Path, clock: ManualClock) -> AsyncIterator[MakeStorage]:
    """Each call opens one more client of the same place, over files of its own opening."""
    tasks = AsyncMemoryStorage(clock=clock)
    async with AsyncExitStack() as stack:

        async def new_client() -> AsyncStorage:
            events = AsyncJSONLEventStorage(tmp_path / "events", clock=clock)
            client = Together(Stores(tasks.twin(), None, events))
            return await stack.enter_async_context(client)

        yield new_client


@pytest_asyncio.fixture
async def storage(make_storage: MakeStorage) -> AsyncStorage:
    """One open client of an empty place."""
    return await make_storage()
