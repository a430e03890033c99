"""Workers that run on their own or together: one interface, lanes to choose."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import ClassVar, Protocol, Self

from omniq.errors import ConfigError
from omniq.models.config import WorkerConfig
from omniq.models.task import WorkerKind
from omniq.models.units import Move
from omniq.queue.checks import why_no_lane
from omniq.queue.engine import Engine
from omniq.queue.stores import Stores
from omniq.workers.async_ import AsyncLane
from omniq.workers.base import Lane
from omniq.workers.pool import Pool
from omniq.workers.quota import Quota
from omniq.workers.thread import ThreadLane

LANES: Mapping[WorkerKind, type[Lane]] = {"async": AsyncLane, "thread": ThreadLane}


class Source(Protocol):
    """What a worker needs of a queue object."""

    async def open(self) -> None:
        """Connect."""

    @property
    def engine(self) -> Engine:
        """The rules, after `open`."""
        ...

    @property
    def stores(self) -> Stores:
        """The places, after `open`."""
        ...

    def settled(self, moves: list[Move]) -> None:
        """Tell those who wait for results."""


class Worker:
    """Claims tasks of a queue and runs them until stopped.

    `queues` limits it to some queues, a mapping gives them weights; without it serves all but
    those in `without`. Use it as `async with`, by `start` and `stop`, or `run` it until it is cancelled.
    """

    def __init__(
        self,
        queue: Source,
        *,
        slots: Mapping[WorkerKind, int],
        serves: Mapping[str, WorkerKind],
        queues: Sequence[str] | Mapping[str, int] | None = None,
        without: Collection[str] = (),
        grace: float | None = None,
        embedded: bool = False,
    ) -> None:
        self.queue, self.grace = queue, grace
        self._slots, self._serves = dict(slots), dict(serves)
        self._queues, self._without, self._embedded = queues, without, embedded
        self._quota: Quota | None = None
        self._pool: Pool | None = None
        for kind, count in slots.items():
            check_kind(kind)
            if count < 1:
                raise ConfigError(f"{count} slots for {kind} tasks: a lane needs at least 1")

    @property
    def id(self) -> str:
        """The id its tasks carry as their owner; empty before the start."""
        return self._pool.id if self._pool else ""

    @property
    def running(self) -> int:
        """How many tasks run now."""
        return self._pool.running if self._pool else 0

    async def start(self) -> Self:
        """Begin to claim and run; again: no effect."""
        if self._pool is None:
            await self.queue.open()
            engine = self.queue.engine
            lanes = {kind: LANES[kind](n, engine) for kind, n in self._slots.items()}
            pool = Pool(
                engine,
                self.queue.stores,
                lanes={asked: lanes[kind] for asked, kind in self._serves.items()},
                served=engine.config.worker.queues if self._queues is None else self._queues,
                without=self._without,
                embedded=self._embedded,
                settled=self.queue.settled,
                quota=self._quota,
            )
            self._pool = pool
            try:
                await pool.start()
            except BaseException:
                self._pool = None
                raise
        return self

    async def stop(self, grace: float | None = None) -> None:
        """No more claims; running tasks get `grace` seconds, then are given back."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await pool.stop(self.grace if grace is None else grace)
            except asyncio.CancelledError:
                self._pool = pool  # cut short: it can be asked again, with less grace
                raise

    async def emptied(self) -> None:
        """Wait until nothing is left that could run now; what is due later does not count."""
        if self._pool is not None:
            await self._pool.emptied()

    async def drained(self) -> None:
        """Wait until nothing runs."""
        if self._pool is not None:
            await self._pool.drained()

    async def run(self) -> None:
        """Work until this call is cancelled, then stop within the grace."""
        await self.start()
        try:
            await asyncio.Event().wait()
        finally:
            with suppress(asyncio.CancelledError):
                await self.stop()

    def describe(self) -> str:
        """Lanes and queues, in words for people."""
        return self._pool.describe() if self._pool else f"{type(self).__name__}, not started"

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


class _Alone(Worker):
    """A worker of one lane that runs tasks of every lane it can carry."""

    kind: ClassVar[WorkerKind]

    def __init__(
        self,
        queue: Source,
        *,
        max_workers: int = 10,
        queues: Sequence[str] | Mapping[str, int] | None = None,
        grace: float | None = None,
    ) -> None:
        super().__init__(
            queue,
            slots={self.kind: max_workers},
            serves=dict.fromkeys(LANES, self.kind),
            queues=queues,
            grace=grace,
        )


class AsyncWorker(_Alone):
    """Coroutines on the event loop; plain functions in threads beside it."""

    kind: ClassVar[WorkerKind] = "async"


class ThreadWorker(_Alone):
    """Everything in threads; a coroutine gets an event loop in its thread."""

    kind: ClassVar[WorkerKind] = "thread"


class WorkerPool(Worker):
    """Each task in the lane it needs: coroutines on the loop, plain functions in threads.

    `async_workers` and `thread_workers` bound how many run at once in each lane.
    """

    def __init__(
        self,
        queue: Source,
        *,
        async_workers: int = 100,
        thread_workers: int = 10,
        queues: Sequence[str] | Mapping[str, int] | None = None,
        without: Collection[str] = (),
        grace: float | None = None,
        embedded: bool = False,
    ) -> None:
        super().__init__(
            queue,
            slots={"async": async_workers, "thread": thread_workers},
            serves={"async": "async", "thread": "thread"},
            queues=queues,
            without=without,
            grace=grace,
            embedded=embedded,
        )

    @classmethod
    def configured(
        cls,
        queue: Source,
        config: WorkerConfig,
        *,
        embedded: bool = False,
        without: Collection[str] = (),
        quota: Quota | None = None,
    ) -> Self:
        """A pool as the configuration says: `max_workers` counts for the default lane."""
        slots: dict[WorkerKind, int] = {
            "async": config.async_workers,
            "thread": config.thread_workers,
        }
        if config.default is not None:
            check_kind(config.default)
        if config.max_workers is not None:
            slots[config.default or "async"] = config.max_workers
        made = cls(
            queue,
            async_workers=slots["async"],
            thread_workers=slots["thread"],
            queues=config.queues,
            without=without,
            grace=config.grace,
            embedded=embedded,
        )
        made._quota = quota
        return made


def check_kind(kind: str) -> None:
    """Refuse worker kinds that do not exist."""
    if (why := why_no_lane(kind)) is not None:
        raise ConfigError(f"worker type {kind!r} is {why}")
