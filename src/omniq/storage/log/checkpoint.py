"""Checkpoints: the tables as they were after one segment, so that a log can begin there.

Whoever writes a checkpoint also clears up: older checkpoints and the segments before the one
that has been there for `grace`, and large values nobody speaks of any more. How long something
has been there is what this process itself has seen, so no clocks are compared; what a
checkpoint says of its age counts only when it is read at a start.

The segment a checkpoint stands for is kept as long as the checkpoint is: a place that was
restored from a copy is known by the two not going together.
"""

from __future__ import annotations

import gc
import logging
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
from msgspec import Struct

from omniq.clock import SYSTEM_CLOCK
from omniq.errors import StorageError
from omniq.ids import time_of
from omniq.models.event import TaskEvent
from omniq.models.row import Ms
from omniq.storage.log.cold import named
from omniq.storage.log.port import Log, Rewound
from omniq.storage.log.pulse import seconds
from omniq.storage.tables import Tables
from omniq.storage.tables.segment import (
    FORMAT,
    Segment,
    check_format,
    check_head,
    decode,
    share_words,
)

EVERY: Final = 256
"""Segments after which a checkpoint is due."""
BYTES: Final = 16 << 20
"""Or bytes of segments."""
SHARE: Final = 20
"""A checkpoint is written when this many times the last one's duration has passed since."""
AGAIN: Final = 0.5
"""Seconds a checkpoint is taken to cost at least after one has failed."""
DAY: Final[Ms] = 86_400_000

_LOG: Final = logging.getLogger("omniq.storage")


class Checkpoint(Struct, omit_defaults=True):
    """All that tables know, but what can be derived."""

    v: int
    """The newest format of the segments it stands for."""
    number: int
    last: str
    """The commit id of that segment."""
    at: Ms
    tables: Segment
    forgotten: int = 0
    events: list[TaskEvent | None] = []
    least: int = 1


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Checkpoint)


def freeze(tables: Tables, number: int, last: str, at: Ms, v: int = FORMAT) -> bytes:
    """The bytes of a checkpoint."""
    held = Segment(
        ins=list(tables.rows.values()),
        edges=tables.edges,
        docs={kind: dict(docs) for kind, docs in tables.docs.items()},
        uniq=dict(tables.uniq),
        res=dict(tables.results),
        leases=tables.leases,
    )
    return _ENCODER.encode(Checkpoint(v, number, last, at, held, tables.forgotten, tables.events))


def thaw(data: bytes) -> tuple[Checkpoint, Tables]:
    """A checkpoint and its tables."""
    with _without_collector():
        try:
            checkpoint = _DECODER.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            check_head(data)
            raise
        check_format(checkpoint.least)
        share_words(checkpoint.tables.ins, checkpoint.events, {})
        tables = Tables()
        tables.play(checkpoint.tables)
        tables.restore_events(checkpoint.events, checkpoint.forgotten)
    return checkpoint, tables


