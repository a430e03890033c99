"""Redis and Valkey as a storage: the port's methods, each one script and one trip."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from typing import Any, Final, Self

import msgspec

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import ConfigError, StorageClosed
from omniq.ids import check_name
from omniq.models.filters import (
    Batch,
    Claim,
    EventFilter,
    EventPage,
    Held,
    HeldTask,
    Page,
    QueueCount,
    TaskFilter,
)
from omniq.models.row import Doc, Ms, ResultRow, TaskRow
from omniq.models.units import Insert, PutEvents, PutResult, Receipt, Unit
from omniq.storage.base import AsyncStorage, Capabilities, Ear
from omniq.storage.durability import Durability, check_durability, tell
from omniq.storage.redis import reads
from omniq.storage.redis.address import OPTIONS, check_files, parse
from omniq.storage.redis.ears import Post, PostEar
from omniq.storage.redis.greeting import greet
from omniq.storage.redis.link import Link
from omniq.storage.redis.wire import (
    Exchanged,
    claim_out,
    decode_exchanged,
    encode,
    held_out,
    receipt_of,
    units_out,
)

UNITS: Final = 500
"""Units of one call: a longer one would keep all other clients waiting."""

_held = msgspec.msgpack.Decoder(
    tuple[list[str], list[str], list[tuple[str, int, str]], list[str]]
).decode
_swept = msgspec.msgpack.Decoder(tuple[int, list[str]]).decode


def _can(durability: str) -> Capabilities:
    return Capabilities(push=True, multiprocess=True, local=False, durability=durability)


class AsyncRedisStorage(AsyncStorage):
    """Tasks, results and events in one Redis or Valkey, for any number of machines.

    `url`: redis://, rediss:// (TLS), valkey://, unix://, each also redis+cluster:// and
    redis+sentinel://HOST:26379/SERVICE/DB. A namespace lies in one slot, so of a cluster it
    uses one node: scale by namespaces. `timeout` and `connect_timeout` are seconds.
    `wait_replicas`: a write counts only when so many replicas have it, within `wait_timeout`;
    one that does not reach them raises StorageUnavailable and may have been done.
    The options may stand in the query of the URL too.
    """

    capabilities = _can("process")

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "default",
        clock: Clock = SYSTEM_CLOCK,
        durability: Durability = "normal",
        max_connections: int = 16,
        timeout: float = 10.0,
        connect_timeout: float = 5.0,
        wait_replicas: int = 0,
        wait_timeout: float = 1.0,
    ) -> None:
        super().__init__(clock=clock)
        check_durability(durability)
        self.namespace = check_name(namespace, what="namespace")
        self._address, given = parse(url)
        self._options: dict[str, Any] = {
            "max_connections": max_connections,
            "timeout": timeout,
            "connect_timeout": connect_timeout,
            "wait_replicas": wait_replicas,
            "wait_timeout": wait_timeout,
        } | given
        for name in OPTIONS:
            _check(name, self._options[name])
        self._url, self._durability = url, durability
        self._prefix = f"{{omniq:{namespace}}}:"
        self._opening = asyncio.Lock()
        self._link: Link | None = None
        self._me = os.urandom(8).hex()

    async def open(self) -> None:
        async with self._opening:
            if self._link is not None:
                return
            check_files(self._address)
            meta = f"{self._prefix}meta"
            link = Link(self._address, meta, **self._options)
            try:
                replicas = self._options["wait_replicas"]
                promise = await greet(link, meta, self.describe(), replicas)
                tell(promise, self._durability)
            except BaseException:
                await link.close()
                raise
            self.capabilities = _can(promise.grade)  # type: ignore[misc]
            self._link = link
            self._post = Post(link, self._prefix, self._me.encode())

    async def close(self) -> None:
        async with self._opening:
            if self._link is None:
                return
            link, self._link = self._link, None
            await self._post.close()
            await link.close()

    def twin(self) -> Self:
        options = self._options
        return type(self)(
            self._url,
            namespace=self.namespace,
            clock=self.clock,
            durability=self._durability,
            **options,
        )

    def describe(self) -> str:
        where = self._address.shown
        return where if self.namespace == "default" else f"{where} (namespace {self.namespace})"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._address.shown!r}, namespace={self.namespace!r})"

    async def apply(self, units: Sequence[Unit]) -> Receipt:
        answers = await self._exchange(units, None)
        return receipt_of(answers)

    async def claim(self, claim: Claim) -> Batch:
        [answer] = await self._exchange((), claim)
        return answer.batch()

    async def exchange(self, units: Sequence[Unit], claim: Claim) -> tuple[Receipt, Batch]:
        answers = await self._exchange(units, claim)
        return receipt_of(answers), answers[-1].batch()

    async def _exchange(self, units: Sequence[Unit], claim: Claim | None) -> list[Exchanged]:
        self._check_open()
        answers: list[Exchanged] = []
        asked = None if claim is None else claim_out(claim)
        start, end = 0, len(units)
        while start < end or (start == 0 and not answers):
            part = units[start : start + UNITS] if end > UNITS else units
            start += UNITS
            last = asked if start >= end else None
            again = all(isinstance(unit, _AGAIN) for unit in part)
            answer = await self._call(
                "exchange", units_out(part), last, again=again, write=bool(part)
            )
            answers.append(decode_exchanged(answer))
            self._post.hub.signal(answers[-1].topics)
        return answers

    async def extend(self, owner: str, lease: Ms, held: Sequence[HeldTask]) -> Held:
        answer = await self._call("extend", owner, lease, held_out(held))
        lost, cancelled, unknown, topics = _held(answer)
        self._post.hub.signal(topics)
        return Held(tuple(lost), tuple(cancelled), tuple(HeldTask(*each) for each in unknown))

    async def sweep(self, limit: int = 1000) -> int:
        done = 0
        while done < limit:  # in portions, so that no other client waits for long
            portion = min(UNITS, limit - done)
            count, topics = _swept(await self._call("sweep", portion))
            self._post.hub.signal(topics)
            done += count
            if count < portion:
                break
        return done

    async def get_tasks(self, ids: Sequence[str]) -> list[TaskRow]:
        self._check_open()
        return await reads.get_tasks(self._call, ids)

    async def find_tasks(
        self, filter: TaskFilter, *, limit: int = 100, cursor: str | None = None
    ) -> Page:
        return await reads.find_tasks(self._call, filter, limit, cursor)

    async def count_tasks(self) -> list[QueueCount]:
        return await reads.count_tasks(self._call)

    async def get_results(self, ids: Sequence[str]) -> list[ResultRow]:
        self._check_open()
        return await reads.get_results(self._call, ids)

    async def get_docs(
        self,
        kind: str,
        *,
        prefix: str = "",
        after: str = "",
        due_before: Ms | None = None,
        limit: int = 1000,
    ) -> list[Doc]:
        return await reads.get_docs(self._call, kind, prefix, after, due_before, limit)

    async def read_events(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        return await reads.read_events(self._call, filter, after, limit)

    def listen(self, topics: Iterable[str]) -> Ear:
        self._check_open()
        return PostEar(self._post, topics)

    async def _call(
        self, script: str, *args: Any, again: bool = True, write: bool = False
    ) -> bytes:
        link = self._check_open()
        blob = encode([self._now(), self._me, *args])
        return await link.run(script, blob, again=again, write=write)

    def _now(self) -> Ms:
        """The time of a test's clock; 0: the server's."""
        return 0 if self.clock is SYSTEM_CLOCK else self.clock.now()

    def _check_open(self) -> Link:
        if self._link is None:
            raise StorageClosed(f"{self.describe()} is not open: call open() first")
        return self._link


_AGAIN: Final = (Insert, PutResult, PutEvents)
"""Units whose answer is good enough when they were sent twice: ALREADY says done."""


def _check(name: str, value: Any) -> None:
    least = 1 if name == "max_connections" else 0
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} is a number from {least} on for Redis, not {value!r}")
