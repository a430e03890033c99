"""A storage on a log: one thread for all callers, shared commits, wake-ups, twins and forks."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from msgspec.structs import replace

from omniq.clock import SYSTEM_CLOCK, ManualClock
from omniq.errors import (
    ConfigError,
    SchemaError,
    StorageClosed,
    StorageError,
    StorageUnavailable,
)
from omniq.models import Applied, PutEvents, Status, Unique
from omniq.models.filters import Batch
from omniq.models.row import Ms
from omniq.models.units import Receipt
from omniq.storage.log import scribe
from omniq.storage.log.engine import LogEngine
from omniq.storage.log.port import Manners
from omniq.storage.tables import handout
from omniq.storage.tables.decide import Draft
from omniq.storage.tables.segment import FORMAT, Segment, encode
from tests.conformance import kit

from .history import History, contents
from .logs import DictLog, DictPlace, DictStorage, away

pytestmark = pytest.mark.asyncio


class Gate:
    """Holds the log's thread at its next put, until opened."""

    def __init__(self, log: DictLog) -> None:
        self.log = log
        self.reached = threading.Event()
        self.opened = threading.Event()
        log.before = self._wait

    def _wait(self, number: int) -> None:
        self.log.before = lambda number: None
        self.reached.set()
        assert self.opened.wait(60)


@pytest.fixture
def place() -> DictPlace:
    return DictPlace()


@pytest_asyncio.fixture
async def storage(place: DictPlace) -> AsyncIterator[DictStorage]:
    async with DictStorage(place, log=DictLog(place), clock=ManualClock()) as storage:
        yield storage


def log_of(storage: DictStorage) -> DictLog:
    assert storage.dict_log is not None
    return storage.dict_log


async def together(storage: DictStorage, *calls: Callable[[], Any]) -> list[Any]:
    """Make calls that all wait while the thread is busy with another one."""
    gate = Gate(log_of(storage))
    first = asyncio.ensure_future(storage.apply([kit.insert(queue="first")]))
    await asyncio.to_thread(gate.reached.wait, 60)
    waiting = [asyncio.ensure_future(call()) for call in calls]
    await asyncio.sleep(0)
    gate.opened.set()
    await first
    return await asyncio.gather(*waiting, return_exceptions=True)


# ---- shared commits


async def test_who_waits_together_shares_one_segment(
    storage: DictStorage, place: DictPlace
) -> None:
    units = [kit.insert() for _ in range(50)]
    receipts = await together(storage, *(lambda u=u: storage.apply([u]) for u in units))
    assert [receipt.outcome for receipt in receipts] == [[Applied.APPLIED]] * 50
    assert [len(segment.ins) for segment in place.decoded()] == [1, 50]


async def test_each_caller_has_its_own_answer_and_a_refusal_harms_no_other(
    storage: DictStorage, place: DictPlace
) -> None:
    first, second = kit.insert(unique=Unique("u"), queue="a"), kit.insert(unique=Unique("u"))
    other, absent = kit.insert(queue="b"), kit.insert(kit.task_id())
    answers = await together(
        storage,
        lambda: storage.apply([first]),
        lambda: storage.apply([second]),
        lambda: storage.apply([absent]),
        lambda: storage.apply([other]),
    )
    applied, refused = [Applied.APPLIED], [Applied.REFUSED]
    assert [receipt.outcome for receipt in answers] == [applied, refused, refused, applied]
    assert [receipt.woken for receipt in answers] == [{"a"}, set(), set(), {"b"}]
    assert answers[1].taken == {0: first.row.id}
    assert list(answers[2].missing) == [0]
    assert len(place.segments) == 2


async def test_what_cannot_be_written_is_its_caller_s_own_fault(storage: DictStorage) -> None:
    bad = PutEvents((kit.event("worker:w", data={"no": object()}),))
    good = kit.insert()
    answers = await together(
        storage,
        lambda: storage.apply([good]),
        lambda: storage.apply([bad]),
        lambda: storage.apply([kit.insert()]),
    )
    assert answers[0].outcome == answers[2].outcome == [Applied.APPLIED]
    assert isinstance(answers[1], Exception)
    assert len(await storage.get_tasks([good.row.id])) == 1


