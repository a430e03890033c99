"""Checkpoints: a log that begins in the middle, is cut behind, and must not be joined in the past."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from omniq.clock import ManualClock
from omniq.errors import SchemaError, StorageError, StorageUnavailable
from omniq.models import Applied, Insert
from omniq.storage.log import checkpoint, cold, engine, fair
from omniq.storage.log.checkpoint import freeze, thaw
from omniq.storage.log.engine import LogEngine
from omniq.storage.log.port import Manners
from omniq.storage.tables import Tables, handout
from omniq.storage.tables.segment import FORMAT, Segment, decode, encode
from tests.conformance import kit

from .history import History, contents
from .logs import DictLog, DictPlace, once

GRACE = 600.0


class Watch:
    """Seconds that pass when told to, as for a process that is stopped."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    for module in (engine, checkpoint, fair, cold):
        monkeypatch.setattr(module, "seconds", watch)
    monkeypatch.setattr(fair, "time", SimpleNamespace(sleep=watch.pass_))
    return watch


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint every few segments."""
    monkeypatch.setattr(checkpoint, "EVERY", 8)


@pytest.fixture
def place() -> DictPlace:
    return DictPlace()


def engine_on(place: DictPlace, clock: ManualClock | None = None, **manners: int) -> LogEngine:
    log = DictLog(place, Manners(grace=GRACE, **manners))  # type: ignore[arg-type]
    made = LogEngine(log, clock=clock or ManualClock())
    made.open()
    return made


def write(on: LogEngine, count: int = 1) -> list[str]:
    """So many commits of one row each."""
    ids: list[str] = []
    for _ in range(count):
        unit = kit.insert()
        assert on.commit(lambda d, u=unit: d.apply([u])).outcome == [Applied.APPLIED]  # type: ignore[misc]
        on.tend()
        ids.append(unit.row.id)
    return ids


def checkpoints(place: DictPlace) -> list[int]:
    return sorted(int(name[3:]) for name in place.objects if name.startswith("cp/"))


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("seed", range(8))
def test_who_starts_from_a_checkpoint_has_the_tables_of_who_read_it_all(
    seed: int, place: DictPlace, watch: Watch
) -> None:
    clock = ManualClock()
    history = History(seed, engine_on(place, clock), clock.advance)
    whole: dict[int, bytes] = {}
    for step in range(400):
        history.step()
        history.engine.tend()
        watch.pass_(GRACE / 40)
        whole |= place.segments
        if step % 57 == 0:
            late = engine_on(place, clock)
            assert contents(late.tables, clock.now()) == contents(
                history.engine.tables, clock.now()
            )
    assert len(whole) > len(place.segments) + 50, "the log was cut"
    assert min(place.segments) > 50
    again = Tables()
    for _, data in sorted(whole.items()):
        again.play(decode(data))
    late = engine_on(place, clock)
    assert contents(late.tables, clock.now()) == contents(again, clock.now())
    assert late.number == max(whole)


@pytest.mark.parametrize("seed", range(4))
def test_a_checkpoint_is_its_tables(seed: int, place: DictPlace) -> None:
    clock = ManualClock()
    history = History(seed, engine_on(place, clock), clock.advance)
    for _ in range(300):
        history.step()
    tables = history.engine.tables
    read, again = thaw(freeze(tables, 7, "me", clock.now()))
    assert (read.number, read.last) == (7, "me")
    assert contents(again, clock.now()) == contents(tables, clock.now())
    more = History(seed + 100, LogEngine(DictLog(), clock=clock), clock.advance)
    more.engine.tables, more.known = again, history.known
    for _ in range(100):  # and goes on like them
        more.step()


@pytest.mark.usefixtures("often")
def test_the_log_is_cut_only_when_a_checkpoint_has_been_there_for_the_grace(
    place: DictPlace, watch: Watch
) -> None:
    writer = engine_on(place)
    write(writer, 30)
    assert len(checkpoints(place)) > 1
    assert min(place.segments) == 1
    watch.pass_(GRACE / 2)
    write(writer, 12)
    assert min(place.segments) == 1
    watch.pass_(GRACE / 2 + 1)
    write(writer, 12)
    first, *_ = checkpoints(place)
    assert min(place.segments) == first > 1, "a checkpoint's own segment stays with it"
    assert len(engine_on(place).tables.rows) == 54


@pytest.mark.usefixtures("often")
def test_a_commit_to_a_number_that_was_cut_meanwhile_is_void(
    place: DictPlace, watch: Watch
) -> None:
    """Pitfall 2: a process stopped for longer than the grace creates a segment in the past."""
    stopped, going = engine_on(place), engine_on(place)
    write(stopped, 3)
    unit = kit.insert()

    def stop(number: int) -> None:
        stopped.log.before = lambda number: None  # type: ignore[attr-defined]
        for _ in range(6):
            write(going, 12)
            watch.pass_(GRACE / 3)
        assert number not in place.segments, "the number is free again"

    stopped.log.before = stop  # type: ignore[attr-defined]
    receipt = stopped.commit(lambda draft: draft.apply([unit]))
    assert receipt.outcome == [Applied.APPLIED]
    assert stopped.number == max(place.segments)
    assert unit.row.id in engine_on(place).tables.rows
    going.refresh()
    assert contents(going.tables) == contents(stopped.tables)


@pytest.mark.usefixtures("often")
def test_a_reader_that_slept_past_a_cut_begins_again_and_wakes_its_waiters(
    place: DictPlace, watch: Watch
) -> None:
    sleeper, going = engine_on(place), engine_on(place)
    write(sleeper, 2)
    for _ in range(6):
        ids = write(going, 12)
        watch.pass_(GRACE / 3)
    assert min(place.segments) > sleeper.number + 1
    assert sleeper.refresh()
    assert contents(sleeper.tables) == contents(going.tables)
    assert ids[-1] in sleeper.tables.rows


@pytest.mark.usefixtures("often")
def test_a_checkpoint_that_cannot_be_read_gives_way_to_an_older_one(place: DictPlace) -> None:
    writer = engine_on(place)
    write(writer, 40)
    newest = checkpoints(place)[-1]
    place.objects[f"cp/{newest:020d}"] = b"\x93torn"
    assert contents(engine_on(place).tables) == contents(writer.tables)


@pytest.mark.usefixtures("often")
def test_two_writers_do_not_write_the_same_checkpoint_twice(
    place: DictPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = engine_on(place), engine_on(place)
    for _ in range(40):
        for one in both:
            write(one)
    assert len(checkpoints(place)) <= 80 // 8 + 1
    assert contents(engine_on(place).tables) == contents(both[1].tables)


@pytest.mark.usefixtures("often")
def test_a_place_set_back_to_an_older_copy_is_read_again(place: DictPlace, watch: Watch) -> None:
    """Pitfall 5, with the tail behind one's own tables and a checkpoint of what was lost."""
    one = engine_on(place)
    kept = write(one, 5)
    copy = dict(place.segments)
    lost = write(one, 30)
    assert checkpoints(place)
    place.segments = copy
    watch.pass_(engine.CHECK_EVERY + 1)
    assert one.refresh()
    assert set(one.tables.rows) == set(kept)
    assert one.number == 5
    assert not checkpoints(place), "they tell of what was taken back"
    after = write(one, 1)
    other = engine_on(place)
    assert set(other.tables.rows) == {*kept, *after}
    assert lost[0] not in other.tables.rows


