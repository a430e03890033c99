"""Torture of every durable place: many workers, a stopped one, and the place itself killed.

`OMNIQ_TEST_CHAOS=full` makes it 20,000 tasks instead of 2,000.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from omniq import AsyncOmniQ, Status, Task
from omniq.workers import WorkerPool
from tests.chaos import checker
from tests.chaos.crew import BATCH, open_queue, step, wait
from tests.chaos.sites import Site
from tests.programs import ROOT, Program

pytestmark = [pytest.mark.asyncio, pytest.mark.newer, pytest.mark.timeout(600)]

FULL = os.environ.get("OMNIQ_TEST_CHAOS") == "full"
TASKS = 20_000 if FULL else 2_000
WORKERS = 4
PATIENCE = 300.0 if FULL else 120.0
LONG = 120.0
"""Seconds of a lease that no stall of a machine outlasts."""

Hire = Callable[..., Program]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the crew writes down what happened."""
    made = tmp_path / "history"
    made.mkdir()
    return made


@pytest.fixture
def hire(site: Site, folder: Path) -> Iterator[Hire]:
    """Starts a process of the crew, which is gone at the end of the test."""
    crew: list[Program] = []

    def start(deed: str, name: str, count: int = 0, **settings: Any) -> Program:
        words = [deed, json.dumps(site.settings | settings), str(folder), name, str(count)]
        crew.append(Program(["-m", "tests.chaos.crew", *words], cwd=ROOT, paths=[ROOT]))
        return crew[-1]

    yield start
    for program in crew:
        program.__exit__()


@pytest.fixture
async def queue(site: Site) -> AsyncIterator[AsyncOmniQ]:
    async with open_queue(site.settings | {"lease": LONG}) as made:
        yield made


async def quiet(queue: AsyncOmniQ) -> None:
    """Wait until nothing is left to do."""
    async with asyncio.timeout(PATIENCE), queue.listen({"tasks"}) as ear:
        while any(each.count and not each.status.final for each in await queue.counts()):
            await ear.wait(0.5)


async def says(program: Program, pattern: str) -> Any:
    return await asyncio.to_thread(program.says, pattern)


async def test_nothing_is_lost_and_nothing_is_claimed_twice(
    site: Site, hire: Hire, queue: AsyncOmniQ, folder: Path
) -> None:
    workers = [hire("keep", f"w{n}", lease=LONG) for n in range(WORKERS)]
    for worker in workers:
        await says(worker, "ready")
    senders = [hire("enqueue", f"e{n}", TASKS // 2) for n in range(2)]
    for sender in senders:
        await says(sender, "done")
    # Everybody gets some of the work, and if one stood still so far, then of what comes now.
    await works_again(queue, folder, {worker.process.pid for worker in workers}, 0)
    await quiet(queue)
    history = await checker.read(queue, folder)
    assert len(history.acked) >= TASKS
    await checker.check(queue, history)
    checker.check_claims(history)


async def test_what_a_stopped_worker_sends_after_its_lease_is_refused(
    site: Site, hire: Hire, queue: AsyncOmniQ, folder: Path
) -> None:
    zombie = hire("zombie", "z")
    await says(zombie, "ready")
    handle = await queue.enqueue(step, (str(folder), 0.0))
    held = await says(zombie, rf"holds {handle} (\d+)")
    zombie.send(signal.SIGSTOP)
    async with WorkerPool(queue):
        assert await handle.result(PATIENCE) > int(held[1])
    before = await queue.info(handle)
    zombie.send(signal.SIGUSR1)
    zombie.send(signal.SIGCONT)
    assert (await says(zombie, "applied|refused"))[0] == "refused"
    assert (await queue.info(handle)).row == before.row
    assert await handle.result() == before.row.epoch
    assert before.row.losses == 1


async def test_a_worker_that_was_stopped_goes_on_and_changes_nothing(
    site: Site, hire: Hire, queue: AsyncOmniQ, folder: Path
) -> None:
    stopped = hire("work", "stopped")
    await says(stopped, "ready")
    handle = await queue.enqueue(wait, (str(folder),))
    await until(lambda: handle in checker.runs_in(folder))
    await stop_outside_of_a_commit(stopped.process.pid, site)
    (folder / "go").touch()
    other = hire("work", "other", lease=LONG)
    await says(other, "ready")
    assert await handle.result(PATIENCE) == 3
    row = (await queue.info(handle)).row
    assert (row.status, row.losses) == (Status.SUCCEEDED, 1)
    stopped.send(signal.SIGCONT)
    await works_again(queue, folder, {stopped.process.pid}, time.monotonic_ns())
    assert (await queue.info(handle)).row == row
    assert await handle.result() == 3
    await quiet(queue)
    history = await checker.read(queue, folder)
    await checker.check(queue, history)


async def test_a_killed_place_loses_no_acknowledged_enqueue(
    site: Site, hire: Hire, queue: AsyncOmniQ, folder: Path
) -> None:
    def start() -> list[Program]:
        return [hire("work", f"w{n}") for n in range(WORKERS)]

    workers = start()
    for worker in workers:
        await says(worker, "ready")
    senders = [hire("enqueue", f"e{n}", TASKS // 2) for n in range(2)]
    for sender in senders:
        await says(sender, "ready")
    await until(lambda: len(checker.acked_in(folder)) > TASKS // 4)
    if site.server is None:  # whoever works at such a place is the place
        for program in (*workers, *senders):
            program.send(signal.SIGKILL)
        workers = start()
    else:
        await asyncio.to_thread(site.server.kill)
        await asyncio.to_thread(site.server.start)
        for sender in senders:
            await says(sender, "done")
    again = time.monotonic_ns()
    assert [worker.process.poll() for worker in workers] == [None] * WORKERS
    await works_again(queue, folder, {worker.process.pid for worker in workers}, again)
    await quiet(queue)
    history = await checker.read(queue, folder)
    await checker.check(queue, history)
    print(f"{site.name}: {len(history.acked)} acknowledged, {history.repeated} run again")


# ---- what the tests wait for


async def until(true: Callable[[], object]) -> None:
    """Wait for what only files tell."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)


async def works_again(queue: AsyncOmniQ, folder: Path, pids: set[int], since: int) -> None:
    """Bring work until each of these processes has done some of it."""

    def idle() -> set[int]:
        runs = [run for each in checker.runs_in(folder).values() for run in each]
        return pids - {run.pid for run in runs if run.end is not None and run.start > since}

    async with asyncio.timeout(PATIENCE):
        while idle():
            tasks = [Task(func=step, args=(str(folder), 0.05)) for _ in range(BATCH)]
            await queue.enqueue_many(tasks)
            await asyncio.sleep(0.2)


async def stop_outside_of_a_commit(pid: int, site: Site) -> None:
    """Stop a process, but not while it holds SQLite's one write lock: nobody could write then."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        if site.name != "sqlite":
            return
        try:
            path = Path(site.settings["base_dir"]) / "omniq.db"
            with closing(sqlite3.connect(path, timeout=0)) as other:
                other.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError:
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(0.01)