async def test_claims_that_wait_together_get_different_tasks(storage: DictStorage) -> None:
    await kit.apply(storage, *(kit.insert() for _ in range(6)))
    asked = [kit.claim(f"w{n}", limit=2) for n in range(3)]
    batches = await together(storage, *(lambda a=a: storage.claim(a) for a in asked))
    given = [task.id for batch in batches for task in batch.tasks]
    assert len(set(given)) == 6


async def test_a_claim_sent_again_while_the_first_waits_gets_the_same_rows(
    storage: DictStorage,
) -> None:
    await kit.apply(storage, *(kit.insert() for _ in range(6)))
    asked = kit.claim(limit=2)
    one, other = await together(storage, lambda: storage.claim(asked), lambda: storage.claim(asked))
    assert one.tasks == other.tasks
    assert len(one.tasks) == 2


async def test_a_lost_task_is_handed_to_one_of_two_who_ask_at_once(
    storage: DictStorage,
) -> None:
    await kit.add_running(storage, "dead")
    assert isinstance(storage.clock, ManualClock)
    storage.clock.advance(60)
    asked = [kit.claim(f"w{n}", queues=(), chores=5) for n in range(2)]
    batches = await together(storage, *(lambda a=a: storage.claim(a) for a in asked))
    assert sorted(len(batch.chores) for batch in batches) == [0, 1]


@pytest.mark.parametrize("seed", range(12))
async def test_deciding_together_means_the_same_as_one_after_the_other(seed: int) -> None:
    """Two histories with the same steps; in one of them what can share a commit does."""
    clock = ManualClock()
    apart, shared = AllChores(seed, _engine(clock), clock.advance), _engine(clock)
    group: list[tuple[Callable[[Draft], Any], Any]] = []
    commit = apart.engine.commit

    def flush() -> None:
        if group:
            answers = shared.commit(lambda draft: [decide(draft) for decide, _ in group])
            assert _plain(answers) == _plain([answer for _, answer in group])
            group.clear()

    def both(decide: Callable[[Draft], Any], **rest: Any) -> Any:
        answer = commit(decide, **rest)
        if alone:
            flush()
            assert _plain([shared.commit(decide)]) == _plain([answer])
        else:
            group.append((decide, answer))
            if len(group) == 7:
                flush()
        return answer

    apart.engine.commit = both  # type: ignore[method-assign]
    apart.advance = lambda seconds: (flush(), clock.advance(seconds))  # type: ignore[assignment, func-returns-value]
    heartbeat, sweep = apart.heartbeat, apart.sweep
    alone = False

    def alone_(step: Callable[[], None]) -> Callable[[], None]:
        def act() -> None:
            nonlocal alone
            alone = True
            step()
            alone = False

        return act

    apart.heartbeat, apart.sweep = alone_(heartbeat), alone_(sweep)  # type: ignore[method-assign]
    for _ in range(250):
        apart.step()
    flush()
    assert shared.number < apart.engine.number
    one, other = contents(apart.engine.tables, clock.now()), contents(shared.tables, clock.now())
    assert one == other


class AllChores(History):
    """Asks for all of them: which chores come first is not in the contract."""

    def claim(self) -> None:
        asked = kit.claim(
            self.random.choice(("w1", "w2")), queues=("b", "a"), limit=3, lease=30_000, chores=999
        )
        batch = self.engine.commit(lambda draft: handout.claim(draft, asked))
        self.held += batch.tasks + sorted(batch.chores, key=lambda row: row.id)


def _plain(answers: list[Any]) -> list[Any]:
    def sort(answer: Any) -> Any:
        if isinstance(answer, Batch):
            return replace(answer, chores=sorted(answer.chores, key=lambda row: row.id))
        if isinstance(answer, Receipt):
            return replace(answer, stranded=tuple(sorted(answer.stranded)))
        return answer

    return [sort(answer) for answer in answers]


def _engine(clock: ManualClock) -> LogEngine:
    return LogEngine(DictLog(), clock=clock)


# ---- limits


async def test_a_commit_too_large_for_a_segment_puts_its_values_beside_the_log(
    place: DictPlace,
) -> None:
    log = DictLog(place, Manners(segment_bytes=120_000))
    async with DictStorage(place, log=log) as storage:
        units = [kit.insert(body=b"x" * 1000) for _ in range(200)]
        receipt = await storage.apply(units)
        assert set(receipt.outcome) == {Applied.APPLIED}
        rows = await storage.get_tasks([unit.row.id for unit in units])
        assert {row.body for row in rows} == {b"x" * 1000}
        assert max(map(len, place.segments.values())) <= 120_000
        told = PutEvents((kit.event("worker:w", data={"long": "x" * 200_000}),))
        with pytest.raises(StorageError, match="the log takes 120000"):
            await storage.apply([told])


