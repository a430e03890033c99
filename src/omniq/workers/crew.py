"""A crew of daemon threads that carries out calls and tells their results in drains.

Handing each result to the loop by itself would cost one wake-up per task; here a thread puts
it into a deque and wakes the loop only if nobody did since the last drain. Threads are
daemons: one that never ends must not keep the process.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

log = logging.getLogger("omniq.worker")

Work = Callable[[], Any]
Tell = Callable[[Any], None]


class Crew:
    """At most `size` threads, started when there is work for them.

    `submit(work, tell)`: `work()` runs in a thread and must not raise; `tell(value)` is
    called on the loop's thread. `leaving()` runs in each thread before it ends.
    """

    def __init__(self, size: int, *, name: str, leaving: Callable[[], None] = lambda: None) -> None:
        self._size, self._name, self._leaving = size, name, leaving
        self._work: SimpleQueue[tuple[Work, Tell] | None] = SimpleQueue()
        self._told: deque[tuple[Tell, Any]] = deque()
        self._signalled = False
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._pending = 0
        self._loop = asyncio.get_running_loop()

    def submit(self, work: Work, tell: Tell) -> None:
        """Carry out `work`; from the loop's thread."""
        self._pending += 1
        if self._pending > len(self._threads) and len(self._threads) < self._size:
            thread = threading.Thread(
                target=self._serve, name=f"{self._name}-{len(self._threads) + 1}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        self._work.put((work, tell))

    def close(self) -> None:
        """Let idle threads end; busy ones end with their work."""
        for _ in self._threads:
            self._work.put(None)

    def _serve(self) -> None:
        while True:
            item = self._work.get()
            if item is None:
                self._leaving()
                return
            work, tell = item
            value = work()
            with self._lock:
                self._told.append((tell, value))
                wake, self._signalled = not self._signalled, True
            if wake:
                with suppress(RuntimeError):  # the loop was closed: nobody listens any more
                    self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        with self._lock:
            told, self._told = self._told, deque()
            self._signalled = False
        self._pending -= len(told)
        for tell, value in told:
            try:
                tell(value)
            except Exception:  # or those behind it would never be told
                log.exception("a run's end was not taken in: this is a bug in OmniQ")
