"""Takes away what is past its time. Any process may run one; sweeping twice does no harm."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress

from omniq.errors import StorageError, StorageUnavailable
from omniq.queue.stores import Stores

log = logging.getLogger("omniq.queue")


class Janitor:
    """Sweeps the stores every `interval` seconds, at once again while there is more.

    Also when a task ended that has more children than one commit releases: the rest of them
    must not wait for the next round.
    """

    def __init__(self, stores: Stores, *, interval: float = 30.0, limit: int = 1000) -> None:
        self._stores, self._interval, self._limit = stores, interval, limit
        self._loop: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()

    def start(self) -> None:
        if self._loop is None:
            self._stores.behind = self._asked.set
            self._loop = asyncio.create_task(self._run(), name="omniq-janitor")

    async def stop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.cancel()
            with suppress(asyncio.CancelledError):
                await loop

    async def _run(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval * random.uniform(0.75, 1.25)):
                    await self._asked.wait()
            self._asked.clear()
            try:
                full = True
                while full:
                    full = await self._stores.sweep(self._limit) >= self._limit
            except StorageUnavailable as error:  # told by those whose work waits for it
                log.debug("swept later: %s", error)
            except StorageError as error:
                log.warning("sweep failed, tried again in %.0f s: %s", self._interval, error)
