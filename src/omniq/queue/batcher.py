"""Group commit: one trip for everything that came while the last trip was under way.

There is no timer. An idle batcher sends at once, so a lone caller pays nothing; under load
batches grow by themselves.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
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

    batch: list[_InLine]
    ids: set[str]


class Batcher:
    """Mixes the units of many callers into few batches, each caller told of its own.

    A batch holds at most `max_units` and one unit per row id. With `max_backlog` units in
    line, callers wait for room. Belongs to the event loop it is used on.

    Up to `abreast` full batches of nothing but new rows are under way together: the order of such
    rows is in their ids, so it does not matter which batch is stored first. What is not full,
    or speaks of other rows, waits until none is under way, and grows meanwhile.
    """

    def __init__(
        self, send: Send, *, max_units: int = 500, max_backlog: int = 20_000, abreast: int = 1
    ) -> None:
        self._send, self._abreast = send, abreast
        self._max_units, self._max_backlog = max_units, max_backlog
        self._line: deque[_InLine] = deque()
        self._drain: asyncio.Task[None] | None = None
        self._stir = asyncio.Event()
        """A trip beside others has ended, or the line is long enough for another one."""
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
        if self._drain is None or self._drain.done():  # done: cancelled before it began
            self._drain = asyncio.get_running_loop().create_task(self._run(), name="omniq-batcher")
        elif len(self._line) >= self._max_units:
            self._stir.set()

    async def _run(self) -> None:
        beside: dict[asyncio.Task[None], _Trip] = {}
        try:
            while self._line or beside:
                if (ids := self._ids_if_apart(beside.values())) is not None:
                    batch = self._take()
                    task = asyncio.create_task(self._trip(batch), name="omniq-trip")
                    task.add_done_callback(lambda _: self._stir.set())
                    beside[task] = _Trip(batch, ids)
                elif beside:
                    await self._stir.wait()
                    self._stir.clear()
                    for task in [each for each in beside if each.done()]:
                        del beside[task]
                        task.result()
                else:
                    await self._trip(self._take())
        finally:
            self._drain = None
            left = asyncio.CancelledError()
            for task, trip in beside.items():
                task.cancel()
                _fail(trip.batch, left)
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

    def _ids_if_apart(self, beside: Collection[_Trip]) -> set[str] | None:
        """Ids of the batch at the head of the line if it may go beside those under way, else None."""
        size = self._max_units
        if len(beside) == self._abreast or self._abreast < 2 or len(self._line) < size:
            return None
        units = [unit for unit, _, _ in islice(self._line, size)]
        if not all(map(is_alone, units)):
            return None
        ids = {unit.row.id for unit in units if isinstance(unit, Insert)}
        apart = len(ids) == size and all(ids.isdisjoint(trip.ids) for trip in beside)
        return ids if apart else None

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
