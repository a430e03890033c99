"""The commit log: tables in each process, one numbered row of segments that all agree on.

A commit is decided on tables that are exactly N and put as N + 1 if there is none yet: that
the put went through is the proof that nothing came between. If it did not, the tail is read
and played. A segment found there with this commit's own id was put by an earlier try whose
answer got lost; otherwise the commit is decided again. Replay runs no rule (see `state`).

A place needs no more than a `Log`. Checkpoints and packs, with which a log can be cut and
started from the middle, come with the first place that outlives its process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import SchemaError, StorageError, StorageUnavailable
from omniq.ids import uuid7
from omniq.models.row import Ms, TaskRow
from omniq.storage.hub import Hub
from omniq.storage.tables import Tables
from omniq.storage.tables.decide import Draft
from omniq.storage.tables.segment import FORMAT, Segment, decode, encode

T = TypeVar("T")

TRIES = 5
"""How often a put whose answer is unknown is sent again before the caller is told."""


class Log(Protocol):
    """A place for numbered segments, counted from 1 without gaps."""

    def put(self, number: int, data: bytes) -> bool:
        """Create a segment; False if there is one with this number.

        Raises StorageUnavailable when it cannot be known whether it was created.
        """
        ...

    def read(self, number: int) -> bytes | None:
        """A segment, or None if there is none yet."""
        ...

    def first(self) -> int:
        """The oldest number still kept (1 in an empty log)."""
        ...

    def played(self, reader: object, number: int) -> None:
        """A reader has taken in everything up to `number`; 0 when it begins."""
        ...

    def left(self, reader: object) -> None:
        """A reader has gone."""
        ...


class LogEngine:
    """One reader and writer of a log. Its methods block and may be called from any thread."""

    def __init__(self, log: Log, *, clock: Clock = SYSTEM_CLOCK, hub: Hub | None = None) -> None:
        self.clock = clock
        self.hub = hub or Hub()
        self.tables = Tables()
        self.number = 0
        """The last segment the tables hold."""
        self._log = log
        self._last = ""
        self._topics: set[str] = set()
        self._lock = threading.Lock()
        log.played(self, 0)

    def commit(self, decide: Callable[[Draft], T], *, who: str = "") -> T:
        """Decide and write; the answer given is that of the decision that went through.

        `decide` may be called several times and must change nothing but its draft.
        """
        with self._lock:
            try:
                answer = self._commit(decide, who)
            finally:
                topics, self._topics = self._topics, set()
        self.hub.signal(topics)
        return answer

    def look(self, ask: Callable[[Tables, Ms], T]) -> T:
        """Read the tables as they stand here."""
        with self._lock:
            return ask(self.tables, self.clock.now())

    def refresh(self) -> bool:
        """Take in what others have committed; whether there was anything."""
        with self._lock:
            new, _ = self._catch_up()
            topics, self._topics = self._topics, set()
        self.hub.signal(topics)
        return new

    def close(self) -> None:
        """Stop reading the log. What it holds stays."""
        self._log.left(self)

    def _commit(self, decide: Callable[[Draft], T], who: str) -> T:
        id, tries = uuid7(), 0
        while True:
            draft = Draft(self.tables, self.clock.now())
            answer = decide(draft)
            segment = draft.segment
            if not segment:
                # Only what others wrote can make a difference.
                new, _ = self._catch_up()
                if not new:
                    return answer
                continue
            segment.id, segment.prev, segment.who = id, self._last, who
            data = encode(segment)
            while True:
                try:
                    created = self._log.put(self.number + 1, data)
                except StorageUnavailable:
                    tries += 1
                    if tries == TRIES:
                        raise
                    created = None
                if created:
                    self._play(segment, draft.rows)
                    return answer
                new, mine = self._catch_up(id)
                if mine:
                    return answer
                if new:
                    break
                if created is not None:
                    raise StorageError(f"segment {self.number + 1} exists but cannot be read")
                # Nobody came between, so what was decided still holds. It has to go out as
                # it is: the first try may yet arrive, and this answer must fit either.

    def _catch_up(self, id: str = "") -> tuple[bool, bool]:
        """Play the tail: whether there was any, and whether commit `id` was in it."""
        new = mine = False
        while (data := self._log.read(self.number + 1)) is not None:
            segment = decode(data)
            if segment.v > FORMAT:
                raise SchemaError(
                    f"segment {self.number + 1} has format {segment.v}, "
                    f"this version reads up to {FORMAT}"
                )
            if segment.prev != self._last:
                self._forget()  # the log was restored or replaced behind our back
                continue
            self._play(segment)
            new = True
            mine = mine or segment.id == id
        if self._log.first() > self.number + 1:
            raise StorageError(
                f"the log cannot be read on from {self.number + 1}: "
                f"it starts at {self._log.first()} by now"
            )
        return new, mine

    def _play(self, segment: Segment, rows: Mapping[str, TaskRow] | None = None) -> None:
        self._topics |= self.tables.play(segment, rows)
        self.number += 1
        self._last = segment.id
        self._log.played(self, self.number)

    def _forget(self) -> None:
        """Begin again with empty tables."""
        if not self.number:
            raise StorageError("the first segment of the log follows one that is not there")
        self.tables = Tables()
        self.number, self._last = 0, ""
        self._log.played(self, 0)
