"""Three places for one queue, each of which can be switched off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from omniq.clock import Clock
from omniq.errors import OmniQError, StorageUnavailable
from omniq.models.filters import EventFilter, EventPage
from omniq.models.row import ResultRow
from omniq.models.units import Receipt, Unit
from omniq.queue.breaker import Breaker
from omniq.queue.spool import Spooled
from omniq.queue.stores import Stores
from omniq.storage.base import AsyncStorage, BaseTaskQueue
from omniq.storage.memory import AsyncMemoryStorage
from omniq.storage.sqlite import AsyncSQLiteStorage


class Switch:
    """Whether a place answers; `asked` counts the calls it got."""

    def __init__(self) -> None:
        self.off: OmniQError | None = None
        self.hangs = False
        self.asked = 0

    async def pass_through(self) -> None:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.off is not None:
            raise self.off

    def down(self) -> None:
        self.off = StorageUnavailable("the cable is out")

    def up(self) -> None:
        self.off, self.hangs = None, False


def unlooked(breaker: Breaker) -> asyncio.Event:
    """Let nobody look whether a place is back before the event is set."""
    look, may_look = breaker._probe, asyncio.Event()

    async def probe() -> object:
        await may_look.wait()
        return await look()

    breaker._probe = probe
    return may_look


def switched(kind: type[AsyncStorage], switch: Switch) -> type[Any]:
    """A place of that kind that answers as long as it is switched on."""

    class Switched(kind):  # type: ignore[misc, valid-type]
        async def open(self) -> None:
            await switch.pass_through()
            await super().open()

        async def apply(self, units: Sequence[Unit]) -> Receipt:
            await switch.pass_through()
            return cast(Receipt, await super().apply(units))

        async def get_results(self, ids: Sequence[str]) -> list[ResultRow]:
            await switch.pass_through()
            return cast("list[ResultRow]", await super().get_results(ids))

        async def read_events(
            self, filter: EventFilter, *, after: str | None = None, limit: int = 100
        ) -> EventPage:
            await switch.pass_through()
            return cast(EventPage, await super().read_events(filter, after=after, limit=limit))

        async def sweep(self, limit: int = 1000) -> int:
            await switch.pass_through()
            return cast(int, await super().sweep(limit))

    return Switched


class Apart(NamedTuple):
    """The places and their switches."""

    stores: Stores
    tasks: AsyncStorage
    results: AsyncStorage
    events: AsyncStorage
    no_results: Switch
    no_events: Switch


def keeping_only_tasks(inner: AsyncStorage) -> BaseTaskQueue:
    """The place in the one role of a task queue."""

    def passed_on(name: str) -> Callable[..., Any]:
        return lambda self, *args, **options: getattr(inner, name)(*args, **options)

    names = {*BaseTaskQueue.__abstractmethods__, "exchange"}
    body = {name: passed_on(name) for name in names} | {"capabilities": inner.capabilities}
    return cast(BaseTaskQueue, type("OnlyTasks", (BaseTaskQueue,), body)(clock=inner.clock))


def apart(
    kind: str,
    path: Path,
    clock: Clock,
    *,
    spool: Spooled | None = None,
    only_tasks: bool = False,
) -> Apart:
    """Tasks, results and events at three places of that kind, not yet open."""
    switches = Switch(), Switch(), Switch()
    places: list[AsyncStorage] = []
    for name, switch in zip(("tasks", "results", "events"), switches, strict=True):
        if kind == "memory":
            places.append(switched(AsyncMemoryStorage, switch)(clock=clock))
        else:
            places.append(switched(AsyncSQLiteStorage, switch)(path / f"{name}.db", clock=clock))
    tasks, results, events = places
    near: BaseTaskQueue = keeping_only_tasks(tasks) if only_tasks else tasks
    stores = Stores(near, results, events, spool=spool)
    return Apart(stores, tasks, results, events, switches[1], switches[2])
