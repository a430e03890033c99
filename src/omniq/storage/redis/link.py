"""Connections to the one server that has the namespace, found again whenever it moves.

A namespace lies in one slot, so of a cluster one node matters. The driver's pools and retries
are not used: it would send again by itself what may be sent once only, and a connection whose
caller was cancelled must not be given to the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError, ResponseError

from omniq.errors import StorageClosed
from omniq.storage.redis.address import Address, Node, slot_of
from omniq.storage.redis.scripts import SCRIPTS
from omniq.storage.redis.troubles import code_of, translate

HOPS: Final = 4
"""Nodes one call is sent to at most: each says where the slot is now."""
_ELSEWHERE: Final = ("READONLY", "MASTERDOWN", "CLUSTERDOWN")
_LOST: Final = (ConnectionError, OSError, TimeoutError)


class Lost(Exception):
    """The connection broke; `sent`: the server may have done what it was asked."""

    def __init__(self, error: BaseException, *, sent: bool) -> None:
        super().__init__(type(error).__name__)
        self.error, self.sent = error, sent


class Link:
    """Sends scripts and commands; several at once, each on a connection of its own."""

    def __init__(
        self,
        address: Address,
        meta: str,
        *,
        max_connections: int,
        timeout: float,
        connect_timeout: float,
        wait_replicas: int,
        wait_timeout: float,
    ) -> None:
        self.address, self._meta = address, meta.encode()
        self._timeout, self._connect_timeout = timeout, connect_timeout
        self._wait = (b"WAIT", wait_replicas, round(wait_timeout * 1000))
        self._wait_replicas = wait_replicas
        self._room = asyncio.Semaphore(max_connections)
        self._idle: deque[AbstractConnection] = deque()
        self._master: Node | None = None
        self._era = 0
        """Raised when all connections of before are to be forgotten."""
        self.closed = False

    async def run(self, name: str, blob: bytes, *, again: bool, write: bool = False) -> bytes:
        """Call a script. `again`: it may be sent once more after a lost connection."""
        script = SCRIPTS[name]
        for left in range(HOPS, 0, -1):
            try:
                try:
                    answer = await self._send((b"EVALSHA", script.sha, 1, self._meta, blob), write)
                except ResponseError as error:
                    if not _is_unknown(error):
                        raise
                    answer = await self._send((b"EVAL", script.text, 1, self._meta, blob), write)
            except Lost as lost:
                if left == 1 or not (again if lost.sent else self._may_move(lost.error)):
                    problem = translate(lost.error, self.address.shown)
                    break
                again = again and not lost.sent
            except RedisError as error:
                moved = self._follow(error)
                if not moved or left == 1:
                    problem = translate(error, self.address.shown)
                    break
            else:
                return bytes(answer)
        raise problem

    async def ask(self, *command: Any) -> Any:
        """Send a command that changes nothing; the driver's errors come out as they are."""
        try:
            return await self._send(command, False)
        except Lost as lost:
            raise lost.error from None

    async def _send(self, command: Sequence[Any], write: bool) -> Any:
        if self.closed:
            raise StorageClosed(f"{self.address.shown} is not open: call open() first")
        async with self._room:
            connection, era = await self._connection(), self._era
            sent = False
            try:
                async with asyncio.timeout(self._timeout):
                    packed = connection.pack_command(*command)
                    if write and self._wait_replicas:
                        packed = [*packed, *connection.pack_command(*self._wait)]
                    sent = True
                    await connection.send_packed_command(packed, check_health=False)
                    answer = await _answer(connection)
                    if write and self._wait_replicas:
                        reached = await _answer(connection)
            except _LOST as error:
                # All others lead to the same server.
                await connection.disconnect(nowait=True)
                self.forget()
                raise Lost(error, sent=sent) from None
            except BaseException:  # cancelled: its answer would be taken for the next one's
                await connection.disconnect(nowait=True)
                raise
            if era == self._era and not self.closed:
                self._idle.append(connection)
            else:
                await connection.disconnect(nowait=True)
        if isinstance(answer, RedisError):
            raise answer
        if write and self._wait_replicas and int(reached) < self._wait_replicas:
            raise Lost(
                ConnectionError(
                    f"{reached} of {self._wait_replicas} replicas have the write (wait_replicas)"
                ),
                sent=True,
            )
        return answer

    async def _connection(self) -> AbstractConnection:
        while self._idle:
            connection = self._idle.pop()
            try:
                if connection.is_connected and not await connection.can_read():
                    return connection
            except (RedisError, OSError):
                pass
            await connection.disconnect(nowait=True)
        try:
            async with asyncio.timeout(self._connect_timeout):
                return await self.connect()
        except _LOST as error:
            self._master = None
            raise Lost(error, sent=False) from None

    async def connect(self) -> AbstractConnection:
        """A new connection to the server, logged in."""
        if self.address.mode != "plain" and self._master is None:
            self._master = await self._find()
        connection = self._make(self._master or (self.address.nodes or ((),))[0])
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    def forget(self) -> None:
        """The server is gone, or another one: look for it again, with new connections."""
        self._era += 1
        if self.address.mode != "plain":
            self._master = None
        idle, self._idle = self._idle, deque()
        for connection in idle:
            _drop(connection)

    async def close(self) -> None:
        """Let go of every connection."""
        self.closed = True
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    def _follow(self, error: RedisError) -> bool:
        """Whether the server said that another one should be asked, which then is."""
        code = code_of(error)
        if type(error).__name__ == "MovedError" or code == "MOVED":
            host, port = getattr(error, "host", ""), getattr(error, "port", 0)
            if not port:
                host, _, text = str(error).split(" ")[-1].rpartition(":")
                port = int(text)
            known = self._master or self.address.nodes[0]
            self.forget()
            self._master = (host or known[0], int(port))
            return True
        if code in _ELSEWHERE:
            self.forget()
            return self.address.mode != "plain"
        return False

    def _may_move(self, error: BaseException) -> bool:
        """Whether another node may be asked, where this one cannot be reached."""
        return self.address.mode != "plain" and not code_of(error)

    async def _find(self) -> Node:
        """Ask the nodes, one after the other, where the master is."""
        problem: BaseException = ConnectionError("no node answered")
        for node in self.address.nodes:
            connection = self._make(node, asking=True)
            try:
                await connection.connect()  # type: ignore[no-untyped-call]
                found = await self._ask_master(connection, node)
            except (RedisError, OSError) as error:
                problem = error
                continue
            finally:
                await connection.disconnect(nowait=True)
            if found is not None:
                return found
        raise problem

    async def _ask_master(self, connection: AbstractConnection, node: Node) -> Node | None:
        sentinel = self.address.mode == "sentinel"
        asked = ("GET-MASTER-ADDR-BY-NAME", self.address.service) if sentinel else ("SLOTS",)
        await connection.send_command("SENTINEL" if sentinel else "CLUSTER", *asked)
        answer = await _answer(connection)
        if isinstance(answer, RedisError):
            raise answer
        if sentinel:
            return None if answer is None else (answer[0].decode(), int(answer[1]))
        slot = slot_of(self._meta.decode())
        for first, last, master, *_ in answer:
            if first <= slot <= last:
                return ((master[0] or b"").decode() or node[0], int(master[1]))
        return None

    def _make(self, node: Any, *, asking: bool = False) -> AbstractConnection:
        address = self.address
        of_sentinel = asking and address.mode == "sentinel"
        login = address.sentinel_login if of_sentinel else address.login
        options: dict[str, Any] = {
            **login,
            "socket_timeout": None,  # `_timeout` ends a call as a whole, at less cost
            "socket_connect_timeout": self._connect_timeout,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        if address.path:
            return UnixDomainSocketConnection(path=address.path, **options)
        options |= {"host": node[0], "port": node[1], "socket_keepalive": True}
        if address.tls:
            return SSLConnection(**options, **address.tls_options)
        return Connection(**options)


async def _answer(connection: AbstractConnection) -> Any:
    """The next answer, an error as a value."""
    try:
        return await connection.read_response(disable_decoding=True)
    except RedisError as error:
        if isinstance(error, ConnectionError) and not code_of(error):
            raise
        return error  # also those the driver calls lost connections: LOADING, NOAUTH


def _is_unknown(error: ResponseError) -> bool:
    return type(error).__name__ == "NoScriptError" or "NOSCRIPT" in str(error)


_drops: set[asyncio.Task[None]] = set()


def _drop(connection: AbstractConnection) -> None:
    task = asyncio.get_running_loop().create_task(connection.disconnect(nowait=True))
    _drops.add(task)
    task.add_done_callback(_drops.discard)
