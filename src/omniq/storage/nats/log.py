"""The commit log in a JetStream stream: a segment's number is its message's sequence.

A message is published with the sequence the stream must stand at, so a number can be taken
once; sequences never return, not even those of messages that were cut.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, TypeVar

import msgspec
import nats.errors

from omniq.errors import OmniQError, StorageClosed
from omniq.ids import uuid7
from omniq.models.row import Ms
from omniq.storage.durability import Promise
from omniq.storage.log.port import Manners, Rewound
from omniq.storage.nats.address import Address
from omniq.storage.nats.connection import Connection, Done, Headers
from omniq.storage.nats.errors import (
    FAILURES,
    NO_STREAM,
    WRONG_LAST,
    Lost,
    Refused,
    explain,
    refusal,
)
from omniq.storage.nats.feed import Feed
from omniq.storage.nats.loop import OwnLoop
from omniq.storage.nats.objects import Objects
from omniq.storage.nats.promise import promise_of
from omniq.storage.nats.server import check_server
from omniq.storage.nats.stream import State, ask_state, have, read_info

T = TypeVar("T")

_LOG: Final = logging.getLogger("omniq.storage")
_HEADERS: Final = 1024
"""Bytes of a message left for its headers."""
_LARGEST: Final = 1_048_576
_BACKLOG_SECONDS: Final = 0.05
_SEEN_SECONDS: Final = 1.0
"""How long a segment whose number is taken may need to become visible in a cluster."""


class NATSLog:
    """A log, and objects in a bucket beside it. Its methods block; `open` before all others."""

    def __init__(self, address: Address, namespace: str) -> None:
        self.manners = Manners()
        self._address = address
        self._namespace = namespace
        self._stream = f"OQ_{namespace}"
        self._subject = f"oq.{namespace}.log"
        # Replies and pushes to this client come here, so an account may be given the
        # subjects of one namespace and nothing else.
        self._inbox = f"oq.{namespace}.inbox.{uuid7().replace('-', '')}"
        self._loop: OwnLoop | None = None
        self._refused = 0
        self._tell: Callable[[], None] | None = None

    def open(self) -> None:
        self._loop = OwnLoop()
        try:
            self._run(self._open)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    def put(self, number: int, data: bytes) -> bool:
        headers = {
            "Nats-Expected-Stream": self._stream,
            "Nats-Expected-Last-Sequence": str(number - 1),
        }
        if number == 1:  # servers before 2.10 take no 0 there
            headers["Nats-Expected-Last-Subject-Sequence"] = "0"
        self._feed.putting(number)
        try:
            answer = msgspec.json.decode(self._ask(self._subject, data, headers))
            if (refused := refusal(answer)) is None:
                self._feed.played(number)
                return True
            if refused.code in WRONG_LAST:
                self._refused = number if self._configs[0]["num_replicas"] > 1 else 0
                return False
            raise refused
        except nats.errors.NoRespondersError as error:
            self.first()  # where the stream is gone, it is made anew
            raise self._explained(error) from None
        except FAILURES as error:
            raise self._explained(error) from None

    def read_on(self, number: int) -> Sequence[bytes]:
        if found := self._feed.take(number):
            return found
        try:
            subject = self._connection.api_subject(f"STREAM.INFO.{self._stream}")
            info = read_info(self._ask(subject))
            if info.state is not None and info.state.last_seq == number - 1 != self._refused - 1:
                return ()
        except (Lost, nats.errors.Error):
            pass  # the longer way asks again
        except FAILURES as error:
            raise self._explained(error) from None
        return self._run(self._look, number)

    def first(self) -> int:
        return self._run(self._state).first

    def cut(self, before: int) -> None:
        self._run(self._cut, before)

    def keep(self, name: str, data: bytes) -> bool:
        return self._run(self._objects.keep, name, data)

    def replace(self, name: str, data: bytes) -> None:
        self._run(self._objects.replace, name, data)

    def fetch(self, name: str, offset: int = 0, length: int | None = None) -> bytes | None:
        return self._run(self._objects.fetch, name, offset, length)

    def names(self, prefix: str) -> list[str]:
        return self._run(self._objects.names, prefix)

    def drop(self, names: Iterable[str]) -> None:
        self._run(self._objects.drop, tuple(names))

    def now(self) -> Ms | None:
        return self._run(self._state).now

    def follow(self, tell: Callable[[], None]) -> bool:
        self._feed.follow(tell)
        return True

    def turn(self) -> AbstractContextManager[None]:
        return nullcontext()  # the server puts those who come at once in a row

    def rest(self, seconds: float | None) -> None:
        self._at().rest(seconds)

    def wake(self) -> None:
        if (loop := self._loop) is not None:
            loop.wake()

    @property
    def promise(self) -> Promise:
        """What the streams, as they are set up, survive."""
        return promise_of(
            self._connection.where,
            self._namespace,
            version=str(self._connection.info.get("version", "?")),
            streams=self._configs,
            always=self._address.sync == "always",
        )

    # -- on the loop

    async def _open(self) -> None:
        assert self._loop is not None
        self._connection = connection = Connection(
            self._address, name=f"omniq {self._namespace}", inbox=self._inbox
        )
        self._loop.at_end(self._goodbye)
        await connection.open()
        await check_server(connection)
        self._objects = Objects(connection, f"OQ_{self._namespace}")
        self._configs = await self._have_streams()
        most = int(connection.info.get("max_payload", _LARGEST))
        for config in self._configs:
            if (size := config.get("max_msg_size", -1)) > 0:
                most = min(most, size)
        room = min(_LARGEST, most - _HEADERS)
        self._objects.chunk = min(self._objects.chunk, room)
        self.manners = Manners(
            segment_bytes=room,
            inline_bytes=min(Manners().inline_bytes, room // 8),
            memory_bytes=min(Manners().memory_bytes, room // 64),
        )
        state = await ask_state(connection, self._stream)
        self._feed = Feed(connection, self._stream, self._loop.soon, state.last + 1)
        self._loop.keep(self._feed.run())

    async def _goodbye(self) -> None:
        if (feed := getattr(self, "_feed", None)) is not None:
            await feed.leave()
        await self._connection.close()

    async def _have_streams(self) -> list[dict[str, Any]]:
        log = {
            "name": self._stream,
            "description": f"OmniQ: the log of namespace {self._namespace}",
            "subjects": [self._subject],
            "retention": "limits",
            "discard": "new",
            "storage": "file",
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "allow_direct": True,
        }
        return [
            await have(self._connection, config, self._address.replicas)
            for config in (log, self._objects.config)
        ]

    async def _look(self, number: int) -> Sequence[bytes]:
        """What the leader has from a number on, where the consumer has not brought it."""
        state = await self._state()
        if state.last < number - 1:
            self._feed.begin_at(state.last + 1)
            raise Rewound(
                f"{self._connection.where}: the stream ends at {state.last}, before segment "
                f"{number - 1}: it lost its end, or was restored or made anew"
            )
        if state.last < number and self._refused == number:
            state = await self._appearing(number, state)
        if not state.first <= number <= state.last:
            return ()
        if number < state.last:  # more than one: they come in a row
            await self._feed.coming(_BACKLOG_SECONDS)
        if found := self._feed.take(number):
            return found
        return await self._message(number)

    async def _appearing(self, number: int, state: State) -> State:
        """In a cluster a number is taken before all who have to agree on it have done so."""
        end = time.monotonic() + _SEEN_SECONDS
        while state.last < number and time.monotonic() < end:
            await self._feed.coming(0.01)
            state = await self._state()
        self._refused = 0
        return state

    async def _message(self, number: int) -> Sequence[bytes]:
        message = await self._connection.direct(self._stream, number)
        if not (message.headers and "Status" in message.headers):
            return (message.data,)
        # A replica that is behind: the leader has it.
        try:
            answer = await self._connection.surely(
                f"STREAM.MSG.GET.{self._stream}", {"seq": number}
            )
        except Refused:
            return ()
        return (base64.b64decode(answer["message"].get("data", "")),)

    async def _cut(self, before: int) -> None:
        # The server would take a number behind the end for the wish to have nothing left.
        before = min(before, (await self._state()).last)
        if before > 1:
            await self._connection.surely(f"STREAM.PURGE.{self._stream}", {"seq": before})

    async def _state(self) -> State:
        try:
            return await ask_state(self._connection, self._stream)
        except Refused as refused:
            if refused.code != NO_STREAM:
                raise
        _LOG.error(
            "%s: stream %s was removed, and its tasks with it; it is made anew",
            self._connection.where,
            self._stream,
        )
        await self._have_streams()
        return await ask_state(self._connection, self._stream)

    def _ask(self, subject: str, payload: bytes = b"", headers: Headers = None) -> bytes:
        """A request whose answer this thread waits for; raises what came of it."""
        connection = self._connection

        def begin(done: Done) -> None:
            connection.post(subject, payload, headers, done)

        what = self._at().wait(begin)
        if isinstance(what, Exception):
            raise what
        return what.data

    def _run(self, function: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        try:
            return self._at().run(function, *args)
        except FAILURES as error:
            # Not as its cause: the driver's words are in the message, as far as they help.
            raise self._explained(error) from None

    def _at(self) -> OwnLoop:
        if self._loop is None:
            raise StorageClosed(f"NATS {self._address.shown}: the log is not open")
        return self._loop

    def _explained(self, error: BaseException) -> OmniQError:
        return explain(error, f"NATS {self._address.shown}")
