"""What an open queue holds: the parts that belong to one event loop."""

from __future__ import annotations

import asyncio
import logging
from functools import cache
from typing import TYPE_CHECKING, Protocol

from omniq.errors import StorageError
from omniq.models.config import OmniQConfig
from omniq.models.task import Task
from omniq.models.units import Insert
from omniq.queue.batcher import Batcher
from omniq.queue.engine import Engine, announcement
from omniq.queue.janitor import Janitor
from omniq.queue.stores import Stores
from omniq.queue.waiting import Waiter
from omniq.serialization import KeyRing, SerializationManager
from omniq.storage.base import Capabilities

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

log = logging.getLogger("omniq.queue")

FLUSH = 10.0
"""Seconds a closing queue waits for what it has not sent yet."""


class Instead(Protocol):
    """Who runs tasks in the calls of those who enqueue them and wait for them."""

    async def stored(self, tasks: Sequence[Task], inserts: Sequence[Insert]) -> None:
        """These were just stored."""

    async def awaited(self, ids: Sequence[str]) -> None:
        """Somebody is about to wait for these, or (none) has put a task back in line."""


class Session:
    """Stores, batcher, waiter and janitor, opened and closed together.

    `left` is called when the loop shuts down (`asyncio.run` ends) although nobody closed
    the queue: programs need not call `close()`.
    """

    def __init__(
        self, engine: Engine, stores: Stores, *, left: Callable[[], Coroutine[None, None, None]]
    ) -> None:
        self.engine, self.stores = engine, stores
        self.loop = asyncio.get_running_loop()
        self.batcher = Batcher(stores.apply)
        self.waiter = Waiter(stores, engine.client)
        self.janitor = Janitor(stores)
        self.announced: set[str] = set()
        self._left = left
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.stores.open()
        self.janitor.start()
        self._keeper = asyncio.create_task(self._keep(), name="omniq-keeper")

    async def close(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None and keeper is not asyncio.current_task():
            keeper.cancel()
        await self.waiter.stop()
        await self.janitor.stop()
        try:
            async with asyncio.timeout(FLUSH):
                await self.batcher.flush()
        except (StorageError, TimeoutError) as error:
            log.warning("closing: %s", error)
        await self.stores.close()

    async def announce(self, queues: Iterable[str]) -> None:
        """Leave queues' names in the store, once, before the first insert."""
        for queue in set(queues) - self.announced:
            await self.batcher.put(announcement(queue))
            self.announced.add(queue)

    async def _keep(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if self._keeper is not None:  # not by close(): the loop itself shuts down
                await self._left()
            raise


def manager_for(config: OmniQConfig, *places: Capabilities) -> SerializationManager:
    """The serializers with the keys that fit the places of tasks and results.

    Configured keys win. Places of this machine share a key file in the base directory, a
    memory place a key that ends with the process; others get no key, and so no dill.
    """
    limit = config.tasks.max_payload
    if config.signing_keys:
        return SerializationManager(KeyRing.from_setting(config.signing_keys), limit=limit)
    if all(c.durability == "none" for c in places):
        return SerializationManager(_process_keys(), limit=limit)
    if all(c.local for c in places):
        return SerializationManager(KeyRing.local(config.base_dir), limit=limit)
    return SerializationManager(None, limit=limit)


@cache
def _process_keys() -> KeyRing:
    return KeyRing.ephemeral()
