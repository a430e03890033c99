"""The port's methods over tables: each is a decision to be committed, or a look."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

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
from omniq.storage.base import AsyncStorage
from omniq.storage.tables import Tables, handout
from omniq.storage.tables.decide import Draft

T = TypeVar("T")

COMMIT_UNITS = 500
"""Units one commit takes."""


class Request(Struct, Generic[T], frozen=True):
    """What one caller wants committed."""

    decide: Callable[[Draft, Sequence[Unit]], T]
    """May be called several times, and changes nothing but the draft."""
    units: Sequence[Unit] = ()
    who: str = ""
    """The owner it comes from, if it is a worker's."""
    claim: str = ""
    """The claim's request id: the same one must find what was committed for it before."""
    alone: bool = False
    """It looks at the tables themselves: no other request may be in its commit."""


class TablesStorage(AsyncStorage):
    """Answers from tables; where they are, and how a decision gets there, subclasses say."""

    @abstractmethod
    async def _commit(self, request: Request[T]) -> T: ...

    @abstractmethod
    async def _look(self, ask: Callable[[Tables, Ms], T]) -> T: ...

    async def apply(self, units: Sequence[Unit]) -> Receipt:
        if len(units) <= COMMIT_UNITS:
            return await self._commit(Request(_apply, units))
        receipts: list[Receipt] = []
        for start in range(0, len(units), COMMIT_UNITS):
            part = units[start : start + COMMIT_UNITS]
            receipts.append(await self._commit(Request(_apply, part)))
            await asyncio.sleep(0)  # a large batch is not one long stop of the loop
        return _joined(receipts)

    async def claim(self, claim: Claim) -> Batch:
        return await self._commit(
            Request(
                lambda draft, _: handout.claim(draft, claim), who=claim.owner, claim=claim.request
            )
        )

    async def exchange(self, units: Sequence[Unit], claim: Claim) -> tuple[Receipt, Batch]:
        if len(units) > COMMIT_UNITS:
            return await super().exchange(units, claim)
        return await self._commit(
            Request(
                lambda draft, units: (draft.apply(units), handout.claim(draft, claim)),
                units,
                who=claim.owner,
                claim=claim.request,
            )
        )

    async def extend(self, owner: str, lease: Ms, held: Sequence[HeldTask]) -> Held:
        return await self._commit(
            Request(
                lambda draft, _: handout.extend(draft, owner, lease, held), who=owner, alone=True
            )
        )

    async def sweep(self, limit: int = 1000) -> int:
        return await self._commit(Request(lambda draft, _: handout.sweep(draft, limit), alone=True))

    async def get_tasks(self, ids: Sequence[str]) -> list[TaskRow]:
        return await self._look(lambda tables, now: tables.get_tasks(ids, now))

    async def find_tasks(
        self, filter: TaskFilter, *, limit: int = 100, cursor: str | None = None
    ) -> Page:
        return await self._look(
            lambda tables, now: tables.find_tasks(filter, now, limit=limit, cursor=cursor)
        )

    async def count_tasks(self) -> list[QueueCount]:
        return await self._look(lambda tables, now: tables.count_tasks(now))

    async def get_results(self, ids: Sequence[str]) -> list[ResultRow]:
        return await self._look(lambda tables, now: tables.get_results(ids, now))

    async def get_docs(
        self,
        kind: str,
        *,
        prefix: str = "",
        after: str = "",
        due_before: Ms | None = None,
        limit: int = 1000,
    ) -> list[Doc]:
        return await self._look(
            lambda tables, now: tables.get_docs(
                kind, now, prefix=prefix, after=after, due_before=due_before, limit=limit
            )
        )

    async def read_events(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        return await self._look(
            lambda tables, now: tables.read_events(filter, now, after=after, limit=limit)
        )


def _apply(draft: Draft, units: Sequence[Unit]) -> Receipt:
    return draft.apply(units)


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
