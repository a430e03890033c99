"""The pump: one trip settles what has ended and claims as much as there is room for."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

import msgspec

from omniq.errors import LeaseLost, StorageError
from omniq.ids import uuid7
from omniq.models.filters import Batch, Claim, HeldTask, Slot
from omniq.models.outcome import (
    Cancelled,
    Failed,
    Outcome,
    Released,
    Succeeded,
    UnknownFunction,
)
from omniq.models.row import TaskRow
from omniq.models.status import Status
from omniq.models.task import TaskBody
from omniq.models.units import Applied, Fence, Move, Receipt, Unit
from omniq.queue import policy
from omniq.queue.engine import Engine
from omniq.queue.outage import Outage
from omniq.queue.stores import Stores
from omniq.workers.ahead import Ahead
from omniq.workers.base import Lane
from omniq.workers.context import TaskContext
from omniq.workers.metrics import Ended, Meter
from omniq.workers.queues import QueueNames
from omniq.workers.quota import Quota
from omniq.workers.run import Reason, Run, describe

log = logging.getLogger("omniq.worker")

MAX_BATCH = 500
CHORES = 100
CHORES_EVERY = 1.0
"""Seconds between two looks for lost, expired and stranded tasks (and for a lost wake-up)."""
PROGRESS_EVERY = 0.2
AGAIN = 1.0
"""Seconds before a store that did not answer is asked again."""
MUTE = 2.0
"""Seconds without an answer after which a stop takes the store to be away."""
UNANSWERED = "the store does not answer"


class Pump:
    """Moves tasks between the stores and the lanes of one worker process.

    `lanes` maps the lane a task asks for to the lane that runs it. `renewed` is told when a
    claim has renewed the lease; `settled` is told the moves that were applied, `outage` how the
    store answers.
    """

    def __init__(
        self,
        engine: Engine,
        stores: Stores,
        *,
        owner: str,
        lanes: Mapping[str, Lane],
        queues: QueueNames,
        lease: float,
        renewed: Callable[[float], None],
        settled: Callable[[list[Move]], None],
        outage: Outage,
        quota: Quota | None = None,
    ) -> None:
        self._engine, self._stores, self._owner = engine, stores, owner
        self._lanes, self._queues = lanes, queues
        self._lease = round(lease * 1000)
        self._renewed, self._settled, self._quota = renewed, settled, quota
        self._outage = outage
        self.meter = Meter(owner)
        self._ahead = Ahead(
            lanes.values(),
            wanted=stores.tasks.capabilities.overlaps and quota is None,
            lease=lease,
        )
        self.running: dict[str, Run] = {}
        """Claimed and not settled, whether begun or waiting for a slot."""
        self._ended: deque[tuple[TaskRow, Move]] = deque()
        self._telling: list[tuple[TaskRow, Move]] = []
        """Those the trip that is under way tells of."""
        self._extra: list[Unit] = []
        self._progress: set[str] = set()
        self._wake = asyncio.Event()
        self._hungry: set[Lane] = set(lanes.values())
        """Lanes for which there may be more work than the last claim gave."""
        self._unanswered: Claim | None = None
        """A claim under way, or one that got no answer: sent again it gives the same rows."""
        self._asked_at = math.inf
        """When the trip that is under way began, by `time.monotonic()`."""
        self._unsure: set[str] = set()
        """Tasks whose end was sent in a trip that got no answer."""
        self._next_chores = 0.0
        self._next_due: int | None = None
        self._idle = asyncio.Event()
        self._empty = asyncio.Event()
        self._watchers = 0
        """How many wait for `emptied`."""
        self.stopping = False

    # -- what others tell it, on the loop's thread ---------------------------------------

    def wake(self) -> None:
        """There may be work."""
        self._hungry.update(self._lanes.values())
        self._wake.set()

    def send(self, unit: Unit) -> None:
        """Let a unit ride with the next trip."""
        self._extra.append(unit)
        self._wake.set()

    @property
    def begun(self) -> int:
        """How many tasks have a slot."""
        return len(self.running) - len(self._ahead)

    @property
    def unheard(self) -> int:
        """How many tasks have ended or were given back, and the store may not know it."""
        return len({row.id for row, _ in (*self._ended, *self._telling)} | self._unsure)

    @property
    def mute(self) -> bool:
        """Whether a trip is under way for so long that there may be no answer."""
        return time.monotonic() - self._asked_at > MUTE

    @property
    def behind(self) -> bool:
        """Whether units of before have not been sent yet."""
        return bool(self._extra)

    def ended(self, run: Run, outcome: Outcome) -> None:
        """A lane tells how a run went."""
        self._settle(run, outcome)
        lane = self._lanes[run.row.lane]
        while not self.stopping and (waited := self._ahead.next(lane)):
            lane.submit(waited)

    def _settle(self, run: Run, outcome: Outcome) -> None:
        if run.settled:
            self._wake.set()  # a slot came free after all
            return
        run.settled = True
        if self.running.get(run.row.id) is run:
            del self.running[run.row.id]
        if not self.running:
            self._idle.set()
        if run.interrupted == "lost":
            self._wake.set()
            return
        now, rules = self._engine.clock.now(), self._engine.rules
        try:
            move = policy.settle(run.row, run.body, outcome, now, rules)
        except Exception as error:  # whatever a task told us, its slot must come free
            outcome = Failed(describe(error, run.row), again=False)
            move = policy.settle(run.row, run.body, outcome, now, rules)
        self._ended.append((run.row, move))
        kind = type(outcome)
        if kind is not Succeeded:
            _warn(run, outcome, move)
        log.debug("task %s (%s) ended as %s", run.row.id, run.row.name, kind.__name__)
        if kind is Succeeded or kind is Failed:
            ended: Ended = "ok"
            if kind is Failed:
                ended = "failed" if move.to is Status.FAILED else "retried"
            ran = 0.0
            if run.started:
                ran = time.monotonic() - run.started
                self._ahead.ran(self._lanes[run.row.lane], ran)
            self.meter.count(run.row, ended, now, int(ran * 1000))
        self._wake.set()

    def note_progress(self, id: str) -> None:
        """A run has said how far it is; written together with others soon."""
        if not self._progress:
            asyncio.get_running_loop().call_later(PROGRESS_EVERY, self._wake.set)
        self._progress.add(id)

    def interrupt(self, id: str, reason: Reason) -> None:
        """Stop a running task.

        Once for each stage: a second interrupt would break off what the first one lets it do.
        """
        run = self.running.get(id)
        if run is not None and (run.interrupted is None or reason == "stop"):
            lane = self._lanes[run.row.lane]
            lane.interrupt(run, reason)
            if self._ahead.drop(lane, run):  # it never began, and need not wait to be told so
                cancelled = run.interrupted == "cancel"
                self.ended(run, Cancelled() if cancelled else Released(started=False))

    # -- the loop ------------------------------------------------------------------------

    async def run(self) -> None:
        """Pump until stopped and empty."""
        while not (self.stopping and not self.running and not self._ended and not self._extra):
            try:
                if await self._turn():
                    self._outage.answered(UNANSWERED)
                else:
                    await self._sleep()
            except StorageError as error:
                self._outage.failed(UNANSWERED, error)
                await asyncio.sleep(AGAIN)
            except Exception:
                log.exception("the pump stumbled, goes on in %.0f s: a bug in OmniQ", AGAIN)
                await asyncio.sleep(AGAIN)

    async def drained(self) -> None:
        """Wait until nothing runs."""
        while self.running:
            self._idle.clear()
            await self._idle.wait()

    async def emptied(self) -> None:
        """Wait until nothing runs and a claim with room in every lane finds nothing."""
        self._empty.clear()
        self._watchers += 1
        self.wake()
        try:
            await self._empty.wait()
        finally:
            self._watchers -= 1

    def give_back_rest(self) -> None:
        """Settle what does not end as given back; whatever it returns later is dropped."""
        for run in list(self.running.values()):
            self.ended(run, Released(started=run.started > 0))

    async def give_back(self, held: Iterable[HeldTask]) -> None:
        """Give back rows that are leased to this worker by claims whose answer was lost."""
        claims = {task.id: task.claim for task in held}
        rows = await self._stores.tasks.get_tasks(list(claims))
        now, rules = self._engine.clock.now(), self._engine.rules
        ended = {row.id for row, _ in (*self._ended, *self._telling)}
        for row in rows:
            if row.status is not Status.RUNNING or row.claim != claims[row.id]:
                continue
            if row.id in self.running or row.id in ended:
                continue  # the answer came after all
            if self._unanswered is not None and row.claim == self._unanswered.request:
                continue  # the answer may still come
            if (body := self._open(row)) is None:
                continue
            if row.flags:
                move = policy.settle_chore(row, body, now, rules)
            else:
                outcome = Cancelled() if row.cancel else Released(started=False)
                move = policy.settle(row, body, outcome, now, rules)
            self._ended.append((row, move))
        self._wake.set()

    async def flush(self) -> None:
        """Send what is left, without claiming; after `run` has ended."""
        self._unanswered = None
        while self._ended or self._extra:
            await self._turn()

    async def _turn(self) -> bool:
        """One trip, if there is anything to do."""
        for run in self._ahead.impatient(all=self.stopping):
            self.ended(run, Released(started=False))
        ended = [self._ended.popleft() for _ in range(min(len(self._ended), MAX_BATCH))]
        if not self.running:
            self._idle.set()
        extra, self._extra = self._extra[:MAX_BATCH], self._extra[MAX_BATCH:]
        units: list[Unit] = [move for _, move in ended]
        units += extra
        if self._progress and not ended:
            units += self._progress_units()
        claim = None if self.stopping else self._unanswered or self._claim()
        if not units and claim is None:
            return False
        self._telling = ended
        try:
            receipt, batch = await self._trip(units, claim)
        except BaseException:  # nothing is known of it: all of it is sent again
            self._ended.extendleft(reversed(ended))
            self._extra[:0] = extra
            self._unsure.update(row.id for row, _ in ended)
            raise
        finally:
            self._asked_at, self._telling = math.inf, []
        if ended:
            self._check(ended, receipt)
        if receipt.woken:
            self._hungry.update(self._lanes.values())
        if batch is not None:
            self._start(batch)
            if claim is not None and self._found_nothing(claim, batch):
                self._empty.set()
        if self._watchers and ended and not self.running:
            self.wake()  # to look whether that was all, and not at the next chores only
        return True

    def _found_nothing(self, claim: Claim, batch: Batch) -> bool:
        if self.running or self._ended or batch.tasks or not (claim.limit and self._queues.known):
            return False
        if batch.next_due is not None and batch.next_due <= self._engine.clock.now():
            return False
        return not self._queues.names or {slot.lane for slot in claim.slots} == {*self._lanes}

    async def _trip(self, units: list[Unit], claim: Claim | None) -> tuple[Receipt, Batch | None]:
        asked_at = self._asked_at = time.monotonic()
        if claim is None:
            return await self._stores.apply(units), None
        self._unanswered = claim
        self._hungry.clear()  # whoever calls from now on may speak of what this claim misses
        receipt, batch = await self._stores.exchange(units, claim)
        self._renewed(asked_at)
        self._ahead.travelled(time.monotonic() - asked_at)
        if self._quota is not None and claim.slots:
            self._quota.answered(claim.limit, len(batch.tasks))
        self._unanswered, self._next_due = None, batch.next_due
        full = len(batch.tasks) >= claim.limit
        room = dict.fromkeys(self._lanes.values(), 0)
        for slot in claim.slots:
            room[self._lanes[slot.lane]] = slot.limit
        for row in batch.tasks:
            room[self._lanes[row.lane]] -= 1
        self._hungry.update(lane for lane, left in room.items() if full or left <= 0)
        return receipt, batch

    def _claim(self) -> Claim | None:
        now = time.monotonic()
        chores = CHORES if now >= self._next_chores else 0
        due = self._next_due is not None and self._next_due <= self._engine.clock.now()
        if not (chores or due or any(map(self._ahead.room, self._hungry))):
            return None
        slots: list[Slot] = []
        rooms = {lane: self._ahead.room(lane) for lane in set(self._lanes.values())}
        queues = self._queues.turn()  # one turn for all lanes, or some queue would never lead
        for kind, lane in self._lanes.items():
            if rooms[lane]:
                slots.extend(Slot(queue, kind, rooms[lane]) for queue in queues)
        limit = min(sum(rooms.values()), MAX_BATCH)
        if self._quota is not None and slots:
            limit = self._quota.ask(limit)
        if not (limit and slots) and not chores:
            self._next_due = None  # asked again as soon as there is room
            return None
        if chores:
            self._next_chores = now + min(CHORES_EVERY, self._lease / 3000)
        return Claim(
            owner=self._owner,
            request=uuid7(),
            slots=tuple(slots) if limit else (),
            limit=limit,
            lease=self._lease,
            chores=chores,
        )

    def _start(self, batch: Batch) -> None:
        for row in batch.tasks:
            body = self._open(row)
            if body is not None:
                run = self.running[row.id] = Run(row, body, self._note)
                lane = self._lanes[row.lane]
                if self.stopping:  # asked for before the stop began
                    self.ended(run, Released(started=False))
                elif lane.free:
                    lane.submit(run)
                else:
                    self._ahead.wait(lane, run)
        now, rules = self._engine.clock.now(), self._engine.rules
        for row in batch.chores:
            body = self._open(row)
            if body is not None:
                self._ended.append((row, policy.settle_chore(row, body, now, rules)))

    def _open(self, row: TaskRow) -> TaskBody | None:
        """A row's body; one that cannot be read fails its task and must not hold up others."""
        try:
            return self._engine.body(row)
        except msgspec.MsgspecError as error:
            rules, now = self._engine.rules, self._engine.clock.now()
            self._ended.append((row, policy.bury(row, describe(error, row), now, rules)))
            return None

    def _check(self, ended: list[tuple[TaskRow, Move]], receipt: Receipt) -> None:
        applied: list[Move] = []
        for (row, move), outcome in zip(ended, receipt.outcome, strict=False):
            if outcome is not Applied.REFUSED:
                applied.append(move)
            elif move.to is Status.READY:
                # A row that somebody cancelled meanwhile does not go back in line.
                now, rules = self._engine.clock.now(), self._engine.rules
                self._ended.append((row, policy.cancelled(row, now, rules)))
                # Should that be refused, too, it was back in line already, and nobody ended it.
            elif move.id in self._unsure:
                applied.append(move)  # a trip whose answer was lost did it
            else:
                log.warning("%s", LeaseLost(f"task {move.id} was taken over; its end is refused"))
            self._unsure.discard(move.id)
        self._settled(applied)

    async def _sleep(self) -> None:
        if not self.running:
            self._idle.set()
        until = self._next_chores - time.monotonic()
        if self._next_due is not None:
            until = min(until, (self._next_due - self._engine.clock.now()) / 1000)
        if (impatient := self._ahead.until()) is not None:
            until = min(until, impatient - time.monotonic())
        timer = asyncio.get_running_loop().call_later(max(until, 0.001), self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
            self._wake.clear()

    def _note(self, context: TaskContext) -> None:
        """From the thread the task runs in."""
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(self.note_progress, context.id)

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def _progress_units(self) -> list[Unit]:
        ids, self._progress = self._progress, set()
        return [
            Move(
                id=id,
                expect=(Status.RUNNING,),
                fence=fence_of(run.row),
                patch={"progress": run.context.progress},
            )
            for id in ids
            if (run := self.running.get(id))
        ]


def _warn(run: Run, outcome: Outcome, move: Move) -> None:
    if isinstance(outcome, Failed) and move.to is Status.FAILED:
        log.warning(
            "task %s (%s) failed for good in attempt %d: %s: %s",
            *(run.row.id, run.row.name, run.row.attempt),
            *(outcome.error.type, outcome.error.message),
        )
    elif isinstance(outcome, UnknownFunction):  # in no attempt's errors: nobody else tells why
        log.warning(
            "task %s waits for a worker that has its function: %s", run.row.id, outcome.reason
        )


def fence_of(row: TaskRow) -> Fence:
    """What a claimed row's writes must show."""
    return Fence(row.epoch, row.claim or "")
