"""Large values, kept beside the log: put before the commit that speaks of them.

Arguments, results and errors above a limit do not ride in segments, nor stay in memory: the
large ones of one commit share objects (`pack/<id>`), the very large ones have one each
(`big/<id>`), and the tables hold where they are. So a cut log loses no value.

Where a value is stands in its place, after a byte that marks it; a value that begins with
that byte itself is marked too. Objects nobody speaks of (a commit that failed, a row that
went) are found and removed when a checkpoint is written, once their id is older than `grace`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

import msgspec
from msgspec.structs import replace

from omniq.ids import uuid7
from omniq.models.filters import Batch
from omniq.models.row import ResultRow, TaskRow
from omniq.models.units import Insert, Move, Patch, PutDoc, PutResult, Unit, Value
from omniq.storage.log.port import Log, Manners
from omniq.storage.log.pulse import seconds

MARK: Final = b"\xc1"
"""What a value that is elsewhere begins with, and one that begins with this byte."""
PACK: Final = 1 << 20
"""Bytes after which values go to another pack: one is fetched whole."""
_HERE: Final = b"="
_THERE: Final = b"@"
_FIRST: Final = MARK[0]


class Where(msgspec.Struct, frozen=True, array_like=True):
    """A part of an object."""

    name: str
    offset: int
    length: int


_ENCODER = msgspec.msgpack.Encoder()
_WHERE = msgspec.msgpack.Decoder(Where)


class Parcel:
    """The large values of one commit, as long as they are not known to be kept."""

    def __init__(self, manners: Manners | None = None, *, least: int | None = None) -> None:
        self._least = manners.memory_bytes if manners and least is None else least or 0
        self._alone = manners.inline_bytes if manners else 0
        self._pack = ""
        self._length = PACK
        self._parts: dict[str, list[bytes]] = {}
        self._sent: float | None = None
        self._grace = manners.grace if manners else 0.0

    def stow(self, units: Sequence[Unit]) -> Sequence[Unit]:
        """The units with what is large replaced by where it will be."""
        found: list[Unit] | None = None
        for at, unit in enumerate(units):
            stowed = self._unit(unit)
            if stowed is not unit:
                found = list(units) if found is None else found
                found[at] = stowed
        return units if found is None else found

    def send(self, log: Log) -> None:
        """Put the objects, if that was not done before."""
        if self._sent is None and self._parts:
            self._sent = seconds()
            for name, data in self.objects():
                log.keep(name, data)
        else:
            self.confirm(log)

    def confirm(self, log: Log) -> None:
        """Around the commit: a process stopped for long puts again what was swept meanwhile."""
        if self._sent is not None and seconds() - self._sent > self._grace / 2:
            self._sent = seconds()
            for name, data in self.objects():
                log.replace(name, data)

    def objects(self) -> Iterable[tuple[str, bytes]]:
        """Names and bytes of all that goes beside the log."""
        for name, parts in self._parts.items():
            yield name, b"".join(parts)

    def _unit(self, unit: Unit) -> Unit:
        if isinstance(unit, Move):
            return self._move(unit)
        if isinstance(unit, Insert):
            return self._insert(unit)
        if isinstance(unit, PutResult):
            value = self._value(unit.value)
            return unit if value is unit.value else replace(unit, value=value)
        if isinstance(unit, PutDoc):
            spawn = self._spawn(unit.spawn)
            return unit if spawn is unit.spawn else replace(unit, spawn=spawn)
        return unit

    def _insert(self, unit: Insert) -> Insert:
        body = self._value(unit.row.body)
        return unit if body is unit.row.body else replace(unit, row=replace(unit.row, body=body))

    def _move(self, unit: Move) -> Move:
        change: dict[str, Any] = {}
        if unit.result is not None:
            value = self._value(unit.result.value)
            if value is not unit.result.value:
                change["result"] = Value(value, unit.result.until)
        if "body" in unit.patch or "error" in unit.patch:
            change["patch"] = self._patch(unit.patch)
        if unit.spawn:
            change["spawn"] = self._spawn(unit.spawn)
        if unit.docs:
            change["docs"] = tuple(cast(PutDoc, self._unit(doc)) for doc in unit.docs)
        return replace(unit, **change) if change else unit

    def _patch(self, patch: Patch) -> Patch:
        new = Patch(**patch)
        if "body" in new:
            new["body"] = self._value(new["body"])
        if "error" in new and new["error"] is not None:
            new["error"] = self._value(new["error"])
        return new

    def _spawn(self, spawn: tuple[Insert, ...]) -> tuple[Insert, ...]:
        return tuple(self._insert(unit) for unit in spawn) if spawn else spawn

    def _value(self, value: bytes) -> bytes:
        length = len(value)
        if length <= self._least:
            return MARK + _HERE + value if length and value[0] == _FIRST else value
        if length > self._alone:
            where = Where(f"big/{uuid7()}", 0, length)
        else:
            if self._length >= PACK:
                self._pack, self._length = f"pack/{uuid7()}", 0
            where = Where(self._pack, self._length, length)
            self._length += length
        self._parts.setdefault(where.name, []).append(value)
        return MARK + _THERE + _ENCODER.encode(where)


class Cold:
    """Finds values again."""

    ROOM: Final = 64 << 20
    """Bytes of objects that are remembered."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def unfold(self, answer: Any) -> tuple[Any, bool]:
        """An answer with its values in place, and whether all of them were found."""
        if isinstance(answer, Batch):
            tasks, whole = self._rows(answer.tasks)
            chores, as_well = self._rows(answer.chores)
            return Batch(tasks=tasks, chores=chores, next_due=answer.next_due), whole and as_well
        if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], Batch):
            batch, whole = self.unfold(answer[1])
            return (answer[0], batch), whole
        if isinstance(answer, list) and answer:
            if isinstance(answer[0], TaskRow):
                return self._rows(answer)
            if isinstance(answer[0], ResultRow):
                return self._results(answer)
        return answer, True

    def _rows(self, rows: list[TaskRow]) -> tuple[list[TaskRow], bool]:
        whole, found = True, rows
        for at, row in enumerate(rows):
            if row.body[:1] != MARK and (row.error is None or row.error[:1] != MARK):
                continue
            cold: dict[str, bytes] = {}
            for name, value in (("body", row.body), ("error", row.error)):
                if value and value[0] == _FIRST:
                    fetched = self.value(value)
                    whole = whole and fetched is not None
                    cold[name] = fetched or b""
            found = list(rows) if found is rows else found
            found[at] = replace(row, **cold)
        return found, whole

    def _results(self, results: list[ResultRow]) -> tuple[list[ResultRow], bool]:
        whole, found = True, list(results)
        for at, result in enumerate(results):
            if result.value[:1] == MARK:
                fetched = self.value(result.value)
                whole = whole and fetched is not None
                found[at] = replace(result, value=fetched or b"")
        return found, whole

    def value(self, value: bytes) -> bytes | None:
        """What stands for a value, as it is; None if it is gone."""
        if value[1:2] == _HERE:
            return value[2:]
        where = _WHERE.decode(memoryview(value)[2:])
        data = self._object(where.name)
        return None if data is None else data[where.offset : where.offset + where.length]

    def _object(self, name: str) -> bytes | None:
        data = self._kept.get(name)
        if data is not None:
            self._kept.move_to_end(name)
            return data
        data = self._log.fetch(name)
        if data is not None:
            self._keep(name, data)
        return data

    def remember(self, parcel: Parcel) -> None:
        """What this process itself has put is likely to be asked for soon."""
        for name, data in parcel.objects():
            self._keep(name, data)

    def _keep(self, name: str, data: bytes) -> None:
        if len(data) > self.ROOM // 4:
            return
        self._kept[name] = data
        self._size += len(data)
        while self._size > self.ROOM:
            _, old = self._kept.popitem(last=False)
            self._size -= len(old)


def named(rows: Mapping[str, TaskRow], results: Mapping[str, ResultRow]) -> set[str]:
    """The objects that are spoken of."""
    found: set[str] = set()
    for row in rows.values():
        for value in (row.body, row.error):
            if value and value[0] == _FIRST and value[1:2] == _THERE:
                found.add(_WHERE.decode(memoryview(value)[2:]).name)
    for result in results.values():
        value = result.value
        if value[:2] == MARK + _THERE:
            found.add(_WHERE.decode(memoryview(value)[2:]).name)
    return found
