"""Waking: at once within the process, by NOTIFY across processes, by a poll behind both."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final

import asyncpg

from omniq.ids import uuid7
from omniq.storage.hub import Hub
from omniq.storage.postgres.connection import Connection
from omniq.storage.postgres.pool import let_go

DEBOUNCE: Final = 0.005
"""Seconds between two NOTIFYs: each takes a lock of the whole server for a moment."""
LINGER: Final = 0.02
"""Seconds for which topics that only pages look at wait for others to go with."""
POLL: Final = 0.5
"""Seconds between two looks while nothing can be heard."""
PING: Final = 10.0
"""Seconds between two proofs that the listening connection still hears."""
PATIENCE: Final = 5.0
"""Seconds a ping may take."""
_SHOWN: Final = frozenset({"tasks", "events"})
"""Topics for which nobody's work waits."""
_PAYLOAD: Final = 7900  # bytes; the server takes 7999
_LOG: Final = logging.getLogger("omniq.storage")

Connect = Callable[..., Awaitable[Connection]]


class Post:
    """The ears of one place in this process, whatever the number of storages on it."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.id = uuid7()
        """Tells what this process has sent itself."""


_posts: dict[tuple[str, str], Post] = {}
_lock = threading.Lock()


def post_of(url: str, schema: str) -> Post:
    """The one post of a place in this process."""
    with _lock:
        return _posts.setdefault((url, schema), Post())


def _forget() -> None:
    global _lock  # the one inherited may be held by a thread that is gone
    _lock = threading.Lock()
    _posts.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class Notifier:
    """Tells other processes what was committed, on a connection of its own.

    Never in the transaction it speaks of: NOTIFY would hold a lock of the whole server until
    that is on the disk. What is lost when this process dies is found by the others' polls.
    """

    def __init__(self, connect: Connect, channel: str, post: Post) -> None:
        self._connect = connect
        self._channel = channel
        self._post = post
        self._pending: set[str] = set()
        self._pressing = asyncio.Event()
        """Somebody's work waits for what is pending."""
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    def tell(self, topics: Iterable[str]) -> None:
        """Send topics now, or with the next ones if the last were sent just now."""
        for topic in topics:
            self._pending.add(topic)
            if topic not in _SHOWN:
                self._pressing.set()
        if self._pending and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="omniq-notify")

    async def close(self) -> None:
        """Send what is left, and leave."""
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2):
                    await self._task
        await let_go(self._connection)
        self._connection = None

    async def _run(self) -> None:
        try:
            while self._pending:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINGER):
                        await self._pressing.wait()
                self._pressing.clear()
                topics, self._pending = self._pending, set()
                try:
                    await self._send(topics)
                except Exception:  # of whatever kind: the driver has many for a lost connection
                    connection, self._connection = self._connection, None
                    await let_go(connection)
                    await asyncio.sleep(POLL)  # the others poll meanwhile
                await asyncio.sleep(DEBOUNCE)
        finally:
            self._task = None

    async def _send(self, topics: set[str]) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect(synchronous_commit="off")
        for payload in payloads(self._post.id, topics):
            await self._connection.fetchval("SELECT pg_notify($1, $2)", self._channel, payload)


def payloads(sender: str, topics: Iterable[str]) -> Iterator[str]:
    """Topics in as many texts as NOTIFY needs; each begins with who sends them."""
    text = sender
    for topic in topics:
        if len(text) + len(topic) >= _PAYLOAD // 4 and len((text + topic).encode()) >= _PAYLOAD:
            yield text
            text = sender
        text = f"{text}\n{topic}"
    yield text


class Listener:
    """Hears what other processes tell, and looks by itself while it cannot hear."""

    def __init__(self, connect: Connect | None, channel: str, post: Post) -> None:
        self._connect = connect
        self._channel = channel
        self._post = post
        self._pings: set[str] = set()
        self._stir = asyncio.Event()
        self._connection: Connection | None = None
        self.heard_at = 0.0
        self._task = asyncio.get_running_loop().create_task(self._run(), name="omniq-listen")

    @property
    def hears(self) -> bool:
        """Whether it is connected and has proved it."""
        return self._connection is not None and not self._connection.is_closed()

    async def close(self) -> None:
        """Stop listening."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await let_go(self._connection)

    async def _run(self) -> None:
        told = False
        while True:
            try:
                if self._connect is not None:
                    await self._listen(self._connect)
            except Exception as error:  # whatever it was, nobody else would listen again
                if not told:
                    why = str(error) or type(error).__name__
                    _LOG.warning("listening was cut off, work is polled for meanwhile: %s", why)
                told = True
            else:
                told = False
            await asyncio.sleep(POLL)
            self._post.hub.alert()

    async def _listen(self, connect: Connect) -> None:
        """Until the connection is lost, or hears its own pings no more."""
        connection = await connect()
        try:
            connection.add_termination_listener(lambda _: self._stir.set())
            await connection.add_listener(self._channel, self._hear)
            self._connection = connection
            self._post.hub.alert()  # what happened before was not heard
            while True:
                self._stir.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PING):
                        await self._stir.wait()
                if connection.is_closed():
                    raise asyncpg.InterfaceError("the connection was closed")
                await self._ping(connection)
        finally:
            self._connection = None
            await let_go(connection)

    async def _ping(self, connection: Connection) -> None:
        nonce = f"ping:{uuid7()}"
        self._pings.add(nonce)
        text = f"{self._post.id}\n{nonce}"
        try:
            async with asyncio.timeout(PATIENCE):
                await connection.fetchval("SELECT pg_notify($1, $2)", self._channel, text)
                while nonce in self._pings:
                    self._stir.clear()
                    if connection.is_closed():
                        raise asyncpg.InterfaceError("the connection was closed")
                    await self._stir.wait()
        finally:
            self._pings.discard(nonce)

    def _hear(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        sender, *topics = str(payload).split("\n")
        if sender != self._post.id:
            self._post.hub.signal(topics)
        elif self._pings.intersection(topics):
            self._pings.difference_update(topics)
            self._stir.set()
