"""Results that could not be put into a place of their own, and those to be taken out of it.

A result is written before its row ends, so a result place that is down must not hold up the end:
the task place keeps the value, and with it, in the same commit, a note that it is to be moved. A
replay or deletion leaves a note too, since the result place knows nothing of rows. Notes are worked
off by whichever process looks first; doing so twice does no harm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from omniq.errors import StorageError
from omniq.models.row import Doc, Ms, ResultRow, TaskRow
from omniq.models.status import FINAL, Status
from omniq.models.units import Applied, Move, PutDoc, PutEvents, PutResult, Unit, Value
from omniq.queue.breaker import Breaker
from omniq.storage.base import BaseResultStorage, BaseTaskQueue

log = logging.getLogger("omniq.storage")

KIND: Final = "late-result"
_FEW: Final = 16
"""Values moved at once: each may be as large as results may be."""
_VOID: Final[Ms] = 1
"""The end of the time of a result that was taken back."""
_MONTH: Final[Ms] = 30 * 86_400_000
_SKEW: Final[Ms] = 60_000
"""How far the clocks of places may differ."""


class Note(Struct, frozen=True, array_like=True, gc=False):
    """What is to be done at the result place. `value` is kept here where the task place keeps no
    results."""

    epoch: int
    void: bool = False
    until: Ms | None = None
    value: bytes | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Note).decode


class FarResults:
    """Results at a place of their own, as far as it answers, else with their tasks."""

    def __init__(self, tasks: BaseTaskQueue, place: BaseResultStorage) -> None:
        self._tasks, self._place = tasks, place
        self._near = tasks if isinstance(tasks, BaseResultStorage) else None
        self.breaker = Breaker(
            f"the place of results ({place.describe()})",
            meanwhile="results stay with their tasks",
            probe=self._ask,
            catch_up=self._nothing,
        )
        self._moving: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.breaker.open(self._place.open)

    async def close(self) -> None:
        moving, self._moving = self._moving, None
        if moving is not None:
            moving.cancel()
            await asyncio.wait([moving])
        await self.breaker.close()
        await self._place.close()

    # ---- on the way of a settle

    async def put(self, units: Sequence[Unit]) -> list[Unit]:
        """Write the results of units to their place; the units as the task place is to have them.

        Each keeps its place in the list, and so in the receipt.
        """
        values: list[PutResult] = []
        for unit in units:
            if isinstance(unit, PutResult):
                values.append(unit)
            elif isinstance(unit, Move) and unit.result and unit.fence:
                value, until = unit.result
                # Nothing there would go with its row, so it goes by its time.
                until = unit.patch.get("keep_until") if until is None else until
                values.append(PutResult(unit.id, unit.fence.epoch, value, until))
        taken = await self._put(values) if values else set()
        left = await self._void(units)
        near: list[Unit] = []
        for unit in units:
            if isinstance(unit, Move):
                if unit.result and unit.fence:
                    done = unit.id in taken
                    unit = replace(unit, result=None) if done else self._late(unit, unit.result)
                elif unit.id in left:
                    unit = replace(unit, docs=(*unit.docs, left[unit.id]))
            elif isinstance(unit, PutResult) and unit.id in taken:
                unit = PutEvents(())  # its place in the receipt stays
            near.append(unit)
        return near

    async def _put(self, values: list[PutResult]) -> set[str]:
        try:
            receipt = await self.breaker.run(lambda: self._place.apply(values))
        except StorageError as error:
            if self.breaker.up:
                log.warning("results stay with their tasks, their own place failed: %s", error)
            return set()
        # One that is refused stands behind a later run's, then its Move is refused as well; or
        # behind that of an earlier task of the same id, then it stays with its row.
        outcomes = zip(values, receipt.outcome, strict=True)
        return {unit.id for unit, outcome in outcomes if outcome is Applied.APPLIED}

    def _late(self, unit: Move, result: Value) -> Move:
        assert unit.fence is not None
        keep = result.until if result.until is not None else unit.patch.get("keep_until")
        note = Note(unit.fence.epoch, until=keep)
        if self._near is None:
            note = replace(note, value=result.value)
            unit = replace(unit, result=None)
        return replace(unit, docs=(*unit.docs, _note(unit.id, note, keep)))

    async def _void(self, units: Sequence[Unit]) -> dict[str, PutDoc]:
        """Notes that ride with what takes a result away: a replay, a deletion."""
        now = self._tasks.clock.now()
        ids = [unit.id for unit in units if isinstance(unit, Move) and _takes_away(unit, now)]
        if not ids:
            return {}
        rows, until = await self._tasks.get_tasks(ids), now + _MONTH
        return {row.id: _note(row.id, Note(row.epoch, void=True), until) for row in rows}

    # ---- reading

    async def read(self, rows: Iterable[TaskRow]) -> tuple[dict[str, ResultRow], str]:
        """The results that count, and why others that may exist cannot be read ("": none)."""
        epochs = {row.id: row.epoch for row in rows if row.status is Status.SUCCEEDED}
        found: dict[str, ResultRow] = {}
        why = await self._read_far(epochs, found)
        await self._read_near(epochs, found)
        if not why:
            # It may have been moved between the two looks.
            why = await self._read_far(epochs, found)
        return found, why if len(found) < len(epochs) else ""

    async def _read_far(self, epochs: dict[str, int], found: dict[str, ResultRow]) -> str:
        left = [id for id in epochs if id not in found]
        if left:
            try:
                results = await self.breaker.run(lambda: self._place.get_results(left))
            except StorageError as error:
                return str(error)
            found.update((r.id, r) for r in results if r.epoch == epochs[r.id])
        return ""

    async def _read_near(self, epochs: dict[str, int], found: dict[str, ResultRow]) -> None:
        left = [id for id in epochs if id not in found]
        if left and self._near is not None:
            for result in await self._near.get_results(left):
                if result.epoch == epochs[result.id] and result.until != _VOID:
                    found[result.id] = result
        elif left:
            now = self._tasks.clock.now()
            for id in left:
                for doc in await self._tasks.get_docs(KIND, prefix=id, limit=1):
                    note = _decode(doc.value)
                    late = note.until is not None and note.until <= now
                    if doc.key == id and note.epoch == epochs[id] and note.value and not late:
                        found[id] = ResultRow(id, note.epoch, note.value, note.until)

    # ---- later

    def noted(self, units: Sequence[Unit]) -> None:
        """Some of these may have left notes: work them off soon."""
        if any(isinstance(u, Move) and any(d.kind == KIND for d in u.docs) for u in units):
            self.work()

    def work(self) -> None:
        """Work off the notes, if the place answers."""
        if self._moving is None and self.breaker.up:
            self._moving = asyncio.create_task(self._work(), name="omniq-late-results")

    async def sweep(self, limit: int) -> int:
        self.work()
        try:
            return await self.breaker.run(lambda: self._place.sweep(limit))
        except StorageError as error:
            log.debug("results are swept later: %s", error)
            return 0

    async def _work(self) -> None:
        try:
            after = ""
            while docs := await self._tasks.get_docs(KIND, after=after, limit=_FEW):
                await self._move(docs)
                after = docs[-1].key
        except StorageError as error:
            log.debug("results are moved to their place later: %s", error)
        except Exception:
            log.exception("late results cannot be moved: a bug in OmniQ")
        finally:
            self._moving = None

    async def _move(self, docs: list[Doc]) -> None:
        notes = {doc.key: _decode(doc.value) for doc in docs}
        rows = {row.id: row for row in await self._tasks.get_tasks(list(notes))}
        kept: dict[str, ResultRow] = {}
        if self._near is not None:
            kept = {r.id: r for r in await self._near.get_results(list(notes))}
        now = self._tasks.clock.now()
        far: list[PutResult] = []
        for id, note in notes.items():
            row = rows.get(id)
            if note.void:
                if _taken_away(row, note.epoch, now):
                    far.append(PutResult(id, note.epoch, b"", _VOID))
            elif row is not None and row.epoch == note.epoch and row.status is Status.SUCCEEDED:
                value = kept[id].value if id in kept else note.value
                if value and (id not in kept or kept[id].epoch == note.epoch):
                    far.append(PutResult(id, note.epoch, value, note.until))
        stay: set[str] = set()
        if far:
            receipt = await self.breaker.run(lambda: self._place.apply(far))
            # Refused: behind the result of an earlier task of the same id. It stays with its row.
            answered = zip(far, receipt.outcome, strict=True)
            stay = {unit.id for unit, outcome in answered if outcome is not Applied.APPLIED}
        units: list[Unit] = []
        for doc in docs:
            note = notes[doc.key]
            if doc.key in stay and note.value is not None:
                continue
            if self._near is not None and (note.void or doc.key not in stay):
                units.append(PutResult(doc.key, note.epoch, b"", _VOID))
            units.append(PutDoc(kind=KIND, key=doc.key, value=None, expect=doc.rev))
        await self._tasks.apply(units)

    async def _ask(self) -> None:
        await self._place.open()
        await self._place.get_results(["-"])

    async def _nothing(self) -> None:
        asyncio.get_running_loop().call_soon(self.work)  # when the breaker lets calls through


def _takes_away(unit: Move, now: Ms) -> bool:
    """Whether it replays or deletes what has ended."""
    if not any(status >= FINAL for status in unit.expect):
        return False
    if unit.to is None:
        keep = unit.patch.get("keep_until")
        return keep is not None and keep <= now
    return unit.to < FINAL


def _taken_away(row: TaskRow | None, epoch: int, now: Ms) -> bool:
    """Whether nobody can ask for the result of that run: not so if the id is used again."""
    if row is None or row.epoch > epoch:
        return True
    ended = row.keep_until is not None and row.keep_until <= now + _SKEW
    return row.epoch == epoch and (ended or row.status is not Status.SUCCEEDED)


def _note(id: str, note: Note, until: Ms | None) -> PutDoc:
    return PutDoc(kind=KIND, key=id, value=_encode(note), expires_at=until)
