"""A process killed between the writes to three places: whoever reads next sees nothing wrong."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from omniq.clock import ManualClock
from omniq.models import Applied, Status
from omniq.models.filters import EventFilter, TaskFilter
from omniq.models.row import TaskRow
from omniq.queue.late import KIND
from omniq.queue.spool import Spooled
from omniq.queue.stores import Stores
from omniq.storage.sqlite import AsyncSQLiteStorage
from tests.conformance.kit import LEASE, START, claim, finish, settle

pytestmark = pytest.mark.asyncio

PROGRAM = '''
import asyncio, os, signal, sys
from pathlib import Path
from omniq.clock import ManualClock
from omniq.errors import StorageUnavailable
from omniq.models import PutEvents, PutResult
from omniq.queue.spool import Spooled
from omniq.queue.stores import Stores
from omniq.storage.sqlite import AsyncSQLiteStorage
from tests.conformance.kit import START, claim, event, finish, insert

folder, point = Path(sys.argv[1]), sys.argv[2]
down = set(sys.argv[3:])
armed = False


def place(role):
    class Mortal(AsyncSQLiteStorage):
        async def apply(self, units):
            if role in down:
                raise StorageUnavailable("down")
            here = armed and (role != "tasks" or moves(units))
            if here and point == f"before {role}":
                os.kill(os.getpid(), signal.SIGKILL)
            receipt = await super().apply(units)
            if here and point == f"after {role}":
                os.kill(os.getpid(), signal.SIGKILL)
            return receipt

        async def get_results(self, ids):
            if role in down:
                raise StorageUnavailable("down")
            return await super().get_results(ids)

        async def read_events(self, *args, **options):
            if role in down:
                raise StorageUnavailable("down")
            return await super().read_events(*args, **options)

    return Mortal(folder / f"{role}.db", clock=ManualClock(START))


def moves(units):
    """Whether this trip is the one that was asked for."""
    moved = any(isinstance(unit, PutResult) for unit in units)
    return moved if "results moved" in down_words else not moved


down_words = " ".join(sys.argv[3:])


async def main():
    global armed
    places = [place(role) for role in ("tasks", "results", "events")]
    stores = Stores(*places, spool=Spooled(folder / "base" / "spool"))
    await stores.open()
    await stores.apply([insert()])
    [row] = (await places[0].claim(claim("mortal"))).tasks
    move = finish(row, b"first", patch={"finished_at": START}, events=(event(row.id, 1, epoch=1),))
    armed = "results moved" not in down_words
    await stores.apply([move])
    print("acknowledged", flush=True)
    if "results moved" in down_words:
        armed = True
        down.clear()
        await asyncio.sleep(30)
        os._exit(1)  # it was to be killed before
    os.kill(os.getpid(), signal.SIGKILL)


asyncio.run(main())
'''


def stores_of(folder: Path, clock: ManualClock) -> Stores:
    roles = ("tasks", "results", "events")
    tasks, results, events = (AsyncSQLiteStorage(folder / f"{r}.db", clock=clock) for r in roles)
    return Stores(tasks, results, events, spool=Spooled(folder / "base" / "spool"))


async def killed(folder: Path, point: str, *down: str) -> bool:
    """Let a process settle one task and be killed at the point; whether it was acknowledged."""
    process = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", PROGRAM, str(folder), point, *down],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert process.returncode == -signal.SIGKILL, process.stderr
    return "acknowledged" in process.stdout


@pytest.mark.parametrize("point", ["before results", "after results", "before tasks"])
async def test_before_its_end_was_committed_a_task_has_no_result(
    point: str, tmp_path: Path, clock: ManualClock
) -> None:
    assert not await killed(tmp_path, point)
    stores = stores_of(tmp_path, clock)
    await stores.open()
    clock.advance(LEASE / 1000 + 1)
    [lost] = (await stores.tasks.claim(claim("j", queues=(), limit=0, chores=1))).chores
    assert lost.status is Status.RUNNING
    assert await stores.read_results([lost]) == {}
    assert (await stores.read_events(EventFilter())).events == [], "it has not ended"
    await stores.apply([settle(lost, Status.READY, {"attempt": 0})])
    [again] = (await stores.tasks.claim(claim("w2"))).tasks
    assert (await stores.apply([finish(again, b"second")])).outcome == [Applied.APPLIED]
    [ended] = await stores.tasks.get_tasks([again.id])
    assert (await stores.read_results([ended]))[ended.id].value == b"second"
    await stores.close()


@pytest.mark.parametrize("point", ["after tasks", "before events", "after events", "at the end"])
async def test_after_its_end_was_committed_a_task_has_its_result(
    point: str, tmp_path: Path, clock: ManualClock
) -> None:
    """Only what is told of it may be missing, and only if nobody was told that it is done."""
    acknowledged = await killed(tmp_path, point)
    assert acknowledged == (point == "at the end")
    stores = stores_of(tmp_path, clock)
    await stores.open()
    [row] = await rows(stores)
    assert (row.status, row.finished_at) == (Status.SUCCEEDED, START)
    assert (await stores.read_results([row]))[row.id].value == b"first"
    told = [e.task for e in (await stores.read_events(EventFilter())).events]
    assert told == ([row.id] if point in ("after events", "at the end") else [])
    await stores.close()


async def test_events_that_waited_when_their_process_was_killed_are_told_by_the_next(
    tmp_path: Path, clock: ManualClock
) -> None:
    assert await killed(tmp_path, "at the end", "events")
    stores = stores_of(tmp_path, clock)
    await stores.open()
    [row] = await rows(stores)
    async with asyncio.timeout(30):
        while True:
            if told := (await stores.events.read_events(EventFilter())).events:
                break
            await asyncio.sleep(0.01)
    assert [(e.task, e.epoch, e.n) for e in told] == [(row.id, 1, 1)]
    await stores.close()


@pytest.mark.parametrize("point", ["after results", "before tasks", "after tasks"])
async def test_a_result_that_was_just_being_moved_is_moved_by_the_next(
    point: str, tmp_path: Path, clock: ManualClock
) -> None:
    """Killed between the write to its place and the one that takes it from its task, or around."""
    assert await killed(tmp_path, point, "results", "results moved")
    stores = stores_of(tmp_path, clock)
    await stores.open()
    [row] = await rows(stores)
    assert (await stores.read_results([row]))[row.id].value == b"first"
    await stores.sweep()
    async with asyncio.timeout(30):
        while True:
            if not await stores.tasks.get_docs(KIND):
                break
            await asyncio.sleep(0.01)
    assert (await stores.read_results([row]))[row.id].value == b"first"
    [far] = await stores.results.get_results([row.id])
    assert far.value == b"first"
    await stores.close()


async def rows(stores: Stores) -> list[TaskRow]:
    return (await stores.tasks.find_tasks(TaskFilter())).rows
