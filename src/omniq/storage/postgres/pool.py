"""Connections that stay open between calls, each lent to one call at a time.

The driver's own pool costs a call several turns of the event loop, a third of the time that a
short one takes.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, NamedTuple

import asyncpg

Connection = asyncpg.Connection

IDLE: Final = 300.0
"""Seconds after which a connection nobody needed is closed: a firewall may have forgotten it."""
GOODBYE: Final = 2.0
"""Seconds a server may take to say goodbye, or to break off what it was doing."""
_RUDE: Final = (
    TimeoutError,
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
_BROKEN_OFF: Final = (asyncio.CancelledError, TimeoutError)
"""With these the driver asks the server to give a statement up, which takes a moment."""


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
        most: int,
        timeout: float,
    ) -> None:
        self._connect, self._most, self._timeout = connect, most, timeout
        self._room = asyncio.Semaphore(most)
        self._idle: deque[_Idle] = deque()
        self._lent: set[Connection] = set()
        self._outdated: set[Connection] = set()
        """Those that are lent and must not come back."""
        self._chores: dict[asyncio.Task[None], Connection] = {}
        """What goes on beside the calls, each with one connection."""
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def open(self, count: int) -> None:
        """Make connections to begin with."""
        for _ in range(count):
            self._keep(await self._connect())

    async def take(self) -> Connection:
        """A connection for one call; give it back, whatever becomes of the call."""
        if self._room.locked():
            async with asyncio.timeout(self._timeout):
                await self._room.acquire()
        else:
            await self._room.acquire()
        try:
            self._check()
            connection = self._kept()
            if connection is None:
                connection = await self._connect()
                if self._closed:
                    connection.terminate()
                    self._check()
        except BaseException:
            self._room.release()
            raise
        self._lent.add(connection)
        return connection

    def give_back(self, connection: Connection, error: BaseException | None = None) -> None:
        """Let others have it, unless `error`, with which the call ended, makes it unfit."""
        if isinstance(error, _BROKEN_OFF) and not (self._closed or connection.is_closed()):
            self._begin(self._mend(connection), connection)  # meanwhile it counts as lent
            return
        outdated = self._closed or connection in self._outdated
        self._lent.discard(connection)
        self._outdated.discard(connection)
        if not connection.is_closed():
            if outdated or connection.is_in_transaction() or not _is_harmless(error):
                self._begin(let_go(connection), connection)
            else:
                self._keep(connection)
        self._room.release()

    def forget(self) -> None:
        """The server went away: whatever was connected to it is let go."""
        self._outdated |= self._lent
        self._let_go_before(math.inf)

    async def close(self) -> None:
        """Wait for what is lent to come back, and close everything."""
        self._closed = True
        for _ in range(self._most):
            await self._room.acquire()
        self.forget()
        if self._chores:
            await asyncio.wait(self._chores)
        self.terminate()

    def terminate(self) -> None:
        """Close everything at once; calls that are under way fail, and those that wait."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._chores:
            task.cancel()  # it may not have begun
        idle = (each.connection for each in self._idle)
        for connection in (*self._lent, *idle, *self._chores.values()):
            connection.terminate()
        self._idle.clear()
        for _ in range(self._most):
            self._room.release()

    def _check(self) -> None:
        if self._closed:
            raise asyncpg.InterfaceError("the pool is closed")

    def _keep(self, connection: Connection) -> None:
        self._idle.append(_Idle(connection, time.monotonic()))
        # It also keeps this pool alive in a forked child, where its end would be the parent's too.
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(IDLE, self._tidy)

    def _kept(self) -> Connection | None:
        self._let_go_before(time.monotonic() - IDLE)
        while self._idle:
            connection = self._idle.pop().connection
            if not connection.is_closed():
                return connection
        return None

    def _tidy(self) -> None:
        """Now and then, for nobody may ask for a connection for long."""
        self._timer = None
        self._let_go_before(time.monotonic() - IDLE)
        if self._idle:
            self._timer = asyncio.get_running_loop().call_later(IDLE, self._tidy)

    def _let_go_before(self, before: float) -> None:
        while self._idle and self._idle[0].since <= before:
            connection = self._idle.popleft().connection
            self._begin(let_go(connection), connection)

    async def _mend(self, connection: Connection) -> None:
        """Wait until the server has given up what was broken off here."""
        try:
            async with asyncio.timeout(GOODBYE):
                await connection.execute("SELECT 1")  # the driver sends it once that is over
        except Exception:  # of whatever kind: it is not fit for others
            connection.terminate()
        finally:
            self.give_back(connection)

    def _begin(self, chore: Coroutine[Any, Any, None], connection: Connection) -> None:
        """Do it beside whatever goes on."""
        try:
            task = asyncio.get_running_loop().create_task(chore, name="omniq-connection")
        except RuntimeError:  # the loop is gone, and this is the end of a call it has left behind
            chore.close()
            with suppress(RuntimeError):
                connection.terminate()
            return
        self._chores[task] = connection
        task.add_done_callback(self._chores.pop)


def _is_harmless(error: BaseException | None) -> bool:
    return error is None or isinstance(error, asyncpg.PostgresError)


async def let_go(connection: Connection | None) -> None:
    """Close a connection, by force if it does not answer."""
    if connection is None or connection.is_closed():
        return
    try:
        await connection.close(timeout=GOODBYE)
    except _RUDE:
        connection.terminate()
