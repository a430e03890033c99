"""Listening at two places at once."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

from omniq.storage.base import Ear

EVENTS: Final = "events"


class BothEars(Ear):
    """Hears `events` at the one ear and all else at the other."""

    def __init__(self, tasks: Ear, events: Ear) -> None:
        self._tasks, self._events = tasks, events
        self._waits: dict[Ear, asyncio.Task[set[str]]] = {}

    def add(self, topic: str) -> None:
        self._of(topic).add(topic)

    def discard(self, topic: str) -> None:
        self._of(topic).discard(topic)

    async def wait(self, timeout: float | None = None) -> set[str]:
        for ear in (self._tasks, self._events):
            if ear not in self._waits:
                self._waits[ear] = asyncio.create_task(ear.wait(), name="omniq-ear")
        # Unfinished waits go on for the next call: what they hear meanwhile is not lost.
        await asyncio.wait(
            self._waits.values(), timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )
        heard: set[str] = set()
        for ear, wait in list(self._waits.items()):
            if wait.done():
                del self._waits[ear]
                heard |= wait.result()
        return heard

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        try:
            await self._events.__aenter__()
        except BaseException:
            await self._tasks.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        waits, self._waits = list(self._waits.values()), {}
        for wait in waits:
            wait.cancel()
        if waits:
            await asyncio.wait(waits)
        await self._events.__aexit__(kind, error, trace)
        await self._tasks.__aexit__(kind, error, trace)

    def _of(self, topic: str) -> Ear:
        return self._events if topic == EVENTS else self._tasks
