"""Where tasks, results and events are kept: the only file that knows whether that is one place.

One place: everything about a task's end is one atomic trip. Three places: results first, then
task units, then events. A result counts only if its row is final with that epoch, so what a
late worker wrote early is never believed. A result place that is down makes the task place
keep the value for it; a failing event place never stops a task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

import msgspec

from omniq.errors import StorageError
from omniq.models.event import TaskEvent
from omniq.models.filters import Batch, Claim, EventFilter, EventPage
from omniq.models.row import ResultRow, TaskRow
from omniq.models.units import Move, PutEvents, PutResult, Receipt, Unit
from omniq.storage.base import (
    AsyncStorage,
    BaseEventStorage,
    BaseResultStorage,
    BaseTaskQueue,
)

log = logging.getLogger("omniq.storage")


class Stores:
    """The three roles, by default one place.

    `tasks` alone gives all roles to one storage; `results` and `events` may name others.
    """

    def __init__(
        self,
        tasks: BaseTaskQueue,
        results: BaseResultStorage | None = None,
        events: BaseEventStorage | None = None,
    ) -> None:
        self.tasks = tasks
        self.results = results if results is not None else _as_all(tasks, "results")
        self.events = events if events is not None else _as_all(tasks, "events")
        self._far_results = not _same(self.results, tasks)
        self._far_events = not _same(self.events, tasks)
        self.behind: Callable[[], None] = lambda: None
        """Called when an end left children to be released by a sweep."""
        self.one_place = not (self._far_results or self._far_events)

    @property
    def places(self) -> list[BaseTaskQueue | BaseResultStorage | BaseEventStorage]:
        """Each place once."""
        places: list[BaseTaskQueue | BaseResultStorage | BaseEventStorage] = [self.tasks]
        for place in (self.results, self.events):
            if not any(_same(place, known) for known in places):
                places.append(place)
        return places

    async def open(self) -> None:
        opened: list[BaseTaskQueue | BaseResultStorage | BaseEventStorage] = []
        try:
            for place in self.places:
                opened.append(place)
                await place.open()
        except BaseException:
            for place in reversed(opened):
                with suppress(StorageError):
                    await place.close()
            raise

    async def close(self) -> None:
        for place in reversed(self.places):
            await place.close()

    def twin(self) -> Stores:
        """The same places over connections of their own, for another thread and loop."""
        twins = {id(place): place.twin() for place in self.places}
        roles = (self.tasks, self.results, self.events)
        tasks, results, events = (twins[id(role)] for role in roles)
        assert isinstance(tasks, BaseTaskQueue)
        assert isinstance(results, BaseResultStorage)
        assert isinstance(events, BaseEventStorage)
        return Stores(tasks, results, events)

    async def apply(self, units: Sequence[Unit]) -> Receipt:
        """Apply units, each part at its own place."""
        near, events = (units, []) if self.one_place else await self._split(units)
        receipt = await self.tasks.apply(near)
        if receipt.unreleased:
            self.behind()
        await self._put_events(events)
        return receipt

    async def exchange(self, units: Sequence[Unit], claim: Claim) -> tuple[Receipt, Batch]:
        """Settle and claim in one trip."""
        near, events = (units, []) if self.one_place else await self._split(units)
        receipt, batch = await self.tasks.exchange(near, claim)
        if receipt.unreleased:
            self.behind()
        await self._put_events(events)
        return receipt, batch

    async def read_results(self, rows: Iterable[TaskRow]) -> dict[str, ResultRow]:
        """The results that count, by id: those of the epoch with which their row ended."""
        epochs = {row.id: row.epoch for row in rows}
        if not epochs:
            return {}
        found: dict[str, ResultRow] = {}
        sources: list[BaseResultStorage] = [self.results]
        if self._far_results and isinstance(self.tasks, BaseResultStorage):
            sources.append(self.tasks)  # what was kept here while the result place was down
        for source in sources:
            left = [id for id in epochs if id not in found]
            if left:
                found |= that_count(epochs, await source.get_results(left))
        return found

    async def read_events(
        self, filter: EventFilter, *, after: str | None = None, limit: int = 100
    ) -> EventPage:
        return await self.events.read_events(filter, after=after, limit=limit)

    async def sweep(self, limit: int = 1000) -> int:
        """Sweep every place."""
        return sum([await place.sweep(limit) for place in self.places])

    async def _split(self, units: Sequence[Unit]) -> tuple[Sequence[Unit], list[TaskEvent]]:
        """What goes to the task place, after results went to theirs; and the events."""
        values: list[Unit] = []
        for unit in units:
            if self._far_results and isinstance(unit, Move) and unit.result and unit.fence:
                value, until = unit.result
                values.append(PutResult(unit.id, unit.fence.epoch, value, until))
        kept_far = bool(values) and await self._put_results(values)
        near: list[Unit] = []
        events: list[TaskEvent] = []
        for unit in units:
            if isinstance(unit, Move) and kept_far and unit.result:
                unit = msgspec.structs.replace(unit, result=None)
            if self._far_events and not isinstance(unit, PutResult) and unit.events:
                events.extend(unit.events)
                unit = msgspec.structs.replace(unit, events=())  # its place in the receipt stays
            near.append(unit)
        return near, events

    async def _put_results(self, values: list[Unit]) -> bool:
        try:
            await self.results.apply(values)
        except StorageError as error:
            log.warning("results stay with their tasks, their own place failed: %s", error)
            return False
        return True

    async def _put_events(self, events: list[TaskEvent]) -> None:
        if not events:
            return
        try:
            await self.events.apply([PutEvents(tuple(events))])
        except StorageError as error:
            log.warning("%d events are lost, their place failed: %s", len(events), error)


def that_count(epochs: Mapping[str, int], results: Iterable[ResultRow]) -> dict[str, ResultRow]:
    """The results of the epochs with which their rows ended."""
    return {result.id: result for result in results if epochs.get(result.id) == result.epoch}


def _same(one: object, other: object) -> bool:
    return one is other


def _as_all(tasks: BaseTaskQueue, role: str) -> AsyncStorage:
    if not isinstance(tasks, AsyncStorage):
        raise TypeError(f"{type(tasks).__name__} keeps tasks only: say where {role} are kept")
    return tasks
