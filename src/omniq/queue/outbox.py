"""Events on their way to a place of their own, which may be down for a while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from omniq.errors import SchemaError, StorageClosed, StorageError, StorageUnavailable
from omniq.models.event import TaskEvent
from omniq.models.filters import EventFilter, EventPage
from omniq.models.units import PutEvents
from omniq.queue.breaker import Breaker
from omniq.queue.spool import Spool
from omniq.storage.base import BaseEventStorage

log = logging.getLogger("omniq.storage")

_AGAIN: Final = 0.25
"""Seconds between two looks for room."""
_BATCH: Final = 500
_LONG: Final = 60.0
"""Seconds for one batch of what was kept: nobody waits for it."""
_DOWN: Final = (StorageUnavailable, StorageClosed, SchemaError)
"""What is wrong with the place; another StorageError is about the events."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[TaskEvent]).decode


class Outbox:
    """Tells events at their place, or keeps them in the spool until it answers.

    Events are kept for good when `tell` returns: at their place, or in a local file. While the
    spool is full, or there is none, `room` waits: tasks slow down and no event is lost.
    """

    def __init__(self, place: BaseEventStorage, spool: Spool | None) -> None:
        self._place, self._spool = place, spool
        kept = "events are kept in a local file" if spool else "tasks wait for it"
        self.breaker = Breaker(
            f"the place of events ({place.describe()})",
            meanwhile=kept,
            probe=self._ask,
            catch_up=self._drain,
        )
        self._turn = asyncio.Lock()
        self._writing = 0
        self._crowded = False
        self._closed = False

    async def open(self) -> None:
        """Connect, if it answers, and go on with what was left here."""
        await self.breaker.open(self._place.open)
        self.adopt()

    async def close(self) -> None:
        self._closed = True
        await self.breaker.close()
        if self._spool is not None:
            self._spool.close()
        await self._place.close()

    def adopt(self) -> None:
        """Send what processes left that are gone."""
        if self._spool is not None and self._spool.adopt() and self.breaker.up:
            self.breaker.heal()

    async def read(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        return await self.breaker.run(
            lambda: self._place.read_events(filter, after=after, limit=limit)
        )

    async def room(self) -> None:
        """Wait until events can be kept somewhere."""
        while not self.breaker.up and (self._spool is None or self._spool.full):
            if not self._crowded:
                self._crowded = True
                if self._spool is not None:
                    log.warning(
                        "the spool of events in %s is full (%d bytes): tasks wait until their "
                        "place answers",
                        *(self._spool.folder, self._spool.limit),
                    )
            await self._wait()
        self._crowded = False

    async def tell(self, events: Sequence[TaskEvent]) -> None:
        """Keep events, behind those of this process that came before."""
        async with self._turn:
            await self._tell(events)

    async def _tell(self, events: Sequence[TaskEvent]) -> None:
        while True:
            if self.breaker.up:
                try:
                    await self.breaker.run(lambda: self._place.apply([PutEvents(tuple(events))]))
                except StorageError as error:
                    if self._spool is None and not isinstance(error, _DOWN):
                        return log.error("events are refused by their place: %s: %s", error, events)
                    self.breaker.fell(error)
                else:
                    return None
            if self._spool is not None and await self._keep(self._spool, events):
                return None
            await self._wait()

    async def _wait(self) -> None:
        if self._closed:
            raise StorageClosed("the queue was closed while events waited for their place")
        await self.breaker.wait(_AGAIN)

    async def _keep(self, spool: Spool, events: Sequence[TaskEvent]) -> bool:
        """Write them into the spool; shielded, or a file could be changed by two at once."""
        self._writing += 1
        try:
            await asyncio.to_thread(spool.append, _encode(events))
        except OSError as error:
            log.warning("events cannot be kept in %s, tried again: %s", spool.folder, error)
            return False
        finally:
            self._writing -= 1
        return True

    async def sweep(self, limit: int) -> int:
        try:
            return await self.breaker.run(lambda: self._place.sweep(limit))
        except StorageError as error:
            log.debug("events are swept later: %s", error)
            return 0

    # ---- when it answers again

    async def _ask(self) -> None:
        await self._place.open()
        await self._place.read_events(EventFilter(), limit=1)

    async def _drain(self) -> None:
        spool = self._spool
        while spool is not None and (self._writing or not spool.empty):
            records, mark = await asyncio.to_thread(spool.read)
            if mark is None:
                await asyncio.sleep(0.001)  # somebody is writing just now
                continue
            await self._send(spool, [event for record in records for event in _decode(record)])
            await asyncio.to_thread(spool.sent, mark)

    async def _send(self, spool: Spool, events: list[TaskEvent]) -> None:
        for start in range(0, len(events), _BATCH):
            batch = events[start : start + _BATCH]
            async with asyncio.timeout(_LONG):
                try:
                    await self._place.apply([PutEvents(tuple(batch))])
                except _DOWN:
                    raise
                except StorageError:  # one of them: it must not hold up the others for ever
                    await self._send_singly(spool, batch)

    async def _send_singly(self, spool: Spool, events: list[TaskEvent]) -> None:
        for event in events:
            try:
                await self._place.apply([PutEvents((event,))])
            except _DOWN:
                raise
            except StorageError as error:
                kept = await asyncio.to_thread(spool.put_aside, _encode([event]))
                log.error("an event is refused by its place (%s) and kept in %s", error, kept)
