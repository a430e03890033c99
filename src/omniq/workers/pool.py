"""The worker pool: lanes, the pump that feeds them, and the heartbeat that keeps the lease."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from omniq.errors import ConfigError, StorageError
from omniq.ids import uuid7
from omniq.models.event import TaskEvent
from omniq.models.filters import Held, HeldTask
from omniq.models.status import EventType
from omniq.models.units import Move, PutDoc, PutEvents, Unit
from omniq.models.worker import WorkerCard
from omniq.queue.engine import Engine
from omniq.queue.outage import Outage
from omniq.queue.stores import Stores
from omniq.workers import identity, queues
from omniq.workers.base import Lane
from omniq.workers.heartbeat import Heartbeat
from omniq.workers.pump import Pump
from omniq.workers.queues import QueueNames
from omniq.workers.quota import Quota
from omniq.workers.run import Reason

log = logging.getLogger("omniq.worker")

LEAVING = 10.0
"""Seconds that a stop gives the store to hear how tasks ended, and who leaves."""
LEAVING_IN_VAIN = 1.0
"""The same while the store is away and there is nothing it must hear."""
CARD = "worker"
CARD_EVERY = 2.0
"""Seconds between two cards; what a dashboard shows of a worker is at most so old."""
DOUBT = 4
"""After this part of a lease, what is leased to us and was never seen is given back. A beat comes
every third of it, and besides whenever something is signalled."""
UNHEARD = "listening fails"
"""Then the pump looks by itself."""
UNREAD = "the queues' names cannot be read"
PAGE = 1000
"""How many docs a place gives at once."""
_encode = msgspec.msgpack.encode
_CARD = msgspec.msgpack.Decoder(WorkerCard)


class Pool:
    """Runs tasks in its lanes until stopped.

    `lanes` maps the lane a task asks for to the lane that runs it. A stop has stages: no
    more claims; running tasks may end within the grace; the rest is cancelled and given
    back without costing an attempt.
    """

    def __init__(
        self,
        engine: Engine,
        stores: Stores,
        *,
        lanes: Mapping[str, Lane],
        served: Sequence[str] | Mapping[str, int] | None = None,
        without: Collection[str] = (),
        embedded: bool = False,
        settled: Callable[[list[Move]], None] = lambda moves: None,
        quota: Quota | None = None,
    ) -> None:
        if not lanes:
            raise ConfigError("a worker needs at least one lane")
        self.id = uuid7()
        self._engine, self._stores, self._lanes = engine, stores, dict(lanes)
        self._embedded = embedded
        self._names = QueueNames(served, without)
        self._quota = quota
        self._lease = engine.config.worker.lease
        self._settled = settled
        self._outage = Outage(log)
        self._tasks: list[asyncio.Task[None]] = []
        self._doubtful: dict[tuple[str, str], float] = {}
        """Id and claim of what is leased to us and does not run here -> when that was first seen."""
        self._giving: asyncio.Task[None] | None = None
        self._started_at = 0
        self._pump: Pump | None = None
        self._beat: Heartbeat | None = None

    @property
    def running(self) -> int:
        """How many tasks run now."""
        return self._pump.begun if self._pump else 0

    async def start(self) -> None:
        """Begin to claim and run. Returns once the worker is known to the store."""
        loop = asyncio.get_running_loop()
        self._started_at = self._engine.clock.now()
        self._beat = Heartbeat(
            self._stores,
            self.id,
            lease=self._lease,
            held=self._held,
            heard=lambda held, answer: _tell(loop, self._heard, held, answer),
            overdue=lambda: _tell(loop, self._overdue),
            outage=self._outage,
        )
        self._pump = pump = Pump(
            self._engine,
            self._stores,
            owner=self.id,
            lanes=self._lanes,
            queues=self._names,
            lease=self._lease,
            renewed=self._beat.renewed,
            settled=self._settled,
            outage=self._outage,
            quota=self._quota,
        )
        pump.bind(loop)
        for lane in set(self._lanes.values()):
            lane.start(pump.ended)
        await self._bury_neighbours()
        await self._stores.apply([self._card(), self._event(EventType.WORKER_STARTED)])
        listening = asyncio.Event()
        self._tasks = [
            asyncio.create_task(self._listen(listening), name="omniq-worker-ear"),
            asyncio.create_task(self._cards(), name="omniq-worker-cards"),
        ]
        try:
            await listening.wait()
        except BaseException:
            for task in self._tasks:
                task.cancel()
            raise
        self._tasks.append(asyncio.create_task(pump.run(), name="omniq-pump"))
        self._beat.start()
        log.info("worker %s started: %s", self.id, self.describe())

    async def stop(self, grace: float | None = None) -> None:
        """Stop in stages; `grace` seconds for what runs (None: as configured)."""
        pump, beat = self._pump, self._beat
        if pump is None or beat is None:
            return
        grace = self._engine.config.worker.grace if grace is None else grace
        pump.stopping = True
        pump.wake()
        if pump.running and grace > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await pump.drained()
        for id in list(pump.running):
            pump.interrupt(id, "stop")
        if pump.running:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await pump.drained()
        pump.give_back_rest()
        for task in self._tasks:
            if task.get_name() != "omniq-pump":
                task.cancel()
        pump.wake()
        with suppress(TimeoutError, StorageError, asyncio.CancelledError):
            in_vain = (self._outage.on or pump.mute) and not pump.unheard
            async with asyncio.timeout(LEAVING_IN_VAIN if in_vain else LEAVING):
                await asyncio.wait(self._tasks)
                await pump.flush()
                await _end(beat, grace)  # or it could renew what is given up here
                await self._stores.apply(self._farewell())
                # What a claim took whose answer never came is still ours: back in line too.
                await pump.give_back((await self._stores.tasks.extend(self.id, 0, ())).unknown)
                await pump.flush()
        if unheard := pump.unheard:
            tasks = "1 task" if unheard == 1 else f"{unheard} tasks"
            log.warning(
                "the store may not have heard what became of %s: run again after the lease", tasks
            )
        for task in self._tasks:
            task.cancel()
        self._tasks, self._pump, self._beat = [], None, None
        await _end(beat, grace)
        for lane in set(self._lanes.values()):
            await lane.close()
        log.info("worker %s stopped", self.id)

    async def drained(self) -> None:
        """Wait until nothing runs."""
        if self._pump:
            await self._pump.drained()

    async def emptied(self) -> None:
        """Wait until nothing is left that could run now."""
        names = None
        while self._pump and names != self._names.names:
            names = self._names.names
            await self._pump.emptied()
            # The last task may have been the first to enqueue into some queue.
            await self._learn_surely()

    def describe(self) -> str:
        """Lanes and queues, in words for people."""
        lanes = ", ".join(
            f"{lane.kind} {lane.slots}" for lane in dict.fromkeys(self._lanes.values())
        )
        served = "every queue" if self._names.all else ", ".join(self._names.names)
        if self._names.without:
            served += f" but {', '.join(sorted(self._names.without))}"
        return f"{lanes} slots; {served}"

    # -- listening -----------------------------------------------------------------------

    async def _listen(self, listening: asyncio.Event) -> None:
        while True:
            try:
                await self._hear(listening)
            except StorageError as error:
                self._outage.failed(UNHEARD, error)
                listening.set()  # until then the pump looks by itself
                await asyncio.sleep(1.0)

    async def _hear(self, listening: asyncio.Event) -> None:
        assert self._pump is not None and self._beat is not None
        mine, names = f"owner:{self.id}", f"docs:{queues.KIND}"
        async with self._stores.tasks.listen({mine, names, "docs:pause"}) as ear:
            known: set[str] = set()
            heard = {names}
            while True:
                self._pump.wake()  # first: it is work that is waited for, new names are rare
                if mine in heard:
                    self._beat.now()
                if names in heard:
                    await self._learn()
                if new := set(self._names.names) - known:
                    known |= new
                    for name in new:
                        ear.add(f"queue:{name}")
                    self._pump.wake()
                self._outage.answered(UNHEARD)
                listening.set()
                heard = await ear.wait()

    async def _learn_surely(self) -> None:
        try:
            while True:
                try:
                    await self._learn()
                except StorageError as error:
                    self._outage.failed(UNREAD, error)
                    await asyncio.sleep(1.0)
                else:
                    return self._outage.answered(UNREAD)
        finally:
            self._outage.given_up(UNREAD)

    async def _learn(self) -> None:
        if self._names.all:
            docs = await self._stores.tasks.get_docs(queues.KIND)
            names = [doc.key for doc in docs]
            while len(docs) >= PAGE:
                docs = await self._stores.tasks.get_docs(queues.KIND, after=names[-1])
                names += [doc.key for doc in docs]
            self._names.learn(names)

    # -- the lease -----------------------------------------------------------------------

    def _held(self) -> list[HeldTask]:
        """In the heartbeat's thread."""
        pump = self._pump
        if pump is None:
            return []
        return [
            HeldTask(run.row.id, run.row.epoch, run.row.claim or "")
            for run in list(pump.running.values())
        ]

    def _heard(self, said: Sequence[HeldTask], held: Held) -> None:
        pump = self._pump
        if pump is None:
            return
        epochs = {task.id: task.epoch for task in said}
        told: list[tuple[Sequence[str], Reason]] = [
            (held.lost, "lost"),
            (held.cancelled, "cancel"),
        ]
        for ids, reason in told:
            for id in ids:
                run = pump.running.get(id)
                if run is not None and run.row.epoch == epochs[id]:  # not claimed anew since
                    pump.interrupt(id, reason)
        now = time.monotonic()
        unknown = [task for task in held.unknown if task.id not in pump.running]
        self._doubtful = {
            (task.id, task.claim): self._doubtful.get((task.id, task.claim), now)
            for task in unknown
        }
        before = now - self._lease / DOUBT
        again = [task for task in unknown if self._doubtful[task.id, task.claim] <= before]
        if again:
            # Leased to us for so long, yet never seen: the answer to that claim was lost.
            # They are given back at once and do not wait for the lease to run out.
            self._giving = asyncio.create_task(self._give_back(again), name="omniq-give-back")

    async def _give_back(self, held: Sequence[HeldTask]) -> None:
        pump = self._pump
        if pump is not None:
            try:
                await pump.give_back(held)
            except StorageError as error:
                log.warning("tasks are given back with the next beats: %s", error)

    def _overdue(self) -> None:
        """No answer for a whole lease: others may have our tasks, so stop what can be stopped.

        What comes of it is sent all the same once the store answers: the fence tells whether
        it still counts.
        """
        if self._pump is not None:
            log.error("lease of worker %s ran out: its running tasks are abandoned", self.id)
            for id, run in list(self._pump.running.items()):
                if run.interrupted is None:  # this is called again until the store answers
                    self._pump.interrupt(id, "stop")

    async def _bury_neighbours(self) -> None:
        """End the leases of workers of this machine whose process is gone."""
        docs = await self._stores.tasks.get_docs(CARD)
        for card in (_CARD.decode(doc.value) for doc in docs):
            if card.host == identity.host() and identity.is_dead(card.pid):
                log.info("worker %s (process %d) died: its tasks are taken over", card.id, card.pid)
                await self._stores.tasks.extend(card.id, 0, ())
                await self._stores.apply([PutDoc(kind=CARD, key=card.id, value=None)])

    # -- what it says of itself ----------------------------------------------------------

    async def _cards(self) -> None:
        assert self._pump is not None
        while True:
            await asyncio.sleep(CARD_EVERY)
            if not self._pump.behind:  # else they pile up for as long as the store is away
                for unit in (self._card(), *self._pump.meter.docs()):
                    self._pump.send(unit)

    def _card(self) -> PutDoc:
        pump, now = self._pump, self._engine.clock.now()
        running: dict[str, int] = {lane.kind: lane.busy for lane in self._lanes.values()}
        card = WorkerCard(
            id=self.id,
            host=identity.host(),
            pid=os.getpid(),
            version=_version(),
            embedded=self._embedded,
            started_at=self._started_at,
            seen_at=now,
            queues=() if self._names.all and not self._names.without else self._names.names,
            slots={lane.kind: lane.slots for lane in self._lanes.values()},
            running=running,
            tasks=tuple(pump.running)[:100] if pump else (),
            stopping=pump.stopping if pump else False,
        )
        keep = max(round(self._lease * 2000), 30_000)
        return PutDoc(kind=CARD, key=self.id, value=_encode(card), expires_at=now + keep)

    def _event(self, type: EventType) -> PutEvents:
        now = self._engine.clock.now()
        event = TaskEvent(
            task=f"worker:{self.id}",
            n=0 if type is EventType.WORKER_STARTED else 1,
            at=now,
            type=type,
            worker=self.id,
            data={"pid": os.getpid(), "host": identity.host(), "does": self.describe()},
            keep_until=now + self._engine.events.retention,
        )
        return PutEvents(self._engine.events.pick(event))

    def _farewell(self) -> list[Unit]:
        assert self._pump is not None
        return [
            *self._pump.meter.docs(),
            self._event(EventType.WORKER_STOPPED),
            PutDoc(kind=CARD, key=self.id, value=None),
        ]


async def _end(beat: Heartbeat, grace: float) -> None:
    # Without grace the loop itself may be shutting down, and its threads with it.
    await asyncio.to_thread(beat.stop) if grace else beat.stop()


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[..., None], *args: Any) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
        loop.call_soon_threadsafe(what, *args)


def _version() -> str:
    try:
        return version("omniq-tasks")
    except PackageNotFoundError:
        return "unknown"
