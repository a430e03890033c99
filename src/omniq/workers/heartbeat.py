"""Keeps a worker's lease from a thread of its own.

A task that blocks the event loop must not lose its lease, so the beat has its own thread,
loop and connection. It starts with the first beat that is due: a short program never pays
for it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

from omniq.models.filters import Held, HeldTask
from omniq.queue.outage import Outage
from omniq.queue.stores import Stores

UNANSWERED = "the heartbeat gets no answer"


class Heartbeat:
    """Extends the lease of `owner` every third of it.

    `held()` lists what runs, `heard(held, answer)` is told what the store knows better and
    `overdue()` that the lease may have run out; all three are called in the beat's thread.
    It ends with the loop it is made on: nobody is left there who could end a task.
    """

    def __init__(
        self,
        stores: Stores,
        owner: str,
        *,
        lease: float,
        held: Callable[[], Sequence[HeldTask]],
        heard: Callable[[Sequence[HeldTask], Held], None],
        overdue: Callable[[], None],
        outage: Outage,
    ) -> None:
        self._twin, self._owner, self._lease = stores.tasks.twin(), owner, lease
        self._held, self._heard, self._overdue = held, heard, overdue
        self._outage = outage
        self._good_until = time.monotonic() + lease
        self._loop = asyncio.get_running_loop()
        self._asked = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="omniq-heartbeat", daemon=True)
            self._thread.start()

    def renewed(self, asked_at: float) -> None:
        """A claim renewed the lease; `asked_at` is `time.monotonic()` before it was sent."""
        self._good_until = asked_at + self._lease

    def now(self) -> None:
        """Beat at once: something was signalled for this worker."""
        self._asked.set()

    def stop(self) -> None:
        """End the thread; does not wait for a beat under way longer than a second."""
        self._stopped = True
        self._asked.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    @property
    def _over(self) -> bool:
        return self._stopped or self._loop.is_closed()

    def _serve(self) -> None:
        self._asked.wait(self._lease / 3)
        if not self._over:
            with asyncio.Runner() as runner:
                runner.run(self._beats())

    async def _beats(self) -> None:
        opened = False
        try:
            while True:
                self._asked.clear()
                if self._over:  # looked at after the clearing, or a stop could be missed
                    break
                asked_at = time.monotonic()
                try:
                    if not opened:
                        await self._twin.open()
                        opened = True
                    held = self._held()
                    async with asyncio.timeout(self._lease / 2):
                        answer = await self._twin.extend(
                            self._owner, round(self._lease * 1000), held
                        )
                except Exception as error:
                    self._outage.failed(UNANSWERED, error)
                    if time.monotonic() > self._good_until:
                        self._overdue()
                    self._asked.wait(min(self._lease / 10, 1.0))
                    continue
                self.renewed(asked_at)
                self._outage.answered(UNANSWERED)
                if answer.lost or answer.cancelled or answer.unknown:
                    self._heard(held, answer)
                self._asked.wait(self._lease / 3)
        finally:
            if opened:
                await self._twin.close()
