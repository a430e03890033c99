"""The commit log: tables in each process, one numbered row of segments that all agree on.

A commit is decided on tables that are exactly N and put as N + 1 if there is none yet: that
the put went through is the proof that nothing came between. If it did not, the tail is read
and played. A segment found there with this commit's own id was put by an earlier try whose
answer got lost; otherwise the commit is decided again. Replay runs no rule (see `state`).

Two things would break the proof, and are looked for. A number whose segment was cut can be
created again in most places: what a process that was stopped for long has put is checked
against the checkpoints. And a place may be restored from a copy, or lose its end: segments
name the one before them, and a tail behind one's own tables means to begin again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import TypeVar

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import StorageError, StorageUnavailable
from omniq.ids import uuid7
from omniq.models.row import Ms, TaskRow
from omniq.storage.hub import Hub
from omniq.storage.log.checkpoint import Keeper
from omniq.storage.log.cold import Cold, Parcel
from omniq.storage.log.fair import Turns
from omniq.storage.log.port import Log, Rewound
from omniq.storage.log.pulse import LogClock, seconds
from omniq.storage.tables import Tables
from omniq.storage.tables.decide import Draft
from omniq.storage.tables.segment import Segment, decode, encode

T = TypeVar("T")

TRIES = 5
"""How often a put whose answer is unknown is sent again before the caller is told."""
CUT_EVERY = 64
"""Segments are cut by so many at once where nobody begins to read later."""
CHECK_EVERY = 10.0
"""Seconds after which an idle reader looks whether its own last segment is still there."""


class LogEngine:
    """One reader and writer of a log. Its methods block and may be called from any thread."""

    def __init__(self, log: Log, *, clock: Clock = SYSTEM_CLOCK, hub: Hub | None = None) -> None:
        self.clock = clock
        self.hub = hub or Hub()
        self.tables = Tables()
        self.number = 0
        """The last segment the tables hold."""
        self.last = ""
        """Its commit id."""
        self.log = log
        self.cold = Cold(log)
        self.keeper = Keeper(log, lambda: self.clock.now())
        self._turns = Turns()
        self._cut = 1
        self._seen = seconds()
        self._checked = seconds()
        self._topics: set[str] = set()
        self._begun_again = False
        self._lock = threading.RLock()

    def open(self) -> None:
        """Connect, take the place's time, and read what it holds."""
        self.log.open()
        if self.clock is SYSTEM_CLOCK:
            self.clock = LogClock.of(self.log) or SYSTEM_CLOCK
        with self._lock:
            self._reload()
            self._catch_up()
            self._turns = Turns()  # what was read so far tells nothing of who is there now
            self._tell()

    def close(self) -> None:
        """Let go of the log."""
        self.log.close()

    def commit(
        self, decide: Callable[[Draft], T], *, who: str = "", parcel: Parcel | None = None
    ) -> T:
        """Decide and write; the answer given is that of the decision that went through.

        `decide` may be called several times and must change nothing but its draft. `parcel`
        holds the large values it speaks of; they go out before the segment does.
        """
        with self._lock:
            try:
                return self._commit(decide, who, parcel or _NOTHING)
            finally:
                self._tell()

    def look(self, ask: Callable[[Tables, Ms], T]) -> T:
        """Read the tables as they stand here."""
        with self._lock:
            return ask(self.tables, self.clock.now())

    def refresh(self, *, sure: bool = True) -> bool:
        """Take in what others have committed; whether there was anything.

        Not `sure`: what is at hand will do, and the place is not asked if that was all.
        """
        with self._lock:
            try:
                return self._catch_up(sure=sure)[0]
            finally:
                self._tell()

    def tend(self) -> None:
        """What can wait until nobody waits: a checkpoint that is due, a cut."""
        with self._lock:
            if isinstance(self.clock, LogClock):
                self.clock.keep_pace()
            if not self.log.manners.checkpoints:
                return
            if self.keeper.tend(self.tables, self.number, self.last, self.clock.now()):
                self._clear_up()

    def _clear_up(self) -> None:
        # In this order: whoever committed one of these values has done so in what is read now.
        there = self.keeper.values()
        try:
            self._catch_up()
        finally:
            self._tell()
        self.keeper.clear(self.tables, there)

    # -- writing --

    def _commit(self, decide: Callable[[Draft], T], who: str, parcel: Parcel) -> T:
        id, shared = uuid7(), self.log.manners.checkpoints
        if shared:
            self._turns.wait()
        while True:
            crowded = shared and self._turns.crowded()
            if crowded:
                self._catch_up()  # what takes long is done before others have to wait for it
            with self.log.turn() if crowded else nullcontext():
                if crowded:
                    self._catch_up()
                draft = Draft(self.tables, self.clock.now())
                answer = decide(draft)
                segment = draft.segment
                if not segment:
                    # Only what others wrote can make a difference.
                    new, _ = self._catch_up()
                    if not new:
                        return answer
                    continue
                segment.id, segment.prev, segment.who = id, self.last, who
                parcel.send(self.log)
                if self._put(segment, draft.rows, parcel):
                    return answer

    def _put(self, segment: Segment, rows: Mapping[str, TaskRow], parcel: Parcel) -> bool:
        """Whether the segment is in the log; False: it has to be decided again."""
        data = encode(segment)
        if len(data) > self.log.manners.segment_bytes:
            raise TooLarge(
                f"a commit of {len(data)} bytes, the log takes {self.log.manners.segment_bytes}"
            )
        tries = 0
        while True:
            begun = seconds()
            try:
                created = self.log.put(self.number + 1, data)
            except StorageUnavailable:
                tries += 1
                if tries == TRIES:
                    raise
                created = None
            if created:
                if self._was_cut_behind():
                    return False
                self._turns.won(seconds() - begun)
                self._seen = begun
                parcel.confirm(self.log)
                self.cold.remember(parcel)
                self._play(segment, len(data), rows)
                self.keeper.mine()
                return True
            new, mine = self._catch_up(segment.id)
            if mine:
                parcel.confirm(self.log)
                return True
            if new:
                self._turns.lost()
                return False
            if created is not None:
                if self._begin_again_if_lost():
                    return False
                tries += 1
                if tries == TRIES:
                    raise StorageUnavailable(
                        f"segment {self.number + 1} is there but cannot be read yet"
                    )
            # Nobody came between, so what was decided still holds. It has to go out as it is:
            # the first try may yet arrive, and this answer must fit either.

    def _was_cut_behind(self) -> bool:
        """Whether this process was away so long that what follows its tables may be void.

        A segment is cut when a checkpoint after it has been there for the grace, so none that
        follows what was the newest a moment ago. Later, who puts or finds such a number asks for
        the checkpoints first: in most places a number that was cut can be created again, and
        several processes of one machine wake up together.
        """
        manners = self.log.manners
        if not manners.checkpoints or seconds() - self._seen <= manners.grace / 2:
            return False
        begun = seconds()
        if self.keeper.newest() <= self.number:
            self._seen = begun
            return False
        self._reload()
        return True

    # -- reading --

    def _catch_up(self, id: str = "", *, sure: bool = True) -> tuple[bool, bool]:
        """Play the tail: whether there was any, and whether commit `id` was in it."""
        new = mine = False
        broken = 0
        while True:
            begun = seconds()
            try:
                found = self.log.read_on(self.number + 1)
            except Rewound:
                self._reload()
                new = True
                continue
            if self._was_cut_behind():
                new = True
                continue
            if not found:
                if self._should_check() and self._begin_again_if_lost():
                    new = True
                    continue
                self._seen = begun
                if new and self.log.manners.checkpoints:
                    self._turns.others()
                return new, mine
            for data in found:
                segment = decode(data)
                if segment.prev != self.last:
                    if broken == self.number + 1:
                        raise StorageError(
                            f"segment {broken} of the log does not follow the one before it, as "
                            "in a copy that was restored in part, or while processes went on: "
                            "stop them all and restore it whole, or use another namespace"
                        )
                    broken = self.number + 1
                    self._reload()  # the log was restored or replaced behind our back
                    break
                self._play(segment, len(data))
                mine = mine or segment.id == id
            new = True
            self._turns.read((seconds() - begun) / len(found))
            if not sure:
                self._turns.others()
                return new, mine

    def _play(self, segment: Segment, size: int, rows: Mapping[str, TaskRow] | None = None) -> None:
        self._topics |= self.tables.play(segment, rows)
        self.number += 1
        self.last = segment.id
        self.keeper.played(size, segment.v)
        if not self.log.manners.checkpoints and self.number - self._cut >= CUT_EVERY:
            # The newest one stays, so that its number cannot be created again.
            self._cut = self.number
            self.log.cut(self._cut)

    def _should_check(self) -> bool:
        return self.log.manners.checkpoints and seconds() - self._checked > CHECK_EVERY

    def _begin_again_if_lost(self) -> bool:
        """Where nothing follows one's own tables: are they still a part of this log?"""
        self._checked = seconds()
        if self.number:
            try:
                found = self.log.read_on(self.number)
            except Rewound:
                found = ()
            if found and decode(found[0]).id == self.last:
                return False
        elif self.log.first() <= 1:
            return False
        self._reload()
        return True

    def _reload(self) -> None:
        """Begin again from the newest checkpoint."""
        if self.number:
            self._begun_again = True
        begun = seconds()
        start = self.keeper.load()
        if start is None:
            if self.log.first() > 1:
                raise StorageError(
                    f"the log starts at {self.log.first()} and there is no checkpoint before "
                    "it: restore the place from a copy, or use another namespace"
                )
            self.tables, self.number, self.last = Tables(), 0, ""
        else:
            self.tables, self.number, self.last = start
        self._checked, self._seen = seconds(), begun

    def _tell(self) -> None:
        topics, self._topics = self._topics, set()
        if self._begun_again:
            self._begun_again = False
            self.hub.alert()
        elif topics:
            self.hub.signal(topics)


class TooLarge(StorageError):
    """A commit is larger than the log takes in one segment."""


_NOTHING = Parcel()
