"""The commit log: what two writers, a lost answer and a replay must not be able to break."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from omniq.clock import ManualClock
from omniq.errors import SchemaError, StorageError, StorageUnavailable
from omniq.models import Applied, Insert, Status, Unique
from omniq.storage.log import engine as log
from omniq.storage.log.engine import LogEngine
from omniq.storage.log.port import Log
from omniq.storage.memory import MemoryLog
from omniq.storage.tables import Tables, handout
from omniq.storage.tables.segment import FORMAT, Segment, encode
from tests.conformance import kit

from .history import History, contents, statuses
from .logs import DictLog, away, once


def engine_on(log: Log) -> LogEngine:
    return LogEngine(log, clock=ManualClock())


@pytest.mark.parametrize("seed", range(8))
def test_replaying_the_log_gives_the_live_tables(seed: int) -> None:
    clock, whole = ManualClock(), DictLog()
    history = History(seed, LogEngine(whole, clock=clock), clock.advance)
    for _ in range(400):
        history.step()
    live = history.engine.tables
    assert len(statuses(live)) > 4, "the history went somewhere"
    again = Tables()
    for segment in whole.place.decoded():
        again.play(segment)
    assert contents(again, clock.now()) == contents(live, clock.now())


@pytest.mark.parametrize("seed", range(4))
def test_a_commit_lost_to_another_is_decided_again_and_both_agree(seed: int) -> None:
    """Somebody else gets in before the put of every commit; what was decided leaves no trace."""
    clock, whole = ManualClock(), DictLog()
    first, second = LogEngine(whole, clock=clock), LogEngine(whole, clock=clock)
    intruders: list[Callable[[], object]] = []

    def intrude(number: int) -> None:
        if intruders:
            intruders.pop()()

    whole.before = intrude
    history = History(seed, first, clock.advance)
    for _ in range(100):
        intruders[:] = [lambda: second.commit(lambda d: d.apply([kit.insert(queue="a")]))]
        history.step()
    assert sum(segment.ins[:1] != [] for segment in whole.place.decoded()) > 60
    second.refresh()
    assert contents(first.tables, clock.now()) == contents(second.tables, clock.now())


def test_two_engines_race_and_every_task_is_handed_out_once() -> None:
    whole = DictLog()
    engines = [engine_on(whole), engine_on(whole)]
    got: list[list[str]] = [[], []]

    def work(me: int) -> None:
        engine = engines[me]
        for n in range(60):
            engine.commit(lambda draft: draft.apply([kit.insert(), kit.insert()]))
            asked = kit.claim(f"w{me}", limit=2, request=f"{me}-{n}")
            tasks = engine.commit(lambda draft, a=asked: handout.claim(draft, a)).tasks  # type: ignore[misc]
            units = [kit.finish(task) for task in tasks]
            receipt = engine.commit(lambda draft, u=units: draft.apply(u))  # type: ignore[misc]
            assert receipt.outcome == [Applied.APPLIED] * len(units)
            got[me] += [task.id for task in tasks]

    threads = [threading.Thread(target=work, args=(me,)) for me in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for engine in engines:
        engine.refresh()
    assert contents(engines[0].tables) == contents(engines[1].tables)
    ended = [r.id for r in engines[0].tables.rows.values() if r.status is Status.SUCCEEDED]
    assert sorted(got[0] + got[1]) == sorted(ended)
    assert len(ended) > 200
    assert len(engines[0].tables.rows) == 240


def test_who_comes_second_decides_again_on_what_the_first_wrote() -> None:
    whole = DictLog()
    first, second = engine_on(whole), engine_on(whole)
    rival = kit.insert(unique=Unique("u"))
    whole.before = once(lambda: second.commit(lambda draft: draft.apply([rival])))
    receipt = first.commit(lambda draft: draft.apply([kit.insert(unique=Unique("u"))]))
    assert receipt.outcome == [Applied.REFUSED]
    assert receipt.taken == {0: rival.row.id}
    assert len(whole.place.decoded()) == 1, "a refusal writes nothing"


def test_a_commit_whose_answer_was_lost_is_known_by_its_id() -> None:
    whole = DictLog()
    engine = engine_on(whole)
    whole.after = once(StorageUnavailable("the answer got lost"))
    unit = kit.insert()
    receipt = engine.commit(lambda draft: draft.apply([unit]))
    assert receipt.outcome == [Applied.APPLIED], "not ALREADY: it was this very commit"
    assert len(whole.place.decoded()) == 1
    assert engine.number == 1


def test_a_put_that_a_driver_sent_twice_is_known_by_its_id() -> None:
    """obstore retries a put by itself and then says that the segment exists: it is ours."""

    class Retrying(DictLog):
        def put(self, number: int, data: bytes) -> bool:
            super().put(number, data)
            return super().put(number, data)

    whole = Retrying()
    engine = engine_on(whole)
    assert engine.commit(lambda draft: draft.apply([kit.insert()])).outcome == [Applied.APPLIED]
    asked = kit.claim()
    [task] = engine.commit(lambda draft: handout.claim(draft, asked)).tasks
    assert engine.tables.rows[task.id] == task
    assert len(whole.place.decoded()) == 2


def test_a_commit_that_never_arrived_is_sent_again() -> None:
    whole = DictLog()
    engine = engine_on(whole)
    whole.before = once(StorageUnavailable("the request got lost"))
    assert engine.commit(lambda draft: draft.apply([kit.insert()])).outcome == [Applied.APPLIED]
    assert len(whole.place.decoded()) == 1


def test_a_place_that_stays_away_is_told_and_harms_nothing() -> None:
    whole = DictLog()
    engine = engine_on(whole)

    whole.before = away
    with pytest.raises(StorageUnavailable):
        engine.commit(lambda draft: draft.apply([kit.insert()]))
    assert contents(engine.tables) == contents(Tables())
    whole.before = lambda number: None
    assert engine.commit(lambda draft: draft.apply([kit.insert()])).outcome == [Applied.APPLIED]


def test_a_commit_that_arrived_after_its_caller_gave_up_is_found_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log, "TRIES", 1)
    whole = DictLog()
    engine = engine_on(whole)
    whole.after = once(StorageUnavailable("the answer got lost"))
    unit = kit.insert()
    with pytest.raises(StorageUnavailable):
        engine.commit(lambda draft: draft.apply([unit]))
    assert engine.commit(lambda draft: draft.apply([unit])).outcome == [Applied.ALREADY]
    assert len(whole.place.decoded()) == 1


def test_a_log_that_was_restored_is_read_again_from_its_start() -> None:
    old, engine_log = DictLog(), DictLog()
    engine = engine_on(engine_log)
    lost = kit.insert()
    engine.commit(lambda draft: draft.apply([lost]))
    other = engine_on(old)
    kept = [kit.insert() for _ in range(3)]
    for unit in kept:
        other.commit(lambda draft, u=unit: draft.apply([u]))  # type: ignore[misc]
    engine.log = old  # somebody put back another copy of the place
    engine.commit(lambda draft: draft.apply([kit.insert()]))
    assert lost.row.id not in engine.tables.rows
    assert set(engine.tables.rows) > {unit.row.id for unit in kept}
    other.refresh()
    assert contents(engine.tables) == contents(other.tables)


def test_a_segment_of_a_later_version_is_refused() -> None:
    whole = DictLog()
    whole.put(1, encode(Segment(v=FORMAT + 1, least=FORMAT + 1, id="x")))
    with pytest.raises(SchemaError, match="upgrade OmniQ"):
        engine_on(whole).refresh()


def test_a_segment_of_a_later_version_that_says_it_can_be_read_is() -> None:
    whole = DictLog()
    whole.put(1, encode(Segment(v=FORMAT + 1, id="x", ins=[kit.row()])))
    engine = engine_on(whole)
    engine.refresh()
    assert len(engine.tables.rows) == 1


def test_memory_keeps_no_segment_that_was_played() -> None:
    memory = MemoryLog()
    engine = engine_on(memory)
    for _ in range(200):
        engine.commit(lambda draft: draft.apply([kit.insert()]))
    assert not memory.read_on(1)
    assert memory.read_on(200), "else its number could be created again"
    assert len(memory.names("log/")) <= 64


def test_a_log_without_its_start_is_not_read_as_if_it_were_whole() -> None:
    whole = DictLog()
    writer = engine_on(whole)
    for _ in range(5):
        writer.commit(lambda draft: draft.apply([kit.insert()]))
    whole.cut(3)
    with pytest.raises(StorageError, match="starts at 3"):
        engine_on(whole).open()


def test_nothing_is_written_where_nothing_was_decided() -> None:
    whole = DictLog()
    engine = engine_on(whole)
    asked = kit.claim(chores=3)
    assert engine.commit(lambda draft: handout.claim(draft, asked)).tasks == []
    assert engine.commit(lambda draft: handout.extend(draft, "w1", 1000, ())).unknown == ()
    assert engine.commit(lambda draft: handout.sweep(draft, 10)) == 0
    assert whole.place.decoded() == []


def test_an_idle_claim_finds_what_another_engine_wrote() -> None:
    whole = DictLog()
    one, other = engine_on(whole), engine_on(whole)
    unit = kit.insert()
    other.commit(lambda draft: draft.apply([unit]))
    asked = kit.claim()
    [task] = one.commit(lambda draft: handout.claim(draft, asked)).tasks
    assert task.id == unit.row.id


def test_a_segment_changes_rows_by_named_fields() -> None:
    """So a writer of an older version cannot drop a field it does not know."""
    whole = DictLog()
    engine = engine_on(whole)
    unit = Insert(kit.row(body=b"x" * 100))
    engine.commit(lambda draft: draft.apply([unit]))
    engine.commit(lambda draft: draft.apply([kit.change(unit.row.id, {"priority": 5})]))
    segment = whole.place.decoded()[1]
    assert segment.set == {unit.row.id: {"priority": 5}}
    assert segment.ins == []
    assert segment.prev == whole.place.decoded()[0].id
