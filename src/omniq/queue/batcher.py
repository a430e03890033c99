"""Group commit: one trip for everything that came while the last trip was under way.

There is no timer. An idle batcher sends at once, so a lone caller pays nothing; under load
batches grow by themselves.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from omniq.models.units import Applied, Insert, Move, PutResult, Receipt, Unit, is_alone

Send = Callable[[list[Unit]], Awaitable[Receipt]]


class Answer(NamedTuple):
    """What became of one unit."""

    applied: Applied
    holder: str | None = None
    """The task that holds the unique key."""
    missing: tuple[str, ...] = ()
    """Parents that do not exist."""


_APPLIED = Answer(Applied.APPLIED)


class _Caller:
    """Who waits for the answers to some units: told once, when the last one is there."""

    __slots__ = ("_answers", "_left", "future")

    def __init__(self, units: int) -> None:
        self.future: asyncio.Future[list[Answer]] = asyncio.get_running_loop().create_future()
        self._answers = [_APPLIED] * units
        self._left = units

    def tell(self, n: int, answer: Answer) -> None:
        self._answers[n] = answer
        self.tell_applied(1)

    def tell_applied(self, units: int) -> None:
        """So many more have their answer: that they were applied, unless another was told."""
        self._left -= units
        if not self._left and not self.future.done():
            self.future.set_result(self._answers)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            if isinstance(error, asyncio.CancelledError):
                self.future.cancel()
            else:
                self.future.set_exception(error)


_InLine = tuple[Unit, _Caller | None, int]
"""A unit, whose it is, and its number there."""


class _Trip(NamedTuple):
    """A batch of new rows on its way beside others."""

    task: asyncio.Task[None]
    batch: list[_InLine]
    ids: set[str]


class Batcher:
    """Mixes the units of many callers into few batches, each caller told of its own.

    A batch holds at most `max_units` and one unit per row id. With `max_backlog` units in
    line, callers wait for room. Up to `abreast` full batches of nothing but new rows are under
    way together. Belongs to the event loop it is used on.
    """

    def __init__(
        self, send: Send, *, max_units: int = 500, max_backlog: int = 20_000, abreast: int = 1
    ) -> None:
        self._send, self._abreast = send, abreast
        self._max_units, self._max_backlog = max_units, max_backlog
        self._line: deque[_InLine] = deque()
        self._drain: asyncio.Task[None] | None = None
        self._room: deque[asyncio.Future[None]] = deque()

    async def put(self, unit: Unit) -> Answer:
        """Send one unit with the next batch."""
        if len(self._line) >= self._max_backlog:
            await self._wait_for_room()
        caller = _Caller(1)
        self._line.append((unit, caller, 0))
        self.start()
        return (await caller.future)[0]

    async def put_many(self, units: Sequence[Unit]) -> list[Answer]:
        """Send units in order, together where they fit into one batch."""
        if not units:
            return []
        caller = _Caller(len(units))
        for n, unit in enumerate(units):
            if len(self._line) >= self._max_backlog:
                self.start()
                await self._wait_for_room()
            self._line.append((unit, caller, n))
        self.start()
        return await caller.future

    def put_later(self, unit: Unit) -> None:
        """Let one unit ride with the next batch; nobody waits for its answer."""
        self._line.append((unit, None, 0))

    async def flush(self) -> None:
        """Wait until everything in line was sent."""
        if self._line:
            self.start()
        if self._drain is not None:
            await asyncio.wait([self._drain])

    def start(self) -> None:
        """Send what is in line."""
        if self._drain is None:
            self._drain = asyncio.get_running_loop().create_task(self._run(), name="omniq-batcher")

    async def _run(self) -> None:
        beside: deque[_Trip] = deque()
        batch: list[_InLine] = []
        try:
            while self._line or beside:
                batch = self._take()
                ids = self._new_ids(batch)
                may = ids is not None and all(ids.isdisjoint(trip.ids) for trip in beside)
                while len(beside) > (self._abreast - 1 if may else 0):
                    await beside[0].task
                    beside.popleft()
                if may and ids is not None:
                    beside.append(_Trip(asyncio.create_task(self._trip(batch)), batch, ids))
                elif batch:
                    await self._trip(batch)
        finally:
            self._drain = None
            left = asyncio.CancelledError()
            for trip in beside:
                trip.task.cancel()
                _fail(trip.batch, left)
            _fail(batch, left)
            _fail(self._line, left)
            self._line.clear()
            while self._room:  # nobody goes on taking from the line: those behind it leave too
                self._room.popleft().cancel()

    async def _trip(self, batch: list[_InLine]) -> None:
        try:
            receipt = await self._send([unit for unit, _, _ in batch])
        except BaseException as error:
            _fail(batch, error)
            if not isinstance(error, Exception):
                raise
        else:
            _answer(batch, receipt)
        while self._room and len(self._line) < self._max_backlog:
            room = self._room.popleft()
            if not room.done():
                room.set_result(None)

    def _new_ids(self, batch: list[_InLine]) -> set[str] | None:
        """Ids of a batch that may go beside another: full, and all of it rows of their own.

        The order of such rows is in their ids. What is not full had better grow meanwhile.
        """
        if self._abreast < 2 or len(batch) < self._max_units:
            return None
        if not all(is_alone(unit) for unit, _, _ in batch):
            return None
        return {unit.row.id for unit, _, _ in batch if isinstance(unit, Insert)}

    def _take(self) -> list[_InLine]:
        batch: list[_InLine] = []
        ids: set[str] = set()
        while self._line and len(batch) < self._max_units:
            id = _row_id(self._line[0][0])
            if id is not None:
                if id in ids:
                    break
                ids.add(id)
            batch.append(self._line.popleft())
        return batch

    async def _wait_for_room(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room.append(future)
        await future


def batches(units: Iterable[Unit], max_units: int = 500) -> Iterator[list[Unit]]:
    """Units in order, cut where a place would not take more of them at once."""
    batch: list[Unit] = []
    ids: set[str] = set()
    for unit in units:
        id = _row_id(unit)
        if len(batch) >= max_units or id in ids:
            yield batch
            batch, ids = [], set()
        if id is not None:
            ids.add(id)
        batch.append(unit)
    if batch:
        yield batch


def answer_of(receipt: Receipt, n: int) -> Answer:
    """What became of unit `n` of a batch."""
    return Answer(receipt.outcome[n], receipt.taken.get(n), receipt.missing.get(n, ()))


def _row_id(unit: Unit) -> str | None:
    if isinstance(unit, Insert):
        return unit.row.id
    if isinstance(unit, (Move, PutResult)):
        return unit.id
    return None


def _answer(batch: list[_InLine], receipt: Receipt) -> None:
    if receipt.outcome.count(Applied.APPLIED) == len(batch):
        for caller, units in Counter([caller for _, caller, _ in batch]).items():
            if caller is not None:
                caller.tell_applied(units)
        return
    plain = not receipt.taken and not receipt.missing
    for at, (_, caller, n) in enumerate(batch):
        if caller is None:
            continue
        if plain:
            outcome = receipt.outcome[at]
            caller.tell(n, _APPLIED if outcome is Applied.APPLIED else Answer(outcome))
        else:
            caller.tell(n, answer_of(receipt, at))


def _fail(batch: Iterable[_InLine], error: BaseException) -> None:
    for _, caller, _ in batch:
        if caller is not None:
            caller.fail(error)
