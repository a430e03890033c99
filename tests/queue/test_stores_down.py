"""A place of results that is down: tasks end, and their results come to it later."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from omniq.clock import ManualClock
from omniq.errors import ConfigError, StorageError, StorageUnavailable
from omniq.models import Applied, PutResult
from omniq.models.filters import TaskFilter
from tests.conformance.kit import (
    HOUR,
    SECOND,
    START,
    finish,
    insert,
    replay,
    row,
)
from tests.queue.afar import end, far, lose, moved, near, start, take, value
from tests.queue.apart import Apart, apart, unlooked
from tests.waiting import until

pytestmark = pytest.mark.asyncio


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
    unlooked(late.breaker)
    late.breaker._patience = 0.05
    tasks = [await start(places, f"w{n}") for n in range(3)]
    places.no_results.hangs = True
    before = places.no_results.asked
    for task in tasks:
        assert await end(places, task) is Applied.APPLIED
    assert places.no_results.asked - before == 1, "the first settle"


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
    may_look = unlooked(places.stores._late.breaker)  # type: ignore[union-attr]
    task = await start(places)
    places.no_results.down()
    await end(places, task)
    places.no_results.up()
    await places.results.apply([PutResult(task.id, task.epoch, b"v", None)])
    assert await near(places, task.id) == b"v"
    may_look.set()
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
