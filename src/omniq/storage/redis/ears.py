"""Waking: the scripts publish what they changed, one connection of its own listens for it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import Any, Final, Self

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from omniq.storage.hub import Hub, HubEar
from omniq.storage.redis.link import Link

POLL: Final = 5.0
"""Seconds after which a waiter looks for itself, though it was told nothing."""
DEAF_POLL: Final = 0.5
"""The same while there is no connection to hear by."""
PING: Final = 5.0
"""Seconds between two questions whether the connection lives; as long may an answer take."""
PATIENCE: Final = 5.0
"""Seconds an ear waits for its subscription before it goes on, polling."""
RETRY: Final = (0.05, 2.0)


class Post:
    """The ears of one storage, and the connection they share while there are any."""

    def __init__(self, link: Link, prefix: str, me: bytes) -> None:
        self.hub = Hub()
        self._link, self._me = link, me
        self._prefix = f"{prefix}@".encode()
        self._wanted: dict[str, int] = {}
        self._heard: set[str] = set()
        """Topics the server has confirmed."""
        self._confirmed = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._last = 0.0
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def listening(self) -> bool:
        """Whether every topic asked for is confirmed."""
        return self._wanted.keys() <= self._heard

    def add(self, topic: str) -> None:
        """One more ear listens for a topic."""
        known = self._wanted.get(topic, 0)
        self._wanted[topic] = known + 1
        if not known:
            self._send(b"SUBSCRIBE", topic)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._listen())

    def discard(self, topic: str) -> None:
        """One ear less listens for a topic."""
        left = self._wanted.get(topic, 0) - 1
        if left > 0:
            self._wanted[topic] = left
        elif self._wanted.pop(topic, None) is not None:
            self._heard.discard(topic)
            self._send(b"UNSUBSCRIBE", topic)

    async def ready(self) -> None:
        """Wait until the server has confirmed every topic, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while not self.listening:
                    self._confirmed.clear()
                    await self._confirmed.wait()

    async def close(self) -> None:
        """Stop listening."""
        for task in (self._task, *self._sending):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._task = None

    def _send(self, command: bytes, topic: str) -> None:
        if self._connection is None:  # all of them are sent once there is one
            return
        sending = self._tell(self._connection, command, self._channel(topic))
        task = asyncio.get_running_loop().create_task(sending)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _tell(self, connection: AbstractConnection, *command: bytes) -> None:
        with contextlib.suppress(RedisError, OSError):  # the reader sees it too
            await connection.send_command(*command, check_health=False)

    def _channel(self, topic: str) -> bytes:
        return self._prefix + topic.encode()

    async def _listen(self) -> None:
        pause = RETRY[0]
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    connection = await self._link.connect()
            except (RedisError, OSError):
                self._link.forget()
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY[1])
                continue
            pause = RETRY[0]
            try:
                await self._hear(connection)
            except (RedisError, OSError):
                pass
            finally:
                self._connection = None
                self._heard.clear()
                await connection.disconnect(nowait=True)
            await asyncio.sleep(pause)

    async def _hear(self, connection: AbstractConnection) -> None:
        if self._wanted:
            channels = map(self._channel, self._wanted)
            await connection.send_command(b"SUBSCRIBE", *channels, check_health=False)
        self._connection, self._last = connection, time.monotonic()
        watching = asyncio.get_running_loop().create_task(self._watch(connection))
        try:
            while True:
                self._read(await connection.read_response(disable_decoding=True))
        finally:
            watching.cancel()

    async def _watch(self, connection: AbstractConnection) -> None:
        """Ask now and then, and give a connection up that does not answer."""
        while time.monotonic() - self._last < 2 * PING:
            await asyncio.sleep(PING)
            # Without a subscription PING answers differently, but it answers.
            await self._tell(connection, b"PING")
        await connection.disconnect(nowait=True)

    def _read(self, message: Any) -> None:
        self._last = time.monotonic()
        if not isinstance(message, list) or len(message) < 3:
            return
        kind, channel, data = message
        topic = channel[len(self._prefix) :].decode() if channel else ""
        if kind == b"message":
            if data != self._me:  # what this client changed it has heard of already
                self.hub.signal((topic,))
        elif kind == b"subscribe" and topic in self._wanted:
            self._heard.add(topic)
            # What came before this was not heard: let them look once.
            self.hub.signal((topic,))
            if self.listening:
                self._confirmed.set()


class PostEar(HubEar):
    """An ear of the hub whose topics the server is told of."""

    def __init__(self, post: Post, topics: Iterable[str]) -> None:
        super().__init__(post.hub)
        self._post = post
        for topic in topics:
            self.add(topic)

    def add(self, topic: str) -> None:
        if topic not in self._topics:
            super().add(topic)
            self._post.add(topic)

    def discard(self, topic: str) -> None:
        if topic in self._topics:
            super().discard(topic)
            self._post.discard(topic)

    async def wait(self, timeout: float | None = None) -> set[str]:
        poll = POLL if self._post.listening else DEAF_POLL
        if timeout is not None and timeout <= poll:
            return await super().wait(timeout)
        heard = await super().wait(poll)
        return heard or set(self._topics)

    async def __aenter__(self) -> Self:
        await self._post.ready()
        return self

    def _leave(self) -> None:
        for topic in tuple(self._topics):
            self._post.discard(topic)
        super()._leave()
