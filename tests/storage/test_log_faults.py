"""A log that answers late, wrongly or twice; versions side by side; turns between processes."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from omniq.clock import ManualClock
from omniq.errors import StorageUnavailable
from omniq.models import Applied, Unit
from omniq.models.row import Ms
from omniq.models.units import Receipt
from omniq.storage.log import checkpoint, cold
from omniq.storage.log import engine as engine_module
from omniq.storage.log import fair, pulse
from omniq.storage.log.engine import LogEngine
from omniq.storage.log.port import Manners, Rewound
from omniq.storage.log.pulse import LogClock
from omniq.storage.tables import handout
from omniq.storage.tables.decide import Draft
from tests.conformance import kit

from .history import contents
from .logs import DictLog, DictPlace, once


def engine_on(log: DictLog) -> LogEngine:
    return LogEngine(log, clock=ManualClock())


def write(on: LogEngine, count: int = 1) -> list[str]:
    ids: list[str] = []
    for _ in range(count):
        unit = kit.insert()
        assert on.commit(_apply(unit)).outcome == [Applied.APPLIED]
        ids.append(unit.row.id)
    return ids


def _apply(*units: Unit) -> Callable[[Draft], Receipt]:
    return lambda draft: draft.apply(units)


class Stale(DictLog):
    """Shows nothing new for some reads, as a store does that is consistent only in time."""

    blind = 0

    def read_on(self, number: int) -> Sequence[bytes]:
        found = super().read_on(number)
        if self.blind and found and number > 1:
            self.blind -= 1
            return ()
        return found


def test_a_segment_that_is_there_and_not_yet_seen_is_waited_for() -> None:
    place = DictPlace()
    stale = Stale(place)
    one, other = engine_on(stale), engine_on(DictLog(place))
    write(one)
    write(other, 2)
    stale.blind = 2
    write(one)
    assert len(one.tables.rows) == 4


def test_a_segment_that_stays_unseen_is_a_reason_to_try_later() -> None:
    place = DictPlace()
    hides = Stale(place)
    one, other = engine_on(hides), engine_on(DictLog(place))
    write(one)
    write(other)
    read_on = hides.read_on
    hides.read_on = lambda number: () if number > 1 else read_on(number)  # type: ignore[method-assign]
    with pytest.raises(StorageUnavailable, match="cannot be read yet"):
        write(one)
    hides.read_on = read_on  # type: ignore[method-assign]
    write(one)
    assert len(one.tables.rows) == 3


def test_a_log_that_says_it_was_rewound_is_read_again() -> None:
    class Sequenced(DictLog):
        """Like a stream: it knows its end, and refuses what does not follow on it."""

        def put(self, number: int, data: bytes) -> bool:
            return number == max(self.place.segments, default=0) + 1 and super().put(number, data)

        def read_on(self, number: int) -> Sequence[bytes]:
            if max(self.place.segments, default=0) < number - 1:
                raise Rewound("it ends before")
            return super().read_on(number)

    place = DictPlace()
    one = engine_on(Sequenced(place))
    kept = write(one, 3)
    copy = dict(place.segments)
    write(one, 4)
    place.segments = copy
    new = write(one)
    assert set(one.tables.rows) == {*kept, *new}
    assert max(place.segments) == 4


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_exchange_whose_answer_is_lost_is_done_once(when: str) -> None:
    log = DictLog()
    engine = engine_on(log)
    write(engine, 3)
    [first] = engine.commit(lambda d: handout.claim(d, kit.claim(limit=1))).tasks
    asked, units = kit.claim(limit=1), [kit.finish(first)]
    setattr(log, when, once(StorageUnavailable("cut")))
    receipt, batch = engine.commit(lambda d: (d.apply(units), handout.claim(d, asked)))
    assert receipt.outcome == [Applied.APPLIED]
    assert len(batch.tasks) == 1
    again = engine.commit(lambda d: (d.apply(units), handout.claim(d, asked)))
    assert again[0].outcome == [Applied.REFUSED]
    assert again[1].tasks == batch.tasks, "the request is known"
    read = engine_on(DictLog(log.place))
    read.refresh()
    assert contents(read.tables) == contents(engine.tables)


def test_a_reply_lost_while_another_writes_is_not_taken_for_a_defeat() -> None:
    """The put went through and its answer did not; by then somebody has written after it."""
    place = DictPlace()
    log = DictLog(place)
    one, other = engine_on(log), engine_on(DictLog(place))

    def lose(number: int) -> None:
        log.after = lambda number: None
        write(other)
        raise StorageUnavailable("cut")

    log.after = lose
    [id] = write(one)
    assert len(place.segments) == 2
    assert id in one.tables.rows
    assert one.number == 2


# ---- versions side by side


def test_an_older_writer_leaves_a_newer_one_s_field_alone() -> None:
    """Pitfall 22: it does not know the field, and never says anything of it."""
    log = DictLog()
    old = engine_on(log)
    [id] = write(old)
    raw: dict[str, Any] = {
        "v": 2,
        "id": "newer",
        "prev": old.last,
        "set": {id: {"mood": "fine", "priority": 3}},
        "moods": {"also": "new"},
    }
    log.place.segments[2] = msgspec.msgpack.encode(raw)
    old.commit(lambda d: d.apply([kit.change(id, {"tags": ("t",)})]))
    assert old.tables.rows[id].priority == 3
    assert log.place.decoded()[2].set == {id: {"tags": ("t",)}}


# ---- turns


class Baton:
    """Threads of which one runs at a time, by a clock that jumps to whoever sleeps least long."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._changed = threading.Condition()
        self._due: dict[int, float] = {}
        self._turn = -1

    def seconds(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        me = threading.get_ident()
        with self._changed:
            self._due[me] = self.now + seconds
            self._hand_on()
            self._changed.wait_for(lambda: self._turn == me)

    def run(self, *works: Callable[[], None]) -> None:
        """Do all of it, each in its thread, beginning a little after the one before."""
        there = threading.Barrier(len(works) + 1)

        def do(late: int, work: Callable[[], None]) -> None:
            me = threading.get_ident()
            with self._changed:
                self._due[me] = self.now + late / 1000
            there.wait()
            with self._changed:
                self._changed.wait_for(lambda: self._turn == me)
            try:
                work()
            finally:
                with self._changed:
                    del self._due[me]
                    self._hand_on()

        threads = [threading.Thread(target=do, args=each) for each in enumerate(works)]
        for thread in threads:
            thread.start()
        there.wait()
        with self._changed:
            self._hand_on()
        for thread in threads:
            thread.join()

    def _hand_on(self) -> None:
        if self._due:
            self._turn = min(self._due, key=self._due.__getitem__)
            self.now = max(self.now, self._due[self._turn])
        self._changed.notify_all()


@pytest.mark.parametrize("seed", range(5))
def test_every_process_gets_its_turn_on_a_slow_log(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pitfall 1: the last winner needs no read, and without the rule would win them all."""
    place, baton = DictPlace(), Baton()
    for module in (engine_module, checkpoint, fair, cold):
        monkeypatch.setattr(module, "seconds", baton.seconds)
    monkeypatch.setattr(fair, "time", SimpleNamespace(sleep=baton.sleep))
    chance = Random(seed)
    monkeypatch.setattr(fair, "random", chance)
    ended, goal = Counter[int](), 240

    class Slow(DictLog):
        """As over a network, on which not everything takes equally long.

        Nothing is so quick, though, that a read and a put are over before a put alone.
        """

        def read_on(self, number: int) -> Sequence[bytes]:
            baton.sleep(chance.uniform(0.0016, 0.0024))
            return super().read_on(number)

    def work(me: int) -> None:
        log = Slow(place)
        log.before = lambda number: baton.sleep(chance.uniform(0.0032, 0.0048))
        engine = engine_on(log)
        while sum(ended.values()) < goal:
            write(engine)
            ended[me] += 1

    baton.run(*(partial(work, me) for me in range(4)))
    assert min(ended[me] for me in range(4)) > 0.1 * goal, ended


def test_who_is_alone_hardly_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    monkeypatch.setattr(fair, "time", SimpleNamespace(sleep=paused.append))
    engine = engine_on(DictLog())
    write(engine, 80)
    assert len(paused) <= 80 // fair.EVERY


def test_a_winner_pauses_long_enough_for_whoever_tries_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, paused = [100.0], list[float]()

    def sleep(seconds: float) -> None:
        paused.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(fair, "seconds", lambda: now[0])
    monkeypatch.setattr(fair, "time", SimpleNamespace(sleep=sleep))
    turns = fair.Turns()

    def win(times: int) -> list[float]:
        paused.clear()
        for _ in range(times):
            turns.won(0.02)
            turns.wait()
        return paused

    assert win(fair.EVERY - 1) == []
    assert win(1) == [pytest.approx(0.06)], "a read, a put that fails, a put that does not"
    assert win(2 * fair.EVERY - 1) == [], "nobody came: the next one is further off"
    assert len(win(1)) == 1
    turns.read(0.01)
    turns.lost()
    assert turns.crowded()
    assert all(0.01 <= pause <= 0.0201 for pause in win(fair.EVERY - 1))
    assert len(paused) == fair.EVERY - 1, "after each win while others are there"
    now[0] += fair.RECENT
    assert not turns.crowded()
    assert win(1) == [pytest.approx(0.04)]
    assert win(fair.EVERY) == []


# ---- time


class Clocked(DictLog):
    """A place with a clock of its own."""

    time: Ms = kit.START

    def now(self) -> Ms | None:
        return self.time


def test_the_place_is_asked_for_the_time_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(pulse, "seconds", lambda: now[0])
    log = Clocked()
    clock = LogClock.of(log)
    assert clock is not None
    log.time += 50_000
    began = clock.now()
    now[0] += 60
    clock.keep_pace()
    assert clock.now() == began + 60_000
    now[0] += LogClock.AGAIN
    clock.keep_pace()
    assert clock.now() == log.now()


def test_a_clock_that_does_not_answer_goes_on_at_its_own_pace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(pulse, "seconds", lambda: now[0])
    log = Clocked()
    clock = LogClock.of(log)
    assert clock is not None
    began = clock.now()

    def away() -> Ms:
        raise StorageUnavailable("away")

    log.now = away  # type: ignore[method-assign]
    now[0] += 2 * LogClock.AGAIN
    clock.keep_pace()
    assert clock.now() == began + 2000 * LogClock.AGAIN


def test_a_manual_clock_is_left_alone() -> None:
    log = Clocked(DictPlace(), Manners())
    clock = ManualClock()
    engine = LogEngine(log, clock=clock)
    engine.open()
    assert engine.clock is clock