@contextmanager
def _without_collector() -> Iterator[None]:
    """The collector would walk tables in the making again and again: half of the time taken."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class Keeper:
    """Reads, writes and clears up the checkpoints of a log."""

    def __init__(self, log: Log, now: Callable[[], Ms] = SYSTEM_CLOCK.now) -> None:
        self._log = log
        self._now = now
        self._format = FORMAT
        self._since = self._bytes = 0
        self._due = False
        self._cost, self._written = 0.0, float("-inf")
        self._late = self._draw()
        self._seen: dict[int, float] = {}
        self._unnamed: dict[str, float] = {}
        self._cleared = seconds()

    # -- reading --

    def newest(self) -> int:
        """The number of the newest checkpoint; 0: there is none."""
        return max(self._numbers(), default=0)

    def load(self) -> tuple[Tables, int, str] | None:
        """Tables to begin with, their number and commit id; None: begin with nothing."""
        for _ in range(3):
            numbers, cut = self._numbers(), False
            for number in reversed(numbers):
                found = self._read(number)
                if found is not None:
                    return found
                cut = cut or self._log.first() > number
            if not cut:
                return None
        raise StorageError("the log was cut faster than its checkpoints could be read")

    def _read(self, number: int) -> tuple[Tables, int, str] | None:
        data = self._log.fetch(_name(number))
        if data is None:
            return None
        try:
            checkpoint, tables = thaw(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            _LOG.warning("checkpoint %d cannot be read, an older one is used: %s", number, error)
            return None
        try:
            segments = self._log.read_on(number)
        except Rewound:
            segments = ()
        if not segments or decode(segments[0]).id != checkpoint.last:
            if segments or self._log.first() <= number:
                # It tells of a past that was taken back with the segments.
                self._log.drop([_name(number)])
            return None
        self._since = self._bytes = 0
        self._format = max(self._format, checkpoint.v)
        age = (self._now() - checkpoint.at) / 1000  # by one clock, the place's
        self._seen[number] = seconds() - max(0.0, age)
        return tables, number, checkpoint.last

    # -- writing --

    def played(self, size: int, format: int) -> None:
        """A segment of so many bytes was taken in."""
        self._since += 1
        self._bytes += size
        self._format = max(self._format, format)

    def mine(self) -> None:
        """The last one was this process's own: it may be the one that writes a checkpoint."""
        if self._since >= EVERY + self._late or self._bytes >= BYTES:
            self._due = True

    def tend(self, tables: Tables, number: int, last: str, at: Ms) -> bool:
        """Write a checkpoint if one is due; whether it is time to clear up."""
        if not self._due or seconds() - self._written < SHARE * self._cost:
            return False
        if self._format > FORMAT:
            return False  # it would lose what only a newer version knows of
        self._due = False
        try:
            self._write(tables, number, last, at)
        except StorageError as error:
            self._written, self._cost = seconds(), max(self._cost, AGAIN)
            _LOG.warning("a checkpoint could not be written, the next one will be: %s", error)
            return False
        return seconds() - self._cleared >= self._log.manners.grace / 4

    def _write(self, tables: Tables, number: int, last: str, at: Ms) -> None:
        begun = seconds()
        newest = self.newest()
        if newest and number - newest < EVERY // 2 and (newest >= number or self._bytes < BYTES):
            self._since = number - newest  # another process was first
        else:
            self._log.keep(_name(number), freeze(tables, number, last, at, self._format))
            self._since = self._bytes = 0
            self._written = seconds()
            self._cost = self._written - begun
        self._late = self._draw()

    # -- clearing up --

    def values(self) -> list[str]:
        """The objects that hold large values."""
        return [*self._log.names("pack/"), *self._log.names("big/")]

    def clear(self, tables: Tables, there: Iterable[str]) -> None:
        """Remove what nobody needs. `tables` are not older than `there`, the values listed."""
        grace = self._log.manners.grace
        now = self._cleared = seconds()
        numbers = self._numbers()
        old = [n for n in numbers if now - self._seen[n] >= grace]
        if old:
            self._log.drop(_name(n) for n in numbers if n < old[-1])
            self._log.cut(old[-1])
        unnamed = set(there) - named(tables.rows, tables.results)
        self._unnamed = {name: self._unnamed.get(name, now) for name in unnamed}
        self._drop_values(
            name
            for name, seen in self._unnamed.items()
            # By the clock of who made it, which may be wrong: so never at the first sight.
            if now - seen >= grace or (seen < now and SYSTEM_CLOCK.now() - _made(name) > DAY)
        )

    def _drop_values(self, names: Iterable[str]) -> None:
        gone = list(names)
        self._log.drop(gone)
        for name in gone:
            del self._unnamed[name]

    def _numbers(self) -> list[int]:
        now = seconds()
        found = sorted(int(end) for name in self._log.names("cp/") if (end := name[3:]).isdigit())
        self._seen = {n: self._seen.get(n, now) for n in found}
        return found

    def _draw(self) -> int:
        """Processes that write side by side should not all write the same checkpoint."""
        return random.randrange(EVERY // 4)


def _name(number: int) -> str:
    return f"cp/{number:020d}"


def _made(name: str) -> Ms:
    return time_of(name.partition("/")[2])
