"""Connections that stay open between calls, each lent to one call at a time.

The driver's own pool costs a call several turns of the event loop, a third of the time that a
short one takes.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import asyncpg

Connection = asyncpg.Connection

IDLE: Final = 300.0
"""Seconds after which a connection nobody needed is closed, but for the fewest to keep."""
LEAVING: Final = 2.0
"""Seconds a server may take to say goodbye."""
_RUDE: Final = (
    TimeoutError,
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


class _Idle(NamedTuple):
    connection: Connection
    since: float
    """By `time.monotonic()`."""


class Pool:
    """Lends at most `most` connections; the one that came back last goes out first.

    `take` waits `timeout` seconds at most for one to come back: TimeoutError. It belongs to one
    event loop.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        *,
        least: int,
        most: int,
        timeout: float,
    ) -> None:
        self._connect, self._least, self._timeout = connect, least, timeout
        self._most = most
        self._room = asyncio.Semaphore(most)
        self._idle: deque[_Idle] = deque()
        self._lent: set[Connection] = set()
        self._outdated: set[Connection] = set()
        """Those that are lent and must not come back."""
        self._parting: set[asyncio.Task[None]] = set()
        self._closed = False

    async def open(self) -> None:
        """Make the connections that are always kept."""
        for _ in range(self._least):
            self._idle.append(_Idle(await self._connect(), time.monotonic()))

    async def take(self) -> Connection:
        """A connection for one call; give it back, whatever becomes of the call."""
        if self._room.locked():
            async with asyncio.timeout(self._timeout):
                await self._room.acquire()
        else:
            await self._room.acquire()
        try:
            connection = self._kept() or await self._connect()
        except BaseException:
            self._room.release()
            raise
        self._lent.add(connection)
        return connection

    def give_back(self, connection: Connection, error: BaseException | None = None) -> None:
        """Let others have it, unless `error`, with which the call ended, makes it unfit."""
        self._lent.discard(connection)
        fit = error is None or isinstance(error, asyncpg.PostgresError)
        outdated = connection in self._outdated
        self._outdated.discard(connection)
        now = time.monotonic()
        if not connection.is_closed():
            if fit and not outdated and not self._closed and not connection.is_in_transaction():
                self._idle.append(_Idle(connection, now))
            else:
                self._part(connection)
        while len(self._idle) > self._least and self._idle[0].since < now - IDLE:
            self._part(self._idle.popleft().connection)
        self._room.release()

    def forget(self) -> None:
        """The server went away: whatever was connected to it is let go."""
        self._outdated |= self._lent
        while self._idle:
            self._part(self._idle.pop().connection)

    async def close(self) -> None:
        """Wait for what is lent to come back, and close everything."""
        self._closed = True
        for _ in range(self._most):
            await self._room.acquire()
        self.forget()
        if self._parting:
            await asyncio.wait(self._parting)

    def terminate(self) -> None:
        """Close everything at once; calls that are under way fail."""
        self._closed = True
        for connection in (*self._lent, *(each.connection for each in self._idle)):
            connection.terminate()
        self._idle.clear()

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop().connection
            if not connection.is_closed():
                return connection
        return None

    def _part(self, connection: Connection) -> None:
        """Say goodbye beside whatever goes on. A call that was broken off is cancelled there."""
        task = asyncio.get_running_loop().create_task(let_go(connection), name="omniq-goodbye")
        self._parting.add(task)
        task.add_done_callback(self._parting.discard)


async def let_go(connection: Connection | None) -> None:
    """Close a connection, by force if it does not answer."""
    if connection is None or connection.is_closed():
        return
    try:
        await connection.close(timeout=LEAVING)
    except _RUDE:
        connection.terminate()
