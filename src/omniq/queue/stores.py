"""Where tasks, results and events are kept: the only file that knows whether that is one place.

One place: everything about a task's end is one atomic trip. Three places: results first, then
task units, then events. A result counts only if its row has succeeded with that epoch, so what a
late worker wrote early is never believed. A result place that is down makes the task place
keep the value for it; a failing event place never stops a task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from omniq.errors import StorageError, StorageUnavailable
from omniq.models.event import TaskEvent
from omniq.models.filters import Batch, Claim, EventFilter, EventPage
from omniq.models.row import ResultRow, TaskRow
from omniq.models.status import Status
from omniq.models.units import Applied, Insert, Move, Receipt, Unit
from omniq.queue.ears import EVENTS, BothEars
from omniq.queue.late import FarResults
from omniq.queue.outbox import Outbox
from omniq.queue.spool import Spool, Spooled
from omniq.queue.strip import stripped
from omniq.storage.base import (
    AsyncStorage,
    BaseEventStorage,
    BaseResultStorage,
    BaseTaskQueue,
    Ear,
)

if TYPE_CHECKING:
    from omniq.models.config import OmniQConfig

T = TypeVar("T")
_DOUBTS = 10_000
"""Ends without an answer that are remembered until they are sent again."""


class Stores:
    """The three roles, by default one place.

    `tasks` alone gives all roles to one storage; `results` and `events` may name others. `spool`
    says where events are kept while their place is down; without it tasks wait for it.
    """

    def __init__(
        self,
        tasks: BaseTaskQueue,
        results: BaseResultStorage | None = None,
        events: BaseEventStorage | None = None,
        *,
        spool: Spooled | Spool | None = None,
    ) -> None:
        self.tasks = tasks
        self.results = results if results is not None else _as_all(tasks, "results")
        self.events = events if events is not None else _as_all(tasks, "events")
        self._far_results = not _same(self.results, tasks)
        self._far_events = not _same(self.events, tasks)
        self.behind: Callable[[], None] = lambda: None
        """Called when an end left children to be released by a sweep."""
        self.one_place = not (self._far_results or self._far_events)
        if isinstance(spool, Spooled):
            # What waits here for its place is as safe as the tasks it speaks of.
            lasts = tasks.capabilities.durability in ("power", "replicated")
            # Events of one place are not to be sent to another that shares the folder.
            name = hashlib.sha256(self.events.describe().encode()).hexdigest()[:12]
            spool = Spool(spool.folder / name, limit=spool.limit, sync=lasts)
        self._spool = spool if self._far_events else None
        self._begin()

    def _begin(self) -> None:
        """What belongs to one event loop."""
        self._late = FarResults(self.tasks, self.results) if self._far_results else None
        self._outbox = Outbox(self.events, self._spool) if self._far_events else None
        self._doubts: set[str] = set()

    @property
    def places(self) -> list[BaseTaskQueue | BaseResultStorage | BaseEventStorage]:
        """Each place once."""
        places: list[BaseTaskQueue | BaseResultStorage | BaseEventStorage] = [self.tasks]
        for place in (self.results, self.events):
            if not any(_same(place, known) for known in places):
                places.append(place)
        return places

    async def open(self) -> None:
        """Connect; a result or event place that does not answer is connected to later."""
        self._begin()
        try:
            await self.tasks.open()
            if self._late is not None:
                await self._late.open()
            if self._outbox is not None:
                await self._outbox.open()
        except BaseException:
            with suppress(StorageError):
                await self.close()
            raise

    async def close(self) -> None:
        try:
            if self._outbox is not None:
                await self._outbox.close()
            if self._late is not None:
                await self._late.close()
        finally:
            await self.tasks.close()

    def twin(self) -> Stores:
        """The same places over connections of their own, for another loop."""
        twins = {id(place): place.twin() for place in self.places}
        roles = (self.tasks, self.results, self.events)
        tasks, results, events = (twins[id(role)] for role in roles)
        assert isinstance(tasks, BaseTaskQueue)
        assert isinstance(results, BaseResultStorage)
        assert isinstance(events, BaseEventStorage)
        return Stores(tasks, results, events, spool=self._spool)

    # ---- writing

    async def apply(self, units: Sequence[Unit]) -> Receipt:
        """Apply units, each part at its own place."""
        if self.one_place:
            receipt = await self.tasks.apply(units)
            if receipt.unreleased:
                self.behind()
            return receipt
        near, told = await self._split(units)
        receipt = await self._send(near, told, self.tasks.apply(near))
        await self._follow(near, told, receipt)
        return receipt

    async def exchange(self, units: Sequence[Unit], claim: Claim) -> tuple[Receipt, Batch]:
        """Settle and claim in one trip."""
        if self.one_place:
            receipt, batch = await self.tasks.exchange(units, claim)
            if receipt.unreleased:
                self.behind()
            return receipt, batch
        near, told = await self._split(units)
        receipt, batch = await self._send(near, told, self.tasks.exchange(near, claim))
        await self._follow(near, told, receipt)
        return receipt, batch

    async def _split(
        self, units: Sequence[Unit]
    ) -> tuple[Sequence[Unit], dict[int, tuple[TaskEvent, ...]]]:
        """The units of the task place, after results went to theirs; and the events of each."""
        told: dict[int, tuple[TaskEvent, ...]] = {}
        if self._outbox is not None:
            bare: list[Unit] = []
            for at, unit in enumerate(units):
                unit, events = stripped(unit)
                if events:
                    told[at] = events
                bare.append(unit)
            units = bare
            if told:
                await self._outbox.room()
        if self._late is not None:
            units = await self._late.put(units)
        return units, told

    async def _send(
        self, units: Sequence[Unit], told: Mapping[int, object], trip: Awaitable[T]
    ) -> T:
        try:
            return await trip
        except BaseException:
            doubts = {u.id for at in told if isinstance(u := units[at], Move)}
            if len(self._doubts) < _DOUBTS:
                self._doubts |= doubts
            raise

    async def _follow(
        self, units: Sequence[Unit], told: Mapping[int, tuple[TaskEvent, ...]], receipt: Receipt
    ) -> None:
        """What comes after the commit."""
        if receipt.unreleased:
            self.behind()
        if self._late is not None:
            self._late.noted(units)
        if self._outbox is None or not told:
            return
        done = {at for at in told if _happened(units[at], receipt.outcome[at])}
        if self._doubts:
            done |= await self._done_before([(at, units[at]) for at in told if at not in done])
        if events := [event for at, each in told.items() if at in done for event in each]:
            await self._outbox.tell(events)

    async def _done_before(self, refused: list[tuple[int, Unit]]) -> set[int]:
        """Of what is refused: moves that an earlier trip, whose answer was lost, did."""
        moves = {u.id: (at, u) for at, u in refused if isinstance(u, Move) and u.id in self._doubts}
        self._doubts.difference_update(moves)
        rows = await self.tasks.get_tasks(list(moves)) if moves else []
        return {moves[row.id][0] for row in rows if _shows(row, moves[row.id][1])}

    # ---- reading

    async def read_results(self, rows: Iterable[TaskRow]) -> dict[str, ResultRow]:
        """The results that count, by id: those of the epoch with which their row succeeded.

        Raises StorageUnavailable if one cannot be read now.
        """
        found, why = await self.read_known(rows)
        if why:
            raise StorageUnavailable(why)
        return found

    async def read_known(self, rows: Iterable[TaskRow]) -> tuple[dict[str, ResultRow], str]:
        """The results that can be read now, and why the others cannot ("": there are none)."""
        if self._late is not None:
            return await self._late.read(rows)
        epochs = {row.id: row.epoch for row in rows if row.status is Status.SUCCEEDED}
        if not epochs:
            return {}, ""
        return that_count(epochs, await self.results.get_results(list(epochs))), ""

    async def read_events(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        """A page of events. Those of one task are in their own order, whichever came first."""
        if self._outbox is None:
            return await self.events.read_events(filter, after=after, limit=limit)
        page = await self._outbox.read(filter, after=after, limit=limit)
        if filter.task is not None:
            page.events.sort(key=lambda e: (e.epoch, e.n), reverse=filter.newest_first)
        return page

    def listen(self, topics: Iterable[str]) -> Ear:
        """Listen for topics, wherever they are signalled; use as `async with`."""
        topics = set(topics)
        if self._far_events and EVENTS in topics:
            return BothEars(self.tasks.listen(topics - {EVENTS}), self.events.listen({EVENTS}))
        return self.tasks.listen(topics)

    async def sweep(self, limit: int = 1000) -> int:
        """Sweep every place; of those that are down only tasks are missed."""
        done = await self.tasks.sweep(limit)
        if self._late is not None:
            done = max(done, await self._late.sweep(limit))
        if self._outbox is not None:
            self._outbox.adopt()
            if not _same(self.events, self.results):
                done = max(done, await self._outbox.sweep(limit))
        return done


def spool_of(config: OmniQConfig) -> Spooled:
    """Where a configured queue keeps events while their place is down."""
    return Spooled(config.base_dir / "spool", config.events.spool_limit)


def that_count(epochs: Mapping[str, int], results: Iterable[ResultRow]) -> dict[str, ResultRow]:
    """The results of the epochs with which their rows ended."""
    return {result.id: result for result in results if epochs.get(result.id) == result.epoch}


def _happened(unit: Unit, outcome: Applied) -> bool:
    """Whether a unit's events are to be told: an insert may be known by a trip without answer."""
    return outcome is Applied.APPLIED or (outcome is Applied.ALREADY and isinstance(unit, Insert))


def _shows(row: TaskRow, move: Move) -> bool:
    """Whether a row stands as a move left it."""
    if move.fence is None or row.epoch != move.fence.epoch or row.status is Status.RUNNING:
        return False
    if move.to is not None and move.to.final:
        return row.status is move.to and row.finished_at == move.patch.get("finished_at")
    return not row.status.final and row.run_at == move.patch.get("run_at", row.run_at)


def _same(one: object, other: object) -> bool:
    return one is other


def _as_all(tasks: BaseTaskQueue, role: str) -> AsyncStorage:
    if not isinstance(tasks, AsyncStorage):
        raise TypeError(f"{type(tasks).__name__} keeps tasks only: say where {role} are kept")
    return tasks
