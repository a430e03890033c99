"""Tasks in the memory of this process: quick, watched by its own waiters, gone at its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Self, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import MemoryStore

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
from omniq.models.units import Applied, Receipt, Unit
from omniq.storage.base import AsyncStorage, Capabilities, Ear
from omniq.storage.log.engine import LogEngine
from omniq.storage.tables import Tables, handout
from omniq.storage.tables.decide import Draft

T = TypeVar("T")

COMMIT_UNITS = 500
"""Units one commit takes; between two the loop gets its turn."""

_LOG = logging.getLogger("omniq.storage")


class AsyncMemoryStorage(AsyncStorage):
    """Keeps everything in this process. A `twin` shares it, another instance has its own.

    What goes in is written down as bytes, and what comes out cannot be changed, just as with
    a place on disk.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        push=True, multiprocess=False, local=True, durability="none"
    )

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(clock=clock)
        self._engine = LogEngine(MemoryLog(), clock=clock)
        self._is_open = self._told = False

    async def open(self) -> None:
        self._is_open = True
        if not self._told:
            self._told = True
            _LOG.info("%s: nothing survives the end of this process", self.describe())

    async def close(self) -> None:
        self._is_open = False

    def twin(self) -> Self:
        twin = type(self)(clock=self.clock)
        twin._engine, twin._told = self._engine, self._told
        return twin

    def describe(self) -> str:
        return "memory of this process"

    async def apply(self, units: Sequence[Unit]) -> Receipt:
        if len(units) <= COMMIT_UNITS:
            return self._commit(lambda draft: draft.apply(units))
        receipts: list[Receipt] = []
        for start in range(0, len(units), COMMIT_UNITS):
            receipts.append(await self.apply(units[start : start + COMMIT_UNITS]))
            await asyncio.sleep(0)
        return _joined(receipts)

    async def claim(self, claim: Claim) -> Batch:
        return self._commit(lambda draft: handout.claim(draft, claim), who=claim.owner)

    async def exchange(self, units: Sequence[Unit], claim: Claim) -> tuple[Receipt, Batch]:
        if len(units) > COMMIT_UNITS:
            return await super().exchange(units, claim)
        return self._commit(
            lambda draft: (draft.apply(units), handout.claim(draft, claim)), who=claim.owner
        )

    async def extend(self, owner: str, lease: Ms, held: Sequence[HeldTask]) -> Held:
        return self._commit(lambda draft: handout.extend(draft, owner, lease, held), who=owner)

    async def sweep(self, limit: int = 1000) -> int:
        return self._commit(lambda draft: handout.sweep(draft, limit))

    async def get_tasks(self, ids: Sequence[str]) -> list[TaskRow]:
        return self._look(lambda tables, now: tables.get_tasks(ids, now))

    async def find_tasks(
        self, filter: TaskFilter, *, limit: int = 100, cursor: str | None = None
    ) -> Page:
        return self._look(
            lambda tables, now: tables.find_tasks(filter, now, limit=limit, cursor=cursor)
        )

    async def count_tasks(self) -> list[QueueCount]:
        return self._look(lambda tables, now: tables.count_tasks(now))

    async def get_results(self, ids: Sequence[str]) -> list[ResultRow]:
        return self._look(lambda tables, now: tables.get_results(ids, now))

    async def get_docs(
        self,
        kind: str,
        *,
        prefix: str = "",
        after: str = "",
        due_before: Ms | None = None,
        limit: int = 1000,
    ) -> list[Doc]:
        return self._look(
            lambda tables, now: tables.get_docs(
                kind, now, prefix=prefix, after=after, due_before=due_before, limit=limit
            )
        )

    async def read_events(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        return self._look(
            lambda tables, now: tables.read_events(filter, now, after=after, limit=limit)
        )

    def listen(self, topics: Iterable[str]) -> Ear:
        self._check_open()
        return self._engine.hub.ear(topics)

    def _commit(self, decide: Callable[[Draft], T], *, who: str = "") -> T:
        self._check_open()
        return self._engine.commit(decide, who=who)

    def _look(self, ask: Callable[[Tables, Ms], T]) -> T:
        self._check_open()
        return self._engine.look(ask)

    def _check_open(self) -> None:
        if not self._is_open:
            raise StorageClosed(f"{self.describe()}: the storage is not open")


class MemoryLog:
    """Segments in obstore's memory store, kept until every reader has played them.

    Nobody can begin to read later: the readers of a process share one engine.
    """

    KEEP = 64
    """Segments are dropped by so many at once."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self._first = 1
        self._readers: dict[object, int] = {}

    def put(self, number: int, data: bytes) -> bool:
        try:
            obstore.put(self._store, _path(number), data, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def read(self, number: int) -> bytes | None:
        try:
            return bytes(obstore.get(self._store, _path(number)).bytes())
        except FileNotFoundError:
            return None

    def first(self) -> int:
        return self._first

    def played(self, reader: object, number: int) -> None:
        self._readers[reader] = number
        self._prune()

    def left(self, reader: object) -> None:
        self._readers.pop(reader, None)
        self._prune()

    def _prune(self) -> None:
        # The newest one stays, so that its number cannot be created again.
        end = min(self._readers.values(), default=0)
        if end - self._first >= self.KEEP:
            obstore.delete(self._store, [_path(n) for n in range(self._first, end)])
            self._first = end


def _path(number: int) -> str:
    return f"log/{number:020d}"


def _joined(receipts: Sequence[Receipt]) -> Receipt:
    """One receipt for the parts of a batch."""
    outcome: list[Applied] = []
    taken: dict[int, str] = {}
    missing: dict[int, tuple[str, ...]] = {}
    riders_refused: dict[int, int] = {}
    for receipt in receipts:
        at = len(outcome)
        outcome += receipt.outcome
        taken |= {at + n: holder for n, holder in receipt.taken.items()}
        missing |= {at + n: ids for n, ids in receipt.missing.items()}
        riders_refused |= {at + n: count for n, count in receipt.riders_refused.items()}
    return Receipt(
        outcome=outcome,
        taken=taken,
        missing=missing,
        riders_refused=riders_refused,
        woken=frozenset().union(*(receipt.woken for receipt in receipts)),
        stranded=tuple(id for receipt in receipts for id in receipt.stranded),
        unreleased=any(receipt.unreleased for receipt in receipts),
    )
