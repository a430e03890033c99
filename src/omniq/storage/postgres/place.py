"""PostgreSQL inside a transaction of somebody else: the port's methods over their psycopg connection.

Nothing is begun or committed there. What becomes visible to others does so when the connection's
owner commits, and workers are told at that moment, by a NOTIFY that is part of the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from psycopg import Connection, Error, InterfaceError, OperationalError
from psycopg.pq import TransactionStatus

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import OmniQError, SchemaError, StorageUnavailable
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
from omniq.models.units import Applied, Insert, PutDoc, Receipt, Unit
from omniq.storage.base import Capabilities
from omniq.storage.postgres import schema
from omniq.storage.postgres.batch import arguments, decode_answer
from omniq.storage.postgres.batch import receipt as receipt_of
from omniq.storage.postgres.batch import topics_of
from omniq.storage.postgres.connection import MISSING, meaning_of
from omniq.storage.postgres.driven import Driven, drive
from omniq.storage.postgres.ears import payloads
from omniq.storage.postgres.foreign import insert_call, insert_json, insert_receipt
from omniq.storage.postgres.handed import batch_of, claim_arguments, held_of, progress_of
from omniq.storage.postgres.options import schema_of
from omniq.storage.postgres.reads import Questions
from omniq.storage.postgres.storage import APPLY, CLAIM, EXTEND, SWEEP

T = TypeVar("T")

REMEDY: Final = "open an AsyncPostgresStorage on that database once"
_ROLL_BACK: Final = "roll back and try again"
_HERE: Final = {
    "25P02": "an earlier error has broken the transaction that is open here; roll back",
    "40001": f"this transaction crossed another one; {_ROLL_BACK}",
    "40P01": f"this transaction and another one wait for each other; {_ROLL_BACK}",
}
"""What means something else than on a connection of ours, by SQLSTATE."""
_KNOWN: Final = (
    "SELECT d.kind, d.key FROM {schema}.doc d WHERE d.kind = ANY ($2) AND d.key = ANY ($3) "
    "AND (d.expires_at IS NULL OR d.expires_at > {schema}.now_v1($1))"
)

_seen: WeakKeyDictionary[Connection[Any], set[str]] = WeakKeyDictionary()
"""Connections whose tables have been looked at, by schema: once is enough for each."""


class ForeignPostgres:
    """Tasks, results and events in the database of an open psycopg connection.

    It is used in the thread that calls, and so must the connection be. Each call that writes is
    a savepoint: it is in the caller's transaction as a whole or not at all. On a connection in
    autocommit, where no transaction is open, it is one by itself. New tasks lock no row of
    others; a task that is cancelled or changed is locked until the caller's commit. `lost` is
    called when the connection turns out to be gone.
    """

    capabilities: Final = Capabilities(
        push=True, multiprocess=True, local=False, durability="power"
    )

    def __init__(
        self,
        connection: Connection[Any],
        *,
        namespace: str = "default",
        clock: Clock = SYSTEM_CLOCK,
        remedy: str = REMEDY,
        setting: str = "the connection's address",
        lost: Callable[[], object] = lambda: None,
    ) -> None:
        self.clock = clock
        self._connection = connection
        self._namespace = namespace
        self._schema = schema_of(namespace)
        self._quoted = schema.quoted(self._schema)
        self._remedy = remedy
        self._setting = setting
        self._lost = lost
        self._database = Driven(connection)
        self._questions = Questions(self._database, self._quoted)

    def describe(self) -> str:
        """Where this is, in words for people."""
        return f"{self._place()}, in the caller's transactions"

    def tables_version(self) -> int:
        """The version of OmniQ's tables there; 0: there are none."""
        with self._explained():
            return self._version()

    def missing(self, upto: int = schema.VERSION) -> list[str]:
        """The statements that bring OmniQ's tables here up to a version.

        ConfigError, with what to grant, where this role may not make them.
        """
        with self._explained():
            have, ask = self._version(), self._database.fetchval
            if have >= upto:
                return []
            found = schema.steps(self._schema, have, min(upto, schema.VERSION))
            if not drive(schema.exists(self._database, self._schema)):
                right = "SELECT has_database_privilege(current_database(), 'CREATE')"
                if not drive(ask(right)):
                    why = "permission denied for database"
                    asked = (self._database, self._schema, self._place(), why, self._setting)
                    raise drive(schema.no_rights(*asked))
                found.insert(0, schema.create(self._schema))
            return found

    # ---- tasks

    def apply(self, units: Sequence[Unit]) -> Receipt:
        """Apply units in order; all that are not refused, or after an error none."""
        return self._write(self._apply(units)) if units else Receipt(outcome=[])

    async def _apply(self, units: Sequence[Unit]) -> Receipt:
        parts = []
        for new, run in groupby(units, key=lambda unit: type(unit) is Insert):
            part = list(run)
            if new:
                parts.append(await self._insert(part))
            elif not await self._are_there(part):
                parts.append(await self._change(part))
            else:
                parts.append(Receipt(outcome=[Applied.REFUSED] * len(part)))
        return parts[0] if len(parts) == 1 else _joined(parts)

    async def _insert(self, units: Sequence[Any]) -> Receipt:
        call = insert_call(self._namespace).format("$1")
        asked = insert_json(units, namespace=self._namespace, now=self._now())
        return insert_receipt(await self._database.fetchval(call, asked))

    async def _change(self, units: Sequence[Unit]) -> Receipt:
        text = await self._ask(APPLY, *arguments(units, self._now()))
        answer = decode_answer(text[0][0])
        await self._tell(topics_of(answer, len(units)))
        return receipt_of(len(units), answer)

    async def _are_there(self, units: Sequence[Unit]) -> bool:
        """Whether all are docs to be made that others have made: seen without a lock on them.

        Names of queues are such, with every enqueue.
        """
        docs = [(u.kind, u.key) for u in units if isinstance(u, PutDoc) and u.expect == 0]
        if len(docs) < len(units):
            return False
        kinds, keys = map(list, zip(*docs, strict=True))
        found = {tuple(row) for row in await self._ask(_KNOWN, self._now(), kinds, keys)}
        return found.issuperset(docs)

    def claim(self, claim: Claim) -> Batch:
        """Hand out work, and chores."""
        return self._write(self._claim(claim))

    async def _claim(self, claim: Claim) -> Batch:
        asked = claim_arguments(claim, [None] * len(claim.slots), self._now())
        batch, end = batch_of(claim, await self._ask(CLAIM, *asked))
        topics = {f"queue:{name}" for name in end.woken or ()}
        await self._tell(topics | ({"tasks"} if batch.tasks or batch.chores else set()))
        return batch

    def extend(self, owner: str, lease: Ms, held: Sequence[HeldTask]) -> Held:
        """Renew an owner's lease, write the progress of its tasks, say what changed."""
        asked = (self._now(), owner, lease, *progress_of(held))
        return held_of(held, self._write(self._ask(EXTEND, *asked)))

    def sweep(self, limit: int = 1000) -> int:
        """Remove what is past its stamp and go on with unfinished releases; how many rows."""
        return self._write(self._sweep(limit))

    async def _sweep(self, limit: int) -> int:
        [(done, text)] = await self._ask(SWEEP, self._now(), limit)
        await self._tell(topics_of(decode_answer(text), 1) if done else set())
        return int(done)

    # ---- questions

    def get_tasks(self, ids: Sequence[str]) -> list[TaskRow]:
        """The rows that exist, in the order asked for."""
        return self._read(self._questions.tasks(ids, self._now()))

    def get_results(self, ids: Sequence[str]) -> list[ResultRow]:
        """The results that exist, in the order asked for."""
        return self._read(self._questions.results(ids, self._now()))

    def find_tasks(
        self, filter: TaskFilter, *, limit: int = 100, cursor: str | None = None
    ) -> Page:
        """A page of rows without cold fields but `preview`."""
        return self._read(self._questions.find_tasks(filter, limit, cursor, self._now()))

    def count_tasks(self) -> list[QueueCount]:
        """Rows by queue and status."""
        return self._read(self._questions.count_tasks(self._now()))

    def get_docs(
        self,
        kind: str,
        *,
        prefix: str = "",
        after: str = "",
        due_before: Ms | None = None,
        limit: int = 1000,
    ) -> list[Doc]:
        """Live docs of a kind by key."""
        asked = (kind, prefix, after, due_before, limit, self._now())
        return self._read(self._questions.docs(*asked))

    def read_events(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        """Events in the order they were stored, those behind the cursor `after`."""
        asked = (filter, after, limit, self.clock.now(), self._now())
        return self._read(self._questions.read_events(*asked))

    # ---- the caller's connection

    def _read(self, question: Coroutine[Any, Any, T]) -> T:
        with self._explained(question):
            self._check()
            return drive(question)

    def _write(self, work: Coroutine[Any, Any, T]) -> T:
        with self._explained(work):
            self._check()
            begin, keep, undo = self._words()
            self._database.run(begin)
            try:
                answer = drive(work)
                self._database.run(keep)
            except BaseException:
                with suppress(OperationalError, InterfaceError):  # the first error says more
                    self._database.run(undo)
                raise
            return answer

    def _words(self) -> tuple[str, str, str]:
        alone = self._connection.info.transaction_status is TransactionStatus.IDLE
        if alone and self._connection.autocommit:
            return "BEGIN ISOLATION LEVEL READ COMMITTED", "COMMIT", "ROLLBACK"
        # The driver begins a transaction before it, if none is open yet.
        return "SAVEPOINT omniq", "RELEASE omniq", "ROLLBACK TO omniq; RELEASE omniq"

    async def _ask(self, sql: str, *args: Any) -> Sequence[Any]:
        return await self._questions.ask(sql, *args)

    async def _tell(self, topics: set[str]) -> None:
        if topics:
            for payload in payloads("", sorted(topics)):  # from nobody: this process hears it too
                await self._database.fetch("SELECT pg_notify($1, $2)", self._schema, payload)

    def _check(self) -> None:
        """See that there are tables for us, before a statement fails and breaks a transaction."""
        seen = _seen.setdefault(self._connection, set())
        if self._schema in seen:
            return
        have = self._version()
        if have < schema.VERSION:
            what = f"tables of version {have}, this OmniQ needs {schema.VERSION}"
            raise SchemaError(
                f"{self._place()} has {what if have else 'no tables'} of OmniQ: {self._remedy}"
            )
        seen.add(self._schema)

    def _version(self) -> int:
        asked = (self._database, self._schema, self._place(), self._setting)
        return drive(schema.version(*asked))

    @contextmanager
    def _explained(self, coroutine: Coroutine[Any, Any, Any] | None = None) -> Iterator[None]:
        try:
            yield
        except Error as error:
            if self._connection.closed:
                self._lost()
            raise self._explain(error) from error
        finally:
            if coroutine is not None:
                coroutine.close()  # it may never have been begun

    def _explain(self, error: Error) -> OmniQError:
        state = error.sqlstate
        kind: type[OmniQError]
        if state is None:  # it never came from the server
            kind, why = StorageUnavailable, "the connection was lost"
        elif state in _HERE:
            kind, why = StorageUnavailable, _HERE[state]
        elif state in MISSING:
            _seen.pop(self._connection, None)  # they were there
            kind, why = SchemaError, f"its tables are not those this OmniQ needs; {self._remedy}"
        else:
            kind, why = meaning_of(state)
        text = error.diag.message_primary or str(error).strip() or type(error).__name__
        return kind(f"{self._place()}: {why} ({text})")

    def _now(self) -> Ms | None:
        """The time for the server; None: it asks its own clock."""
        return None if self.clock is SYSTEM_CLOCK else self.clock.now()

    def _place(self) -> str:
        try:
            info = self._connection.info
            where = f"{info.host or 'local socket'}:{info.port}/{info.dbname}"
        except OperationalError:
            where = "(connection lost)"
        return f"PostgreSQL {where}, schema {self._schema}"


def _joined(parts: Sequence[Receipt]) -> Receipt:
    """Receipts of parts of a batch as one."""
    outcome: list[Applied] = []
    taken: dict[int, str] = {}
    missing: dict[int, tuple[str, ...]] = {}
    riders: dict[int, int] = {}
    for part in parts:
        first = len(outcome)
        taken |= {first + n: holder for n, holder in part.taken.items()}
        missing |= {first + n: parents for n, parents in part.missing.items()}
        riders |= {first + n: count for n, count in part.riders_refused.items()}
        outcome += part.outcome
    return Receipt(
        outcome=outcome,
        taken=taken,
        missing=missing,
        riders_refused=riders,
        woken=frozenset[str]().union(*(part.woken for part in parts)),
        stranded=tuple(id for part in parts for id in part.stranded),
        unreleased=any(part.unreleased for part in parts),
    )