@pytest.mark.usefixtures("often")
def test_only_who_knows_every_field_writes_checkpoints(place: DictPlace) -> None:
    writer = engine_on(place)
    write(writer, 2)
    place.segments[3] = encode(Segment(v=FORMAT + 1, id="newer", prev=writer.last))
    write(writer, 40)
    assert not checkpoints(place)


def test_a_checkpoint_only_newer_versions_can_read_is_refused(place: DictPlace) -> None:
    data = freeze(Tables(), 1, "x", 0).replace(b"number", b"NUMBER")
    place.objects[f"cp/{1:020d}"] = data  # no number at all: not readable, so passed over
    assert engine_on(place).number == 0
    newer = replace(thaw(freeze(Tables(), 1, "x", 0))[0], least=FORMAT + 1)
    place.objects[f"cp/{1:020d}"] = checkpoint._ENCODER.encode(newer)
    with pytest.raises(SchemaError, match="upgrade OmniQ"):
        engine_on(place)


@pytest.mark.usefixtures("often")
def test_a_checkpoint_that_fails_harms_no_commit(
    place: DictPlace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = engine_on(place)

    def full(name: str, data: bytes) -> bool:
        raise StorageUnavailable("the disk is full")

    monkeypatch.setattr(writer.log, "keep", full)
    write(writer, 40)
    assert "could not be written" in caplog.text
    monkeypatch.undo()
    assert len(writer.tables.rows) == 40


def test_checkpoints_are_rare_where_they_are_dear(
    place: DictPlace, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes a second is not written again for twenty."""
    monkeypatch.setattr(checkpoint, "EVERY", 4)
    writer = engine_on(place)
    keep = writer.log.keep

    def slow(name: str, data: bytes) -> bool:
        watch.pass_(1.0)
        return keep(name, data)

    monkeypatch.setattr(writer.log, "keep", slow)
    begun = watch.now
    for _ in range(500):
        write(writer)
        watch.pass_(0.1)
    assert len(checkpoints(place)) * 20 <= watch.now - begun + 20


# ---- large values


def stowed(on: LogEngine, *units: Insert) -> list[Applied]:
    parcel = cold.Parcel(on.log.manners)
    ready = parcel.stow(units)
    return on.commit(lambda draft: draft.apply(ready), parcel=parcel).outcome


def body(on: LogEngine, id: str) -> bytes:
    rows, whole = on.cold.unfold([on.tables.rows[id]])
    assert whole
    return bytes(rows[0].body)


VALUES = (b"", b"x", b"\xc1", b"\xc1=", b"\xc1@\x93", b"y" * 2000, b"\xc1" * 3000, b"z" * 70_000)


def test_values_come_back_as_they_were_and_large_ones_are_not_in_memory(place: DictPlace) -> None:
    on = engine_on(place)
    units = [Insert(kit.row(body=value)) for value in VALUES]
    assert stowed(on, *units) == [Applied.APPLIED] * len(VALUES)
    for reader in (on, engine_on(place)):
        assert [body(reader, unit.row.id) for unit in units] == list(VALUES)
        assert max(len(row.body) for row in reader.tables.rows.values()) < 100
    assert len(place.segments[1]) < 4000
    assert sorted(name.split("/")[0] for name in place.objects) == ["big", "pack"]


def test_large_values_are_there_before_the_commit_that_speaks_of_them(place: DictPlace) -> None:
    on = engine_on(place)

    def look(number: int) -> None:
        assert [name.split("/")[0] for name in place.objects] == ["pack"]

    on.log.before = look  # type: ignore[attr-defined]
    stowed(on, Insert(kit.row(body=b"y" * 2000)))
    assert place.segments


def test_a_refused_commit_sends_no_large_value(place: DictPlace) -> None:
    on = engine_on(place)
    unit = Insert(kit.row(body=b"y" * 2000))
    stowed(on, unit)
    before = dict(place.objects)
    assert stowed(on, unit) == [Applied.ALREADY]
    assert place.objects == before


@pytest.mark.usefixtures("often")
def test_a_value_outlives_every_cut_and_goes_with_its_row(place: DictPlace, watch: Watch) -> None:
    """Pitfall 4: bodies must not die with the segments they came in."""
    on = engine_on(place)
    unit = Insert(kit.row(body=b"y" * 2000))
    stowed(on, unit)
    for _ in range(6):
        write(on, 12)
        watch.pass_(GRACE / 2)
    assert min(place.segments) > 1
    late = engine_on(place)
    assert body(late, unit.row.id) == b"y" * 2000
    gone = kit.cancel(unit.row.id)
    on.commit(lambda draft: draft.apply([gone]))
    patch = kit.change(unit.row.id, {"keep_until": 1}, expect=kit.replay("x").expect)
    on.commit(lambda draft: draft.apply([patch]))
    assert on.commit(lambda draft: handout.sweep(draft, 10)) == 1
    assert any(name.startswith("pack/") for name in place.objects), "others may still ask for it"
    for _ in range(6):
        write(on, 12)
        watch.pass_(GRACE / 2)
    assert not any(name.startswith("pack/") for name in place.objects)


@pytest.mark.usefixtures("often")
def test_what_a_killed_process_left_between_value_and_commit_is_swept(
    place: DictPlace, watch: Watch
) -> None:
    killed, on = engine_on(place), engine_on(place)

    class Killed(BaseException):
        pass

    def kill(number: int) -> None:
        raise Killed

    killed.log.before = kill  # type: ignore[attr-defined]
    with pytest.raises(Killed):
        stowed(killed, Insert(kit.row(body=b"y" * 2000)))
    assert [name.split("/")[0] for name in place.objects] == ["pack"]
    for _ in range(6):
        write(on, 12)
        watch.pass_(GRACE / 2)
    assert not any(name.startswith("pack/") for name in place.objects)


@pytest.mark.usefixtures("often")
def test_a_process_stopped_between_value_and_commit_puts_the_value_again(
    place: DictPlace, watch: Watch
) -> None:
    stopped, going = engine_on(place), engine_on(place)
    unit = Insert(kit.row(body=b"y" * 2000))

    def stop(number: int) -> None:
        stopped.log.before = lambda number: None  # type: ignore[attr-defined]
        for _ in range(6):
            write(going, 12)
            watch.pass_(GRACE / 2)
        assert not any(name.startswith("pack/") for name in place.objects)

    stopped.log.before = stop  # type: ignore[attr-defined]
    assert stowed(stopped, unit) == [Applied.APPLIED]
    assert body(engine_on(place), unit.row.id) == b"y" * 2000


def test_a_commit_that_is_decided_again_sends_its_values_once(place: DictPlace) -> None:
    on, rival = engine_on(place), engine_on(place)
    on.log.before = once(lambda: write(rival))  # type: ignore[attr-defined]
    stowed(on, Insert(kit.row(body=b"y" * 2000)))
    assert len([call for call in on.log.calls if call.startswith("keep")]) == 1  # type: ignore[attr-defined]
    assert len(on.tables.rows) == 2


def test_a_log_with_neither_start_nor_checkpoint_is_refused(place: DictPlace) -> None:
    write(engine_on(place), 5)
    del place.segments[1]
    with pytest.raises(StorageError, match="restore the place"):
        engine_on(place)
