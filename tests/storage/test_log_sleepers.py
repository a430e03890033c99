"""Processes that were away: asleep past a cut, on old tables, beside a place that was set back."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from omniq.clock import ManualClock
from omniq.errors import StorageError
from omniq.models import Applied, Insert
from omniq.storage.log import checkpoint, cold, engine, fair
from omniq.storage.log.cold import Parcel
from omniq.storage.log.engine import LogEngine
from omniq.storage.log.port import Manners
from omniq.storage.tables.segment import Segment, encode
from tests.conformance import kit

from .history import contents
from .logs import DictLog, DictPlace
from .test_log_checkpoints import Watch

GRACE = 600.0
SHARD = 8


class ShardLog(DictLog):
    """Removes numbers by the shard only, as directories and buckets do."""

    reads = 0

    def cut(self, before: int) -> None:
        super().cut(before // SHARD * SHARD)

    def read_on(self, number: int) -> Sequence[bytes]:
        self.reads += 1
        assert self.reads < 10_000, "it reads for ever"
        return super().read_on(number)


@pytest.fixture(autouse=True)
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    for module in (engine, checkpoint, fair, cold):
        monkeypatch.setattr(module, "seconds", watch)
    monkeypatch.setattr(fair, "time", SimpleNamespace(sleep=watch.pass_))
    monkeypatch.setattr(checkpoint, "EVERY", 8)
    return watch


@pytest.fixture
def place() -> DictPlace:
    return DictPlace()


def engine_on(place: DictPlace, clock: ManualClock | None = None) -> LogEngine:
    made = LogEngine(ShardLog(place, Manners(grace=GRACE)), clock=clock or ManualClock())
    made.open()
    return made


def write(on: LogEngine, count: int = 1, *, tend: bool = True) -> list[str]:
    ids: list[str] = []
    for _ in range(count):
        unit = kit.insert()
        assert on.commit(lambda d, u=unit: d.apply([u])).outcome == [Applied.APPLIED]  # type: ignore[misc]
        if tend:
            on.tend()
        ids.append(unit.row.id)
    return ids


def write_large(on: LogEngine) -> str:
    """A row whose body is beside the log; its id."""
    parcel = Parcel(on.log.manners)
    [unit] = parcel.stow([Insert(kit.row(body=b"y" * 2000))])
    on.commit(lambda draft: draft.apply([unit]), parcel=parcel)
    assert isinstance(unit, Insert)
    return unit.row.id


def body(on: LogEngine, id: str) -> bytes | None:
    return on.cold.value(on.tables.rows[id].body)


def test_processes_that_wake_together_do_not_go_on_in_the_past(
    place: DictPlace, watch: Watch
) -> None:
    """A machine sleeps with two processes on it. What the first one puts where the log was cut
    is void, and the second must not take it for the log."""
    first, second, going = (engine_on(place) for _ in range(3))
    write(first, 3)
    assert second.refresh()
    for _ in range(6):
        write(going, 12)
        watch.pass_(GRACE / 3)
    assert first.number == second.number == 3
    assert min(place.segments) > 4, "its number is free again"
    acknowledged = [*write(first), *write(second), *write(first), *write(second)]
    for on in (first, second, going):
        on.refresh()
        assert contents(on.tables) == contents(engine_on(place).tables)
    assert going.tables.rows.keys() >= set(acknowledged)


def test_who_only_reads_is_not_shown_the_past_either(place: DictPlace, watch: Watch) -> None:
    reader, going = engine_on(place), engine_on(place)
    write(going, 3)
    reader.refresh()
    void = encode(Segment(id="void", prev=reader.last, ins=[kit.row()]))
    for _ in range(6):
        write(going, 12)
        watch.pass_(GRACE / 3)
    place.segments[reader.number + 1] = void
    assert reader.refresh()
    assert contents(reader.tables) == contents(going.tables)


def test_a_commit_that_arrived_before_a_long_stop_stands(place: DictPlace, watch: Watch) -> None:
    stopped, going = engine_on(place), engine_on(place)
    write(stopped, 3)
    unit = kit.insert()

    def stop(number: int) -> None:
        stopped.log.after = lambda number: None  # type: ignore[attr-defined]
        for _ in range(6):
            write(going, 12)
            watch.pass_(GRACE / 3)

    stopped.log.after = stop  # type: ignore[attr-defined]
    receipt = stopped.commit(lambda draft: draft.apply([unit]))
    assert receipt.outcome in ([Applied.APPLIED], [Applied.ALREADY])
    assert contents(stopped.tables) == contents(going.tables) == contents(engine_on(place).tables)
    assert unit.row.id in going.tables.rows


def test_a_wrong_clock_does_not_make_a_checkpoint_old(
    place: DictPlace, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place's clock says how old a checkpoint is, not that of the machine that starts."""
    slow, going = engine_on(place), engine_on(place)
    write(going, 30)
    monkeypatch.setattr(
        "omniq.storage.log.checkpoint.SYSTEM_CLOCK", ManualClock(kit.START + 365 * 24 * kit.HOUR)
    )
    ahead = engine_on(place)
    watch.pass_(GRACE / 3)
    write(ahead, 30)
    assert min(place.segments) == 1
    unit = kit.insert()
    slow.commit(lambda draft: draft.apply([unit]))
    assert unit.row.id in engine_on(place).tables.rows


def test_values_are_not_taken_for_lost_by_who_has_not_read_of_them(
    place: DictPlace, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint waits until it is not dear, its process sleeps on, others put large values."""
    monkeypatch.setattr(checkpoint, "DAY", -(1 << 60))
    sleeper, going = engine_on(place), engine_on(place)
    write(sleeper, 30, tend=False)
    watch.pass_(GRACE)
    id = write_large(going)
    for _ in range(6):
        sleeper.tend()
        watch.pass_(GRACE / 2)
        write(sleeper, 12, tend=False)
    assert body(engine_on(place), id) == b"y" * 2000


def test_a_value_whose_commit_is_on_its_way_is_kept_whatever_its_id_says(
    place: DictPlace, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "DAY", -(1 << 60))
    writer, other = engine_on(place), engine_on(place)

    def others_clear_up(number: int) -> None:
        writer.log.before = lambda number: None  # type: ignore[attr-defined]
        watch.pass_(GRACE / 3)
        write(other, 30)

    writer.log.before = others_clear_up  # type: ignore[attr-defined]
    id = write_large(writer)
    assert body(engine_on(place), id) == b"y" * 2000


def test_a_segment_that_fits_nowhere_is_told_and_not_read_for_ever(place: DictPlace) -> None:
    """A copy made while tasks were written may hold a later segment and not the one before."""
    reader, writer = engine_on(place), engine_on(place)
    ids = write(writer, 4)
    place.segments[6] = encode(Segment(id="stray", prev="of another past"))
    write(writer, 1)
    for on in (reader, writer):
        with pytest.raises(StorageError, match=r"segment 6 .* does not follow"):
            on.refresh()
    with pytest.raises(StorageError, match="restore it whole"):
        write(writer)
    assert writer.tables.rows.keys() >= set(ids)
