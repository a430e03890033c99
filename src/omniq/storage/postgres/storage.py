"""PostgreSQL as a storage: the port's methods, each one round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import StorageClosed
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
from omniq.models.units import Receipt, Unit
from omniq.storage.base import AsyncStorage, Capabilities, Ear, MakeCall, Put
from omniq.storage.durability import Durability, Promise, check_durability, tell
from omniq.storage.postgres import options, schema
from omniq.storage.postgres.batch import (
    APPLY_ARGS,
    Answer,
    added,
    arguments,
    decode_answer,
    lone,
)
from omniq.storage.postgres.batch import receipt as receipt_of
from omniq.storage.postgres.batch import resendable, topics_of
from omniq.storage.postgres.connection import Connection, Database
from omniq.storage.postgres.ears import Listener, Notifier, post_of
from omniq.storage.postgres.handed import batch_of, claim_arguments, held_of, progress_of
from omniq.storage.postgres.hints import Hints
from omniq.storage.postgres.join import join
from omniq.storage.postgres.promise import promise_of
from omniq.storage.postgres.reads import Questions

_APPLY = f"{{schema}}.apply_v1({', '.join(f'${n}' for n in range(1, APPLY_ARGS + 1))})"
_CLAIM = "SELECT * FROM {{schema}}.claim_v1({args}, {receipt})"


def _claim_sql(first: int, receipt: str) -> str:
    args = ", ".join(f"${n}" for n in range(first, first + 12))
    return _CLAIM.format(args=args, receipt=receipt)


APPLY = f"SELECT {_APPLY}"
ADD = "SELECT {schema}.add_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
CLAIM = _claim_sql(1, "NULL").replace("{{", "{").replace("}}", "}")
# The argument is computed first: what it released can be claimed.
EXCHANGE = _claim_sql(APPLY_ARGS + 1, _APPLY).replace("{{", "{").replace("}}", "}")
EXTEND = "SELECT * FROM {schema}.extend_v1($1, $2, $3, $4, $5, $6, $7)"
SWEEP = "SELECT * FROM {schema}.sweep_v1($1, $2)"


def _can(push: bool, grade: str) -> Capabilities:
    return Capabilities(push=push, multiprocess=True, local=False, durability=grade)


class AsyncPostgresStorage(AsyncStorage):
    """Tasks, results and events in PostgreSQL (13 or newer), in a schema per namespace.

    `url` is as for libpq (`postgresql://user:password@host/database?sslmode=verify-full`); the
    options may stand in its query too. `pool_min` and `pool_max` are connections of this
    process, besides one that listens and one that notifies. `listen=False` polls twice a second
    instead. `pgbouncer=True` fits a pooler in transaction mode: no prepared statements, and no
    listening unless `listen_url` leads past it. `timeout`: seconds for one call. Durability is
    the server's own; "strict" refuses one that could lose what it acknowledged.
    """

    capabilities: ClassVar[Capabilities] = _can(True, "power")

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "default",
        clock: Clock = SYSTEM_CLOCK,
        durability: Durability = "normal",
        pool_min: int | None = None,
        pool_max: int | None = None,
        timeout: float | None = None,
        listen: bool | None = None,
        pgbouncer: bool | None = None,
        listen_url: str | None = None,
    ) -> None:
        super().__init__(clock=clock)
        check_durability(durability)
        self.url = url
        self.namespace = namespace
        self._address, asked = options.split_url(url)
        self._listen_url = None if listen_url is None else options.split_url(listen_url)[0]
        said: dict[str, Any] = {
            "pool_min": pool_min,
            "pool_max": pool_max,
            "timeout": timeout,
            "listen": listen,
            "pgbouncer": pgbouncer,
        }
        self._more = {name: value for name, value in said.items() if value is not None}
        self._options = options.chosen(asked | self._more)
        self._durability = durability
        self._schema = options.schema_of(namespace)
        self._place = options.describe(self._address, self._schema)
        self._listens = self._options.listen and (
            not self._options.pgbouncer or listen_url is not None
        )
        self.capabilities = _can(self._listens, "power")  # type: ignore[misc]
        self._database = Database(self._address, self._place, self._options)
        self._questions = Questions(self._database, schema.quoted(self._schema))
        self._hints = Hints()
        self._opening = asyncio.Lock()
        self._open = False
        self._listener: Listener | None = None

    async def open(self) -> None:
        async with self._opening:
            if self._open:
                return
            await self._database.open()
            try:
                await self._database.run(self._prepare)
            except BaseException:
                await self._database.close()
                raise
            self._post = post_of(self._address, self._schema)
            self._notifier = Notifier(self._database.connect, self._schema, self._post)
            self._open = True

    async def _prepare(self, connection: Connection) -> None:
        told = await schema.server(connection, self._place)
        promise: Promise = promise_of(self._place, told)
        tell(promise, self._durability)
        self.capabilities = _can(self._listens, promise.grade)  # type: ignore[misc]
        await self._make_tables(connection)

    async def _make_tables(self, connection: Connection) -> None:
        await schema.prepare(connection, self._schema, self._place)

    async def close(self) -> None:
        async with self._opening:
            if not self._open:
                return
            self._open = False
            listener, self._listener = self._listener, None
            # Side by side: each waits for a server that may never say goodbye.
            await asyncio.gather(
                *([listener.close()] if listener is not None else ()),
                self._notifier.close(),
                self._database.close(),
            )

    def twin(self) -> Self:
        return type(self)(
            self.url,
            namespace=self.namespace,
            clock=self.clock,
            durability=self._durability,
            listen_url=self._listen_url,
            **self._more,
        )

    def describe(self) -> str:
        return self._place

    # ---- tasks

    async def apply(self, units: Sequence[Unit]) -> Receipt:
        self._check()
        if not units:
            return Receipt(outcome=[])
        now, again = self._now(), resendable(units)
        if (args := lone(units, now)) is not None:
            status = await self._database.value(self._sql(ADD), *args, again=again)
            answer = added(units[0].row, status)  # type: ignore[union-attr]
        else:
            text = await self._database.value(self._sql(APPLY), *arguments(units, now), again=again)
            answer = decode_answer(text)
        self._changed(topics_of(answer, len(units)))
        return receipt_of(len(units), answer)

    async def claim(self, claim: Claim) -> Batch:
        _, batch = await self._claim(claim, ())
        return batch

    async def exchange(self, units: Sequence[Unit], claim: Claim) -> tuple[Receipt, Batch]:
        return await self._claim(claim, units)

    async def _claim(self, claim: Claim, units: Sequence[Unit]) -> tuple[Receipt, Batch]:
        self._check()
        hints = self._hints.ask(claim.slots)
        now = self._now()
        asked = claim_arguments(claim, hints, now)
        if units:
            sql, args = self._sql(EXCHANGE), [*arguments(units, now), *asked]
        else:
            sql, args = self._sql(CLAIM), asked
        records = await self._database.fetch(sql, *args, again=not units)
        batch, end = batch_of(claim, records)
        answer = Answer() if end.receipt is None else decode_answer(end.receipt)
        topics = topics_of(answer, len(units))
        if end.woken:
            topics.update(f"queue:{name}" for name in end.woken)
        if batch.tasks or batch.chores:
            topics.add("tasks")
        self._changed(topics)
        if self._hints.learn(claim.slots, hints, end.walked, batch.tasks) and not batch.tasks:
            return receipt_of(len(units), answer), (await self._claim(claim, ()))[1]
        return receipt_of(len(units), answer), batch

    async def extend(self, owner: str, lease: Ms, held: Sequence[HeldTask]) -> Held:
        self._check()
        told = progress_of(held)
        found = await self._database.fetch(
            self._sql(EXTEND), self._now(), owner, lease, *told, again=True
        )
        if told[0]:
            self._changed({"tasks"})
        return held_of(held, found)

    async def sweep(self, limit: int = 1000) -> int:
        self._check()
        [(done, text)] = await self._database.fetch(
            self._sql(SWEEP), self._now(), limit, again=True
        )
        if done:
            self._changed(topics_of(decode_answer(text), 1))
        return int(done)

    # ---- questions

    async def get_tasks(self, ids: Sequence[str]) -> list[TaskRow]:
        self._check()
        return await self._questions.tasks(ids, self._now())

    async def get_results(self, ids: Sequence[str]) -> list[ResultRow]:
        self._check()
        return await self._questions.results(ids, self._now())

    async def find_tasks(
        self, filter: TaskFilter, *, limit: int = 100, cursor: str | None = None
    ) -> Page:
        self._check()
        return await self._questions.find_tasks(filter, limit, cursor, self._now())

    async def count_tasks(self) -> list[QueueCount]:
        self._check()
        return await self._questions.count_tasks(self._now())

    async def get_docs(
        self,
        kind: str,
        *,
        prefix: str = "",
        after: str = "",
        due_before: Ms | None = None,
        limit: int = 1000,
    ) -> list[Doc]:
        self._check()
        return await self._questions.docs(kind, prefix, after, due_before, limit, self._now())

    async def read_events(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        self._check()
        here = self.clock.now()
        return await self._questions.read_events(filter, after, limit, here, self._now())

    # ---- ears

    def join(self, connection: object, make_call: MakeCall) -> Put:
        self._check()
        return join(
            connection,
            make_call,
            namespace=self.namespace,
            now=self._now,
            apply=self.apply,
            place=self._place,
        )

    def listen(self, topics: Iterable[str]) -> Ear:
        self._check()
        if self._listener is None:
            connect = self._connect_ears if self._listens else None
            self._listener = Listener(connect, self._schema, self._post)
        return self._post.hub.ear(topics)

    async def _connect_ears(self) -> Connection:
        if self._listen_url is None:
            return await self._database.connect()
        direct = options.chosen({"pgbouncer": False})
        return await Database(self._listen_url, self._place, direct).connect()

    def _changed(self, topics: set[str]) -> None:
        """Tell this process at once, and others soon, what was committed."""
        if topics:
            self._post.hub.signal(topics)
            self._notifier.tell(topics)

    def _sql(self, text: str) -> str:
        return text.replace("{schema}", schema.quoted(self._schema))

    def _now(self) -> Ms | None:
        """The time for the server; None: it asks its own clock."""
        return None if self.clock is SYSTEM_CLOCK else self.clock.now()

    def _check(self) -> None:
        if not self._open:
            raise StorageClosed(f"{self._place} is not open: call open() first")
