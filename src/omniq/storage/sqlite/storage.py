"""SQLite as a storage: the port's methods, each one hop to the thread that does the work."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import ConfigError, InvalidName, StorageClosed, StorageError
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
from omniq.models.units import Insert, Move, Receipt, Unit
from omniq.storage.base import AsyncStorage, Capabilities, Ear, MakeCall, Put
from omniq.storage.durability import Durability, Grade, Promise, check_durability, tell
from omniq.storage.sqlite import reads
from omniq.storage.sqlite.apply import apply_units
from omniq.storage.sqlite.claim import claim_tasks, extend_lease
from omniq.storage.sqlite.connection import Connection
from omniq.storage.sqlite.ears import Watch, WatchingEar, post_of
from omniq.storage.sqlite.edges import UNIT_ROWS
from omniq.storage.sqlite.join import join
from omniq.storage.sqlite.migrate import made, migrate
from omniq.storage.sqlite.place import filesystem, prepare
from omniq.storage.sqlite.sweep import sweep_once
from omniq.storage.sqlite.writer import Writer, tune

T = TypeVar("T")

_NEEDS = (3, 37)
_GRADES: dict[str, Grade] = {"NORMAL": "process", "FULL": "power"}
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def _can(durability: Grade) -> Capabilities:
    return Capabilities(
        push=True,
        multiprocess=True,
        local=True,
        durability=durability,
        overlaps=False,  # Python's sqlite3 and the event loop share the interpreter's lock
        unit_rows=UNIT_ROWS,
    )


class AsyncSQLiteStorage(AsyncStorage):
    """Tasks, results and events in one SQLite file, for any number of processes of a machine.

    `synchronous`: "NORMAL" keeps every acknowledged write when a process is killed, "FULL"
    also when the machine loses power (each commit then waits for the disk). Without it
    `durability` decides: "normal" or "strict". A namespace other than "default" has a file of
    its own beside `path`. A missing directory is made, private to this user.
    """

    capabilities = _can("process")

    def __init__(
        self,
        path: str | Path,
        *,
        namespace: str = "default",
        clock: Clock = SYSTEM_CLOCK,
        durability: Durability = "normal",
        synchronous: Literal["NORMAL", "FULL"] | None = None,
    ) -> None:
        super().__init__(clock=clock)
        check_durability(durability)
        self._synchronous = synchronous or ("FULL" if durability == "strict" else "NORMAL")
        if self._synchronous not in _GRADES:
            raise ConfigError(f"synchronous is NORMAL or FULL for SQLite, not {synchronous!r}")
        if durability == "strict" and self._synchronous != "FULL":
            raise ConfigError(
                "synchronous='NORMAL' may lose the last moments before a power cut, which "
                "durability='strict' does not allow: leave synchronous out, or write 'FULL'"
            )
        self._named, self._namespace = Path(path), namespace
        self.path = _file_of(self._named, namespace)
        self._durability = durability
        self.capabilities = _can(_GRADES[self._synchronous])  # type: ignore[misc]
        self._opening = asyncio.Lock()
        self._open = False
        self._watch: Watch | None = None

    async def open(self) -> None:
        async with self._opening:
            if self._open:
                return
            if sqlite3.sqlite_version_info < _NEEDS:
                raise StorageError(
                    f"SQLite {sqlite3.sqlite_version} is too old: OmniQ needs "
                    f"{'.'.join(map(str, _NEEDS))} or newer; use a newer Python build"
                )
            self._prepare()
            self._post = post_of(self.path.resolve())
            self._writer = Writer(self.path, self._synchronous, self._make_tables)
            self._write = Connection(self.path, self._writer.prepare, self._writer.close)
            self._reads = Connection(self.path, _prepare_reads)
            await self._write.open()
            try:
                await self._reads.open()
                tell(self._promise(), self._durability)
            except BaseException:
                await self._reads.close()
                await self._write.close()
                raise
            self._open = True

    def _promise(self) -> Promise:
        grade, kind = _GRADES[self._synchronous], filesystem(self.path.parent)
        undone: tuple[str, ...] = ()
        if grade == "power" and kind in _IN_MEMORY:
            undone = (
                f"{kind} is kept in memory, so nothing there survives the machine; "
                "set base_dir (OMNIQ_BASE_DIR) or the path to a directory on a disk",
            )
        settings = f"SQLite {sqlite3.sqlite_version}, synchronous={self._synchronous}"
        return Promise(self.describe(), "process" if undone else grade, settings, undone)

    async def close(self) -> None:
        async with self._opening:
            if not self._open:
                return
            self._open = False
            if self._watch is not None:
                self._watch.close()
                self._watch = None
            await self._reads.close()
            await self._write.close()

    def _prepare(self) -> None:
        prepare(self.path)

    def _make_tables(self, connection: sqlite3.Connection, where: str) -> None:
        migrate(connection, where)

    def twin(self) -> Self:
        return type(self)(
            self._named,
            namespace=self._namespace,
            clock=self.clock,
            durability=self._durability,
            synchronous=self._synchronous,
        )

    def describe(self) -> str:
        return f"SQLite {self.path}"

    def exists(self) -> bool:
        return made(self.path)

    async def apply(self, units: Sequence[Unit]) -> Receipt:
        return await self._transaction(self._apply, units)

    async def claim(self, claim: Claim) -> Batch:
        return await self._transaction(self._claim, claim)

    async def exchange(self, units: Sequence[Unit], claim: Claim) -> tuple[Receipt, Batch]:
        return await self._transaction(self._exchange, units, claim)

    async def extend(self, owner: str, lease: Ms, held: Sequence[HeldTask]) -> Held:
        return await self._transaction(self._extend, owner, lease, held)

    async def sweep(self, limit: int = 1000) -> int:
        return await self._transaction(self._sweep, limit)

    async def get_tasks(self, ids: Sequence[str]) -> list[TaskRow]:
        return await self._read(reads.get_tasks, ids, self.clock.now())

    async def find_tasks(
        self, filter: TaskFilter, *, limit: int = 100, cursor: str | None = None
    ) -> Page:
        return await self._read(reads.find_tasks, filter, limit, cursor, self.clock.now())

    async def count_tasks(self) -> list[QueueCount]:
        return await self._read(reads.count_tasks, self.clock.now())

    async def get_results(self, ids: Sequence[str]) -> list[ResultRow]:
        return await self._read(reads.get_results, ids, self.clock.now())

    async def get_docs(
        self,
        kind: str,
        *,
        prefix: str = "",
        after: str = "",
        due_before: Ms | None = None,
        limit: int = 1000,
    ) -> list[Doc]:
        now = self.clock.now()
        return await self._read(reads.get_docs, kind, prefix, after, due_before, limit, now)

    async def read_events(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        return await self._read(reads.read_events, filter, after, limit, self.clock.now())

    def join(self, connection: object, make_call: MakeCall) -> Put:
        return join(connection, make_call, self.path, self.clock)

    def listen(self, topics: Iterable[str]) -> Ear:
        self._check()
        if self._watch is None:
            self._watch = Watch(self.path, self._post, self._others_wrote)
        ear = WatchingEar(self._post, self._watch)
        for topic in topics:
            ear.add(topic)
        return ear

    # ---- in the writing thread; `topics` are signalled once it is committed

    def _apply(self, cursor: sqlite3.Cursor, topics: set[str], units: Sequence[Unit]) -> Receipt:
        self._writer.add_bytes(sum(map(_size, units)))
        return apply_units(cursor, units, self.clock.now(), topics)

    def _claim(self, cursor: sqlite3.Cursor, topics: set[str], claim: Claim) -> Batch:
        return claim_tasks(cursor, claim, self.clock.now(), topics)

    def _exchange(
        self, cursor: sqlite3.Cursor, topics: set[str], units: Sequence[Unit], claim: Claim
    ) -> tuple[Receipt, Batch]:
        return self._apply(cursor, topics, units), self._claim(cursor, topics, claim)

    def _extend(
        self,
        cursor: sqlite3.Cursor,
        topics: set[str],
        owner: str,
        lease: Ms,
        held: Sequence[HeldTask],
    ) -> Held:
        return extend_lease(cursor, owner, lease, held, self.clock.now(), topics)

    def _sweep(self, cursor: sqlite3.Cursor, topics: set[str], limit: int) -> int:
        return sweep_once(cursor, limit, self.clock.now(), topics)

    async def _transaction(self, work: Callable[..., T], *args: Any) -> T:
        self._check()
        return await self._write.run(self._commit, work, args)

    def _commit(
        self, connection: sqlite3.Connection, work: Callable[..., T], args: tuple[Any, ...]
    ) -> T:
        topics: set[str] = set()
        answer = self._writer.transaction(connection, work, topics, *args)
        if topics:  # here and not in the caller, who may have been cancelled
            self._post.signal(topics)
        return answer

    async def _read(self, question: Callable[..., T], *args: Any) -> T:
        self._check()
        return await self._reads.run(_ask, question, args)

    async def _others_wrote(self) -> bool:
        return await self._write.run(self._writer.others_wrote)

    def _check(self) -> None:
        if not self._open:
            raise StorageClosed(f"{self.describe()} is not open: call open() first")


def _file_of(path: Path, namespace: str) -> Path:
    """A namespace's own file: `tasks.db` for the default one, else `tasks.shop.db`."""
    try:
        check_name(namespace, what="namespace")
    except InvalidName as error:
        raise ConfigError(str(error)) from None
    path = path.expanduser().absolute()
    if namespace == "default":
        return path
    return path.with_name(f"{path.stem}.{namespace}{path.suffix}")


def _ask(connection: sqlite3.Connection, question: Callable[..., T], args: tuple[Any, ...]) -> T:
    return question(connection.cursor(), *args)


def _prepare_reads(connection: sqlite3.Connection) -> None:
    tune(connection, "NORMAL")
    connection.execute("PRAGMA query_only = ON")


def _size(unit: Unit) -> int:
    if type(unit) is Insert:
        return len(unit.row.body)
    if type(unit) is Move and unit.result is not None:
        return len(unit.result.value)
    return 0
