"""Results at a place of their own: which one counts, whatever the order in which things happen."""

from __future__ import annotations

import pytest

from omniq.clock import ManualClock
from omniq.models import Applied, Move, PutResult, Status
from tests.conformance.kit import (
    HOUR,
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
from tests.queue.afar import end, far, gone, lose, moved, near, start, take, value
from tests.queue.apart import Apart

pytestmark = pytest.mark.asyncio


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
    assert await far(places, task.id) == b"v"
    places.no_results.down()
    await places.stores.apply([replay(task.id)])
    places.no_results.up()
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
