"""Results at a place of their own: which one counts, whatever the order in which things happen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from omniq.clock import ManualClock
from omniq.errors import ConfigError, StorageError, StorageUnavailable
from omniq.models import Applied, Move, PutResult, Status, TaskRow
from omniq.models.filters import TaskFilter
from omniq.queue.late import KIND
from omniq.storage.base import AsyncStorage
from tests.conformance.kit import (
    HOUR,
    LEASE,
    SECOND,
    START,
    cancel,
    claim,
    fail,
    finish,
    get,
    insert,
    replay,
    retry,
    row,
    settle,
)
from tests.queue.apart import Apart, apart, until

pytestmark = pytest.mark.asyncio


@pytest.fixture(params=["memory", "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def places(kind: str, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Apart]:
    places = apart(kind, tmp_path, clock)
    await places.stores.open()
    yield places
    await places.stores.close()


@pytest_asyncio.fixture
async def only_tasks(kind: str, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Apart]:
    places = apart(kind, tmp_path, clock, only_tasks=True)
    await places.stores.open()
    yield places
    await places.stores.close()


async def start(places: Apart, owner: str = "w1", id: str | None = None) -> TaskRow:
    """A new task that `owner` runs."""
    unit = insert() if id is None else insert(id=id)
    assert (await places.stores.apply([unit])).outcome == [Applied.APPLIED]
    return await take(places, owner)


async def take(places: Apart, owner: str) -> TaskRow:
    [task] = (await places.tasks.claim(claim(owner, limit=1))).tasks
    return task


async def lose(places: Apart, clock: ManualClock, owner: str = "janitor") -> TaskRow:
    """The lease of whoever runs the only running task ends; it is back in line."""
    clock.advance(LEASE / 1000 + 1)
    [lost] = (await places.tasks.claim(claim(owner, queues=(), limit=0, chores=1))).chores
    back = settle(lost, Status.READY, {"attempt": 0})
    assert (await places.stores.apply([back])).outcome == [Applied.APPLIED]
    return lost


async def value(places: Apart, id: str) -> bytes | None:
    """What a reader is shown."""
    found = await places.stores.read_results([await get(places.tasks, id)])
    return found[id].value if id in found else None


async def far(places: Apart, id: str) -> bytes | None:
    found = await places.results.get_results([id])
    return found[0].value if found else None


async def near(places: Apart, id: str) -> bytes | None:
    found = await places.tasks.get_results([id])
    return found[0].value if found else None


async def end(places: Apart, task: TaskRow, value: bytes = b"v") -> Applied:
    move = finish(task, value, patch={"keep_until": places.tasks.clock.now() + HOUR})
    return (await places.stores.apply([move])).outcome[0]


# ---- which result counts


async def test_a_result_is_at_its_place_and_not_with_its_task(places: Apart) -> None:
    task = await start(places)
    assert await end(places, task) is Applied.APPLIED
    assert await value(places, task.id) == await far(places, task.id) == b"v"
    assert await near(places, task.id) is None


async def test_exchange_puts_results_away_and_claims(places: Apart) -> None:
    task = await start(places)
    await places.stores.apply([insert()])
    receipt, batch = await places.stores.exchange([finish(task, b"v")], claim("w1"))
    assert receipt.outcome == [Applied.APPLIED]
    assert len(batch.tasks) == 1
    assert await far(places, task.id) == b"v"


async def test_a_zombies_result_is_never_shown_while_the_task_goes_on(
    places: Apart, clock: ManualClock
) -> None:
    """It is written before its Move is refused, and stands at the result place for a while."""
    zombie = await start(places, "zombie")
    await lose(places, clock)
    assert await end(places, zombie, b"late") is Applied.REFUSED
    assert await far(places, zombie.id) == b"late"
    assert await value(places, zombie.id) is None
    await take(places, "w2")
    assert await value(places, zombie.id) is None


async def test_a_zombies_result_gives_way_to_the_newer_runs(
    places: Apart, clock: ManualClock
) -> None:
    zombie = await start(places, "zombie")
    await lose(places, clock)
    newer = await take(places, "w2")
    assert await end(places, zombie, b"late") is Applied.REFUSED
    assert await end(places, newer, b"right") is Applied.APPLIED
    assert await value(places, zombie.id) == b"right"


async def test_a_zombie_does_not_write_over_the_newer_runs_result(
    places: Apart, clock: ManualClock
) -> None:
    zombie = await start(places, "zombie")
    await lose(places, clock)
    newer = await take(places, "w2")
    assert await end(places, newer, b"right") is Applied.APPLIED
    assert await end(places, zombie, b"late") is Applied.REFUSED
    assert await value(places, zombie.id) == b"right"


async def test_a_zombies_result_is_not_that_of_a_newer_run_that_failed(
    places: Apart, clock: ManualClock
) -> None:
    zombie = await start(places, "zombie")
    await lose(places, clock)
    newer = await take(places, "w2")
    await places.stores.apply([fail(newer, {"keep_until": START + HOUR})])
    assert await end(places, zombie, b"late") is Applied.REFUSED
    assert await value(places, zombie.id) is None


async def test_a_result_of_a_run_given_back_and_then_cancelled_is_not_shown(
    places: Apart,
) -> None:
    """The row ends with the very epoch of the zombie: nobody claimed it in between."""
    zombie = await start(places, "zombie")
    await places.stores.apply([settle(zombie, Status.READY)])
    await places.stores.apply([cancel(zombie.id)])
    assert await end(places, zombie, b"late") is Applied.REFUSED
    ended = await get(places.tasks, zombie.id)
    assert (ended.status, ended.epoch) == (Status.CANCELLED, zombie.epoch)
    assert await value(places, zombie.id) is None


async def test_a_run_that_is_retried_leaves_no_result_of_before(
    places: Apart, clock: ManualClock
) -> None:
    first = await start(places)
    await places.results.apply([PutResult(first.id, first.epoch, b"half", None)])
    await places.stores.apply([retry(first, START)])
    assert await value(places, first.id) is None
    second = await take(places, "w1")
    await places.stores.apply([fail(second)])
    assert await value(places, first.id) is None


async def test_a_result_written_before_its_worker_died_counts_for_no_run(
    places: Apart, clock: ManualClock
) -> None:
    first = await start(places)
    await places.results.apply([PutResult(first.id, first.epoch, b"unsettled", None)])
    await lose(places, clock)
    second = await take(places, "w2")
    assert await value(places, first.id) is None
    assert await end(places, second, b"settled") is Applied.APPLIED
    assert await value(places, first.id) == b"settled"


async def test_a_settle_sent_again_shows_one_result(places: Apart) -> None:
    task = await start(places)
    assert await end(places, task) is Applied.APPLIED
    assert await end(places, task) is Applied.REFUSED
    assert await value(places, task.id) == b"v"


async def test_a_batch_of_many_ends_keeps_the_places_in_the_receipt(places: Apart) -> None:
    tasks = [await start(places, f"w{n}") for n in range(4)]
    await places.stores.apply([fail(tasks[2])])
    units = [finish(tasks[0], b"0"), fail(tasks[1]), finish(tasks[2], b"2"), finish(tasks[3], b"3")]
    receipt = await places.stores.apply([PutResult("alone", 1, b"x"), *units])
    yes, no = Applied.APPLIED, Applied.REFUSED
    assert receipt.outcome == [yes, yes, yes, no, yes]
    assert [await value(places, task.id) for task in tasks] == [b"0", None, None, b"3"]
    assert await far(places, "alone") == b"x"
    assert await near(places, "alone") is None


# ---- replay, deletion, time


async def test_a_replay_takes_the_result_away(places: Apart) -> None:
    task = await start(places)
    await end(places, task)
    await places.stores.apply([replay(task.id)])
    assert await value(places, task.id) is None
    await gone(places, task.id)
    again = await take(places, "w2")
    assert await end(places, again, b"again") is Applied.APPLIED
    assert await value(places, task.id) == b"again"


async def test_a_replay_that_is_cancelled_has_no_result(places: Apart) -> None:
    task = await start(places)
    await end(places, task)
    await places.stores.apply([replay(task.id)])
    await places.stores.apply([cancel(task.id)])
    assert await value(places, task.id) is None


async def test_a_replay_while_results_are_down_takes_the_result_away_later(places: Apart) -> None:
    task = await start(places)
    await end(places, task)
    places.no_results.down()
    await places.stores.apply([replay(task.id)])
    places.no_results.up()
    assert await far(places, task.id) == b"v"
    await gone(places, task.id)


async def test_what_takes_a_result_away_does_not_take_the_next_one(places: Apart) -> None:
    """The note of a replay is worked off long after the task has ended anew."""
    task = await start(places)
    await end(places, task)
    places.no_results.down()
    await places.stores.apply([replay(task.id)])
    again = await take(places, "w2")
    assert await end(places, again, b"again") is Applied.APPLIED
    places.no_results.up()
    await moved(places)
    assert await value(places, task.id) == b"again"


async def test_a_deleted_task_leaves_no_result(places: Apart, clock: ManualClock) -> None:
    task = await start(places)
    await end(places, task)
    move = Move(id=task.id, expect=(Status.SUCCEEDED,), patch={"keep_until": clock.now()})
    assert (await places.stores.apply([move])).outcome == [Applied.APPLIED]
    await gone(places, task.id)
    assert await places.tasks.get_tasks([task.id]) == []


async def test_a_task_kept_longer_keeps_its_result(places: Apart, clock: ManualClock) -> None:
    task = await start(places)
    await end(places, task)
    move = Move(id=task.id, expect=(Status.SUCCEEDED,), patch={"keep_until": clock.now() + HOUR})
    await places.stores.apply([move])
    await moved(places)
    assert await value(places, task.id) == b"v"


async def test_a_result_ends_with_its_time(places: Apart, clock: ManualClock) -> None:
    task = await start(places)
    move = finish(task, b"v", until=START + SECOND, patch={"keep_until": START + HOUR})
    await places.stores.apply([move])
    assert await value(places, task.id) == b"v"
    clock.advance(2)
    assert await value(places, task.id) is None


async def test_a_result_without_a_time_goes_with_its_row(places: Apart, clock: ManualClock) -> None:
    task = await start(places)
    move = finish(task, b"v", until=None, patch={"keep_until": START + SECOND})
    await places.stores.apply([move])
    clock.advance(2)
    assert await places.tasks.get_tasks([task.id]) == []
    assert await far(places, task.id) is None
    await places.stores.sweep()


async def test_a_result_that_outlives_its_row_is_not_that_of_a_task_with_its_id(
    places: Apart, clock: ManualClock
) -> None:
    """The row was swept first; the id is used again, and its epochs begin anew."""
    old = row().id
    await places.results.apply([PutResult(old, 5, b"of before", None)])
    task = await start(places, id=old)
    assert await value(places, old) is None
    assert await end(places, task, b"mine") is Applied.APPLIED
    assert await value(places, old) == b"mine"
    await moved(places)
    assert await value(places, old) == b"mine"


# ---- a place that is down


async def test_tasks_end_while_results_are_down(
    places: Apart, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = [await start(places, f"w{n}") for n in range(3)]
    places.no_results.down()
    with caplog.at_level(logging.INFO, "omniq.storage"):
        for task in tasks:
            assert await end(places, task, task.id.encode()) is Applied.APPLIED
        assert [await value(places, t.id) for t in tasks] == [t.id.encode() for t in tasks]
        places.no_results.up()
        await moved(places)
    for task in tasks:
        assert await far(places, task.id) == task.id.encode()
        assert await near(places, task.id) is None
        assert await value(places, task.id) == task.id.encode()
    said = [(r.levelname, r.getMessage()) for r in caplog.records]
    said = [(level, text) for level, text in said if text.startswith("the place of results")]
    assert [level for level, _ in said] == ["WARNING", "INFO"]
    assert "the cable is out" in said[0][1]


async def test_a_place_that_hangs_costs_its_time_once(places: Apart) -> None:
    late = places.stores._late
    assert late is not None
    late.breaker._patience = 0.05
    tasks = [await start(places, f"w{n}") for n in range(3)]
    places.no_results.hangs = True
    before = places.no_results.asked
    for task in tasks:
        assert await end(places, task) is Applied.APPLIED
    assert places.no_results.asked - before <= 2, "one settle and perhaps a probe"


@pytest.mark.parametrize("error", [ConfigError("wrong password"), StorageError("too large")])
async def test_whatever_the_place_says_tasks_end(places: Apart, error: Exception) -> None:
    task = await start(places)
    places.no_results.off = error  # type: ignore[assignment]
    assert await end(places, task) is Applied.APPLIED
    assert await near(places, task.id) == b"v"
    places.no_results.up()
    places.stores._late.work()  # type: ignore[union-attr]
    await moved(places)
    assert await value(places, task.id) == b"v"


async def test_a_result_that_cannot_be_read_is_not_called_expired(places: Apart) -> None:
    task = await start(places)
    await end(places, task)
    places.no_results.down()
    with pytest.raises(StorageUnavailable, match="the cable is out"):
        await value(places, task.id)
    places.no_results.up()
    await until(lambda: places.stores._late.breaker.up)  # type: ignore[union-attr]
    assert await value(places, task.id) == b"v"


async def test_results_down_hide_only_what_is_there(places: Apart) -> None:
    away = await start(places, "w1")
    await end(places, away, b"away")
    places.no_results.down()
    here = await start(places, "w2")
    await end(places, here, b"here")
    rows = await places.tasks.get_tasks([away.id, here.id])
    found, why = await places.stores.read_known(rows)
    assert {id: r.value for id, r in found.items()} == {here.id: b"here"}
    assert "the cable is out" in why


async def test_a_zombie_is_refused_while_results_are_down(
    places: Apart, clock: ManualClock
) -> None:
    zombie = await start(places, "zombie")
    await lose(places, clock)
    newer = await take(places, "w2")
    places.no_results.down()
    assert await end(places, newer, b"right") is Applied.APPLIED
    assert await end(places, zombie, b"late") is Applied.REFUSED
    assert await value(places, zombie.id) == b"right"
    places.no_results.up()
    await moved(places)
    assert await far(places, zombie.id) == b"right"


async def test_a_zombie_that_reached_the_place_before_the_kept_result_is_written_over(
    places: Apart, clock: ManualClock
) -> None:
    zombie = await start(places, "zombie")
    await lose(places, clock)
    newer = await take(places, "w2")
    places.no_results.down()
    assert await end(places, newer, b"right") is Applied.APPLIED
    places.no_results.up()
    await places.results.apply([PutResult(zombie.id, zombie.epoch, b"late", None)])
    assert await value(places, zombie.id) == b"right"
    await moved(places)
    assert await far(places, zombie.id) == b"right"


async def test_what_is_kept_is_not_moved_after_a_replay(places: Apart) -> None:
    task = await start(places)
    places.no_results.down()
    await end(places, task, b"first")
    await places.stores.apply([replay(task.id)])
    assert await value(places, task.id) is None
    places.no_results.up()
    await moved(places)
    assert await far(places, task.id) is None
    again = await take(places, "w2")
    await end(places, again, b"second")
    assert await value(places, task.id) == b"second"


async def test_moving_twice_does_no_harm(places: Apart, tmp_path: Path) -> None:
    """A process that dies between the two writes of a move leaves it to the next."""
    task = await start(places)
    places.no_results.down()
    await end(places, task)
    places.no_results.up()
    await places.results.apply([PutResult(task.id, task.epoch, b"v", None)])
    assert await near(places, task.id) == b"v"
    await moved(places)
    assert await far(places, task.id) == await value(places, task.id) == b"v"
    assert await near(places, task.id) is None


async def test_two_processes_move_at_once(kind: str, tmp_path: Path, clock: ManualClock) -> None:
    places = apart("sqlite", tmp_path, clock)
    await places.stores.open()
    tasks = [await start(places, f"w{n}") for n in range(40)]
    places.no_results.down()
    for task in tasks:
        await end(places, task, task.id.encode())
    places.no_results.up()
    other = places.stores.twin()
    await other.open()
    await asyncio.gather(*(stores.sweep() for stores in (places.stores, other)))
    await moved(places)
    found = await other.read_results((await places.tasks.find_tasks(TaskFilter())).rows)
    assert {id: r.value for id, r in found.items()} == {t.id: t.id.encode() for t in tasks}
    await other.close()
    await places.stores.close()


async def test_a_place_down_at_the_start_stops_nobody(
    kind: str, tmp_path: Path, clock: ManualClock
) -> None:
    places = apart(kind, tmp_path, clock)
    places.no_results.down()
    places.no_events.down()
    await places.stores.open()
    task = await start(places)
    assert await end(places, task) is Applied.APPLIED
    assert await value(places, task.id) == b"v"
    places.no_results.up()
    places.no_events.up()
    await moved(places)
    assert await far(places, task.id) == b"v"
    await places.stores.close()


async def test_what_was_moved_leaves_nothing_to_be_read_by_mistake(
    places: Apart, clock: ManualClock
) -> None:
    """Results of parents stay readable where their children wait, also those taken back."""
    parent = await start(places)
    await places.stores.apply([insert(parent.id)])
    places.no_results.down()
    move = finish(parent, b"v", until=START + SECOND, patch={"keep_until": START + HOUR})
    await places.stores.apply([move])
    places.no_results.up()
    await moved(places)
    assert await value(places, parent.id) == b"v"
    clock.advance(2)
    assert await value(places, parent.id) is None


# ---- a task place that keeps no results


async def test_a_task_place_without_results_keeps_them_as_records(only_tasks: Apart) -> None:
    task = await start(only_tasks)
    only_tasks.no_results.down()
    assert await end(only_tasks, task, b"kept") is Applied.APPLIED
    assert await near(only_tasks, task.id) is None
    assert await value(only_tasks, task.id) == b"kept"
    only_tasks.no_results.up()
    await moved(only_tasks)
    assert await far(only_tasks, task.id) == await value(only_tasks, task.id) == b"kept"


async def test_a_record_past_its_time_is_not_shown(only_tasks: Apart, clock: ManualClock) -> None:
    task = await start(only_tasks)
    only_tasks.no_results.down()
    move = finish(task, b"v", until=START + SECOND, patch={"keep_until": START + HOUR})
    await only_tasks.stores.apply([move])
    clock.advance(2)
    only_tasks.no_results.up()
    await until(lambda: only_tasks.stores._late.breaker.up)  # type: ignore[union-attr]
    assert await value(only_tasks, task.id) is None


async def test_a_record_stays_behind_the_result_of_an_earlier_task_with_its_id(
    only_tasks: Apart,
) -> None:
    old = row().id
    await only_tasks.results.apply([PutResult(old, 5, b"of before", None)])
    task = await start(only_tasks, id=old)
    assert await end(only_tasks, task, b"mine") is Applied.APPLIED
    await only_tasks.stores.sweep()
    await asyncio.sleep(0)
    assert await value(only_tasks, old) == b"mine"


# ---- helpers


async def notes(tasks: AsyncStorage) -> int:
    return len(await tasks.get_docs(KIND))


async def moved(places: Apart) -> None:
    """Wait until every note is worked off."""
    async with asyncio.timeout(10):
        while await notes(places.tasks):
            places.stores._late.work()  # type: ignore[union-attr]
            await asyncio.sleep(0.002)


async def gone(places: Apart, id: str) -> None:
    """Wait until the result place has let go of a result."""
    async with asyncio.timeout(10):
        while True:
            if await far(places, id) is None:
                return
            await asyncio.sleep(0.002)
