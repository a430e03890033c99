"""What others write, as it comes: an ordered push consumer that fills a buffer.

The server keeps such a consumer in memory and forgets it when it restarts, when its node dies
or when nobody listens; it beats every half second while it is there. So it is made again after
every reconnection, when a number was skipped, and when the beats stay away.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from omniq.storage.nats.connection import Connection
from omniq.storage.nats.errors import FAILURES
from omniq.storage.nats.stream import ask_state

BEAT: Final = 0.5
"""Seconds between two signs of life of an idle consumer."""
SILENCE: Final = 4 * BEAT
BUFFER_BYTES: Final = 32 * 1024 * 1024
"""Above it the server is not told to go on, until some has been taken."""
_FAR: Final = 512
"""A reader that is so far ahead of the consumer starts it anew."""
_NANO: Final = 1_000_000_000


class Feed:
    """Segments from a number on. `take` and `played` may be called from any thread."""

    def __init__(
        self, connection: Connection, stream: str, soon: Callable[..., None], first: int
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._soon = soon
        """Calls a function on the loop."""
        self._lock = threading.Lock()
        self._held: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._next = first
        """The number that comes next."""
        self._stale = True
        """The consumer is to be made, or made again."""
        self._putting = 0
        self._tell: Callable[[], None] = _nobody
        self._go_on: str | None = None
        self._life = 0
        self._heard = 0.0
        self._wake = asyncio.Event()
        self._came = asyncio.Event()
        self._consumer = ""
        self._subscription: Subscription | None = None
        self._chores: set[asyncio.Task[None]] = set()

    def follow(self, tell: Callable[[], None]) -> None:
        """Call `tell` on the loop when something came that was not put from here."""
        self._tell = tell

    def putting(self, number: int) -> None:
        """The coming of this number will be no news."""
        self._putting = number

    def played(self, number: int) -> None:
        """Everything up to `number` is known."""
        with self._lock:
            self._drop_before(number + 1)

    def take(self, number: int) -> Sequence[bytes]:
        """The segments from `number` on that have come, all of them.

        A reader that has gone elsewhere takes the consumer along; not for a look at the
        number before the next one, which is how its own last segment is checked.
        """
        with self._lock:
            self._drop_before(number)
            begins = self._held[0][0] if self._held else self._next
            if number == begins - 1:
                return ()
            if begins <= number <= begins + _FAR:
                taken: list[bytes] = []
                while self._held:
                    _, data = self._held.popleft()
                    self._bytes -= len(data)
                    taken.append(data)
                self._release()
                return taken
            self._start_at(number)
        self._soon(self._wake.set)
        return ()

    def _start_at(self, number: int) -> None:
        self._held.clear()
        self._bytes = 0
        self._next = number
        self._stale = True

    def _drop_before(self, number: int) -> None:
        held = self._held
        while held and held[0][0] < number:
            self._bytes -= len(held.popleft()[1])
        self._release()

    def _release(self) -> None:
        if self._go_on is not None and self._bytes < BUFFER_BYTES:
            reply, self._go_on = self._go_on, None
            self._soon(self._answer, reply)

    # -- on the loop

    async def run(self) -> None:
        """Keep a consumer alive until cancelled."""
        self._connection.when_back(self._begin_again)
        clock = asyncio.get_running_loop().time
        self._wake.set()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self._wake.wait()
            self._wake.clear()
            silent = clock() - self._heard > SILENCE
            if (self._stale or silent) and self._connection.is_up:
                self._heard = clock()
                with suppress(*FAILURES):  # it is tried again when the silence has lasted
                    await self._leave()
                    await self._make()
                self._tell()

    def begin_at(self, number: int) -> None:
        """Forget what came: it was another stream's, or is not part of this one any more."""
        self._life += 1
        with self._lock:
            self._start_at(number)
        self._wake.set()

    async def leave(self) -> None:
        """Let the server forget the consumer."""
        if self._connection.is_up:
            with suppress(*FAILURES):
                await self._leave()

    async def coming(self, seconds: float) -> None:
        """Wait until something comes."""
        self._came.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._came.wait()

    async def _begin_again(self) -> None:
        self._stale = True
        self._wake.set()

    async def _make(self) -> None:
        state = await ask_state(self._connection, self._stream)
        self._life += 1
        life = self._life
        subject = f"{self._connection.inbox}.feed.{life}"
        name = f"{self._connection.inbox.rpartition('.')[2]}-{life}"

        async def hear(message: Msg) -> None:
            if life == self._life:
                await self._hear(message)

        self._subscription = await self._connection.subscribe(subject, hear)
        with self._lock:
            if self._next < state.first:
                # What was cut will not come; whoever wants it is told by the log itself.
                self._start_at(state.first)
            start, self._stale = self._next, False
        self._consumer = name
        await self._connection.api(
            f"CONSUMER.CREATE.{self._stream}.{name}",
            {
                "stream_name": self._stream,
                "config": {
                    "name": name,
                    "deliver_subject": subject,
                    "deliver_policy": "by_start_sequence",
                    "opt_start_seq": start,
                    "ack_policy": "none",
                    "max_deliver": 1,
                    "idle_heartbeat": int(BEAT * _NANO),
                    "flow_control": True,
                    "inactive_threshold": 5 * _NANO,
                    "mem_storage": True,
                    "num_replicas": 1,
                },
            },
        )

    async def _leave(self) -> None:
        self._life += 1  # what still comes is of no interest
        subscription, self._subscription = self._subscription, None
        consumer, self._consumer = self._consumer, ""
        if subscription is not None:
            await subscription.unsubscribe()
        if consumer:
            await self._connection.tell_api(f"CONSUMER.DELETE.{self._stream}.{consumer}")

    async def _hear(self, message: Msg) -> None:
        self._heard = asyncio.get_running_loop().time()
        if message.headers and message.headers.get("Status") == "100":
            self._hear_server(message)
            return
        number = _number(message.reply)
        with self._lock:
            missed = number - self._next
            if missed == 0:
                self._next += 1
                self._held.append((number, message.data))
                self._bytes += len(message.data)
        if missed == 0:
            self._came.set()
            if number != self._putting:
                self._tell()
        elif missed > 0:
            await self._begin_again()

    def _hear_server(self, message: Msg) -> None:
        headers = message.headers or {}
        reply = message.reply or headers.get("Nats-Consumer-Stalled")
        if reply:
            with self._lock:
                if self._bytes >= BUFFER_BYTES:
                    self._go_on = reply
                    return
            self._answer(reply)
        elif int(headers.get("Nats-Last-Stream", 0)) >= self._next:
            self._stale = True  # sent, and not come
            self._wake.set()

    def _answer(self, reply: str) -> None:
        chore = asyncio.get_running_loop().create_task(self._connection.send(reply))
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)


def _number(reply: str) -> int:
    """The stream's number in `$JS.ACK.[DOMAIN.ACCOUNT.]STREAM.CONSUMER.DELIVERED.NUMBER...`."""
    parts = reply.split(".")
    return int(parts[5] if len(parts) == 9 else parts[7])


def _nobody() -> None:
    pass
