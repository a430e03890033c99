"""The ears of one process: who waits for which topic, across threads and loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from types import TracebackType

from omniq.storage.base import Ear


class Hub:
    """Passes signals to the ears of this process. Any thread may signal.

    An ear belongs to the loop that runs where it is made, and only that loop may use it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Tuples are replaced, never changed, so that `signal` may read without the lock.
        self._ears: dict[str, tuple[HubEar, ...]] = {}

    @property
    def busy(self) -> bool:
        """Whether anybody listens."""
        return bool(self._ears)

    def ear(self, topics: Iterable[str]) -> Ear:
        """A new ear, already listening when this returns."""
        ear = HubEar(self)
        for topic in topics:
            ear.add(topic)
        return ear

    def signal(self, topics: Iterable[str]) -> None:
        """Tell every ear of each topic. Call it after the commit it speaks of."""
        if not self._ears:
            return
        for topic in topics:
            for ear in self._ears.get(topic, ()):
                ear._hear(topic)

    def alert(self) -> None:
        """Something changed and nobody knows what: tell every ear all of its topics."""
        for topic, ears in tuple(self._ears.items()):
            for ear in ears:
                ear._hear(topic)

    def _add(self, topic: str, ear: HubEar) -> None:
        with self._lock:
            ears = self._ears.get(topic, ())
            if ear not in ears:
                self._ears[topic] = (*ears, ear)

    def _discard(self, topic: str, ear: HubEar) -> None:
        with self._lock:
            left = tuple(e for e in self._ears.get(topic, ()) if e is not ear)
            if left:
                self._ears[topic] = left
            else:
                self._ears.pop(topic, None)


class HubEar(Ear):
    """One ear: keeps what it heard until it is read."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._topics: set[str] = set()
        self._heard: set[str] = set()
        self._woken = False
        self._event = asyncio.Event()

    def add(self, topic: str) -> None:
        self._topics.add(topic)
        self._hub._add(topic, self)

    def discard(self, topic: str) -> None:
        self._topics.discard(topic)
        self._hub._discard(topic, self)
        with self._lock:
            self._heard.discard(topic)

    async def wait(self, timeout: float | None = None) -> set[str]:
        heard = self._take()
        if heard or (timeout is not None and timeout <= 0):
            return heard
        try:
            async with asyncio.timeout(timeout):
                while not heard:
                    await self._event.wait()
                    heard = self._take()
        except TimeoutError:
            return self._take()
        return heard

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave()

    def _take(self) -> set[str]:
        with self._lock:
            heard, self._heard = self._heard, set()
            self._woken = False
            self._event.clear()
        return heard

    def _hear(self, topic: str) -> None:
        with self._lock:
            self._heard.add(topic)
            if self._woken:  # it has yet to read what woke it before
                return
            self._woken = True
        if threading.get_ident() == self._thread:
            self._event.set()
            return
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:  # its loop was closed without leaving: nobody waits there
            self._leave()

    def _leave(self) -> None:
        for topic in tuple(self._topics):
            self._hub._discard(topic, self)
        self._topics.clear()