async def test_a_claim_fits_its_commit_however_many_tasks_came_due(place: DictPlace) -> None:
    """After hours without workers, in many queues at once."""
    clock = ManualClock()
    queues = tuple(f"q{n}" for n in range(25))
    async with DictStorage(place, clock=clock) as storage:
        for queue in queues:
            due = kit.START + kit.HOUR
            await storage.apply([kit.insert(queue=queue, run_at=due) for _ in range(1000)])
        clock.advance(2 * kit.HOUR // 1000)
        batch = await storage.claim(kit.claim(queues=queues, limit=500))
        assert len(batch.tasks) == 500
        assert 0 < (batch.next_due or 0) <= clock.now()
        while batch.next_due is not None:
            batch = await storage.claim(kit.claim(queues=queues, limit=1))
        assert {count.status for count in await storage.count_tasks()} == {
            Status.READY,
            Status.RUNNING,
        }


async def test_large_results_and_bodies_pass_through_a_claim(place: DictPlace) -> None:
    clock = ManualClock()
    async with DictStorage(place, clock=clock) as one, DictStorage(place, clock=clock) as other:
        await kit.apply(one, kit.insert(body=b"b" * 100_000))
        [task] = await kit.take(other)
        assert task.body == b"b" * 100_000
        units = [kit.finish(task, b"r" * 50_000, patch={"error": b"e" * 5000})]
        receipt, _ = await one.exchange(units, kit.claim())
        assert receipt.outcome == [Applied.APPLIED]
        [result] = await other.get_results([task.id])
        assert result.value == b"r" * 50_000
        assert (await kit.get(other, task.id)).error == b"e" * 5000


# ---- waking


@pytest.mark.parametrize("tells", [True, False])
async def test_an_ear_hears_what_another_process_wrote(place: DictPlace, tells: bool) -> None:
    one, other = (DictStorage(place, log=DictLog(place, tells=tells)) for _ in range(2))
    async with one, other, one.listen(["queue:q"]) as ear:
        await kit.apply(other, kit.insert(at=1))
        assert await ear.wait(30) == {"queue:q"}
        assert len((await one.claim(kit.claim())).tasks) == 1


async def test_ears_are_alerted_when_a_log_that_was_away_answers_again(
    place: DictPlace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(scribe, "AWAY", 0.01)
    log = DictLog(place)
    async with DictStorage(place, log=log) as storage, storage.listen(["queue:z"]) as ear:
        tried = threading.Event()

        def gone(number: int) -> Any:
            tried.set()
            raise StorageUnavailable("no way there")

        monkeypatch.setattr(log, "read_on", gone)
        await asyncio.to_thread(tried.wait, 60)
        with pytest.raises(StorageUnavailable):
            await storage.get_tasks([])
        monkeypatch.undo()
        assert await ear.wait(30) == {"queue:z"}
    assert caplog.text.count("cannot be read") == 1


async def test_nobody_is_asked_while_nobody_listens(storage: DictStorage) -> None:
    await storage.apply([kit.insert()])
    reads: list[int] = []
    read_on = log_of(storage).read_on

    def count(number: int) -> Any:
        reads.append(number)
        return read_on(number)

    log_of(storage).read_on = count  # type: ignore[method-assign]
    await asyncio.sleep(0.05)
    assert not reads
    assert storage._scribe._patience() is None, "it rests until it is asked"


# ---- faults


async def test_a_log_that_does_not_answer_is_told_and_works_again(storage: DictStorage) -> None:
    log_of(storage).before = away
    with pytest.raises(StorageUnavailable):
        await storage.apply([kit.insert()])
    log_of(storage).before = lambda number: None
    assert (await storage.apply([kit.insert()])).outcome == [Applied.APPLIED]


async def test_a_log_of_a_newer_version_cannot_be_opened_but_may_be_later(
    place: DictPlace,
) -> None:
    place.segments[1] = encode(Segment(v=FORMAT + 1, least=FORMAT + 1, id="x"))
    storage = DictStorage(place)
    for _ in range(2):
        with pytest.raises(SchemaError):
            await storage.open()
    del place.segments[1]
    async with storage:
        assert (await storage.apply([kit.insert()])).outcome == [Applied.APPLIED]


async def test_what_a_cancelled_caller_asked_for_goes_on(storage: DictStorage) -> None:
    gate = Gate(log_of(storage))
    unit = kit.insert()
    call = asyncio.ensure_future(storage.apply([unit]))
    await asyncio.to_thread(gate.reached.wait, 60)
    call.cancel()
    gate.opened.set()
    assert len(await storage.get_tasks([unit.row.id])) == 1


# ---- opening, twins, forks


async def test_a_twin_shares_the_tables_and_outlives_the_first(place: DictPlace) -> None:
    # The thread of a log that was closed before may need a moment to end.
    before = set(threading.enumerate())
    first = DictStorage(place)
    twin = first.twin()
    await first.open()
    await twin.open()
    task = await kit.add(first)
    await first.close()
    await first.close()
    with pytest.raises(StorageClosed):
        await first.get_tasks([task.id])
    assert await kit.get(twin, task.id) == task
    names = [thread.name for thread in set(threading.enumerate()) - before]
    assert names.count("omniq-log") == 1
    await twin.close()
    await first.open()
    assert await kit.get(first, task.id) == task
    await first.close()


async def test_a_heartbeat_goes_out_while_the_loop_is_blocked(place: DictPlace) -> None:
    """Pitfall 26: from its own thread and loop, by the log's thread, with the tables shared."""
    async with DictStorage(place) as storage:
        await kit.add_running(storage, "w1", at=1)
        twin, beaten = storage.twin(), threading.Event()

        async def beat() -> None:
            async with twin:
                await twin.extend("w1", 60_000, ())
            beaten.set()

        thread = threading.Thread(target=lambda: asyncio.run(beat()))
        thread.start()
        assert beaten.wait(60)  # this loop stands still meanwhile
        thread.join()
        [*_, last] = place.decoded()
        assert list(last.leases) == ["w1"]


def _in_child(storage: DictStorage, twin: DictStorage, answer: Any) -> None:
    async def ask() -> list[str]:
        said: list[str] = []
        try:
            await storage.get_tasks([])
        except StorageError as error:
            said.append(str(error))
        async with twin:
            said.append(str((await twin.apply([kit.insert()])).outcome))
        async with storage.twin() as another:
            said.append(str((await another.apply([kit.insert()])).outcome))
        return said

    answer.send(asyncio.run(ask()))
    os._exit(0)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
async def test_after_a_fork_a_twin_is_opened_anew(place: DictPlace) -> None:
    async with DictStorage(place) as storage:
        await storage.apply([kit.insert()])
        context = multiprocessing.get_context("fork")
        hears, says = context.Pipe(False)
        child = context.Process(target=_in_child, args=(storage, storage.twin(), says))
        child.start()
        assert await asyncio.to_thread(hears.poll, 60)
        refused, *done = hears.recv()
        child.join()
        assert "open a twin() of it here" in refused
        assert done == [str([Applied.APPLIED])] * 2
        assert len(place.segments) == 1, "the child's memory is its own"
        await storage.apply([kit.insert()])


async def test_names_and_words_are_checked_when_it_is_made(place: DictPlace) -> None:
    for bad in ("", "a/b", "..", "a\n", "x" * 65):
        with pytest.raises(ConfigError, match="namespace"):
            DictStorage(place, namespace=bad)
    with pytest.raises(ConfigError, match="durability"):
        DictStorage(place, durability="none")
    with pytest.raises(ConfigError, match="strict"):
        await DictStorage(place, durability="strict").open()


# ---- time


async def test_the_place_s_clock_decides_whatever_this_machine_says(
    place: DictPlace, caplog: pytest.LogCaptureFixture
) -> None:
    """Pitfall 30: a fast clock on one host moves no lease."""
    ahead = 3_600_000

    class Clocked(DictLog):
        def now(self) -> Ms | None:
            return SYSTEM_CLOCK.now() - ahead

    begun = SYSTEM_CLOCK.now()
    async with DictStorage(place, log=Clocked(place)) as storage:
        await kit.add_running(storage, "w1", at=0)
        [*_, last] = place.decoded()
        ended = SYSTEM_CLOCK.now()
        # When it was asked is known as well as it answered at once.
        assert 2 * begun - ended <= last.at + ahead <= 2 * ended - begun
        assert (await kit.chores(storage)) == []
    assert "ahead of the storage's" in caplog.text
