"""`omniq worker`: it runs tasks, drains on the first signal and leaves on the second."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from omniq import AsyncOmniQ
from omniq.models.units import Move
from tests.programs import PATIENCE, ROOT, Program, run

pytestmark = [pytest.mark.asyncio, pytest.mark.once]

MODULE = """
import asyncio, os, time
from pathlib import Path
import omniq
from omniq.contrib import runner

runner.LOOKING = 600
queue = omniq.AsyncOmniQ()
blocking = omniq.OmniQ()
memory = omniq.AsyncTaskQueue("memory")

@omniq.task("pid")
def pid():
    return os.getpid()

@omniq.task("nap")
async def nap(seconds):
    Path("started").touch()
    await asyncio.sleep(seconds)
    return "rested"

@omniq.task("stuck")
def stuck(seconds):
    Path("started").touch()
    time.sleep(seconds)

@omniq.task("parent")
async def parent():
    return str(await queue.enqueue("pid"))
"""
CLI = ["-m", "omniq.cli"]


@pytest_asyncio.fixture
async def queue(tmp_path: Path) -> AsyncIterator[AsyncOmniQ]:
    (tmp_path / "work.py").write_text(MODULE)
    async with AsyncOmniQ(base_dir=tmp_path / ".omniq", embedded=False) as queue:
        yield queue


async def started(tmp_path: Path, queue: AsyncOmniQ) -> None:
    async with queue.listen({"tasks"}) as ear:
        while not (tmp_path / "started").exists():
            await ear.wait(1)


@pytest.mark.parametrize("target", ["work:queue", "work:blocking"])
async def test_it_runs_tasks_and_drains(tmp_path: Path, queue: AsyncOmniQ, target: str) -> None:
    nap = await queue.enqueue("nap", (1,))
    with Program([*CLI, "worker", target], cwd=tmp_path) as worker:
        assert await (await queue.enqueue("pid")).result(PATIENCE) == worker.process.pid
        await started(tmp_path, queue)
        worker.send(signal.SIGTERM)
        assert worker.ends() == 0
    assert await nap.result(PATIENCE) == "rested"
    assert "Working on" in worker.output and worker.output.endswith("Stopped.\n")


async def test_tasks_that_enqueue_start_no_second_worker(tmp_path: Path, queue: AsyncOmniQ) -> None:
    with Program([*CLI, "worker", "work:queue"], cwd=tmp_path) as worker:
        child = await (await queue.enqueue("parent", worker="async")).result(PATIENCE)
        assert await queue.get_result(child, PATIENCE) == worker.process.pid
        assert len(await queue.workers()) == 1


@pytest.mark.parametrize("name", ["nap", "stuck"])
async def test_a_second_signal_leaves_at_once(tmp_path: Path, queue: AsyncOmniQ, name: str) -> None:
    task = await queue.enqueue(name, (600,), worker="async" if name == "nap" else "thread")
    with Program([*CLI, "worker", "work:queue", "--grace", "500"], cwd=tmp_path) as worker:
        await started(tmp_path, queue)
        worker.send(signal.SIGTERM)
        worker.says("1 running task may go on for 500 s")
        worker.send(signal.SIGTERM)
        assert worker.ends() == 128 + signal.SIGTERM
    info = await task.info()
    assert info.row.status.name in ("READY", "SCHEDULED"), "given to other workers"
    assert info.row.attempt == 0, "and that cost it no attempt"


@pytest.mark.parametrize("name", ["nap", "stuck"])
async def test_after_the_grace_tasks_are_given_back(
    tmp_path: Path, queue: AsyncOmniQ, name: str
) -> None:
    task = await queue.enqueue(name, (600,), worker="async" if name == "nap" else "thread")
    with Program([*CLI, "worker", "work:queue", "--grace", "0.1"], cwd=tmp_path) as worker:
        await started(tmp_path, queue)
        worker.send(signal.SIGINT)
        assert worker.ends() == 0
    assert (await task.info()).row.attempt == 0


async def test_it_serves_what_it_is_told(tmp_path: Path, queue: AsyncOmniQ) -> None:
    options = ["-q", "a", "-q", "b", "-c", "4", "-t", "2"]
    with Program([*CLI, "worker", "work:queue", *options], cwd=tmp_path):
        await (await queue.enqueue("pid", queue="b")).result(PATIENCE)
        (card,) = await queue.workers()
    assert card.queues == ("a", "b") and card.slots == {"async": 4, "thread": 2}


async def test_a_batch_ends_by_itself(tmp_path: Path, queue: AsyncOmniQ) -> None:
    ended = [await queue.enqueue("pid") for _ in range(3)]
    later = await queue.enqueue("pid", delay=600)
    limited = run([*CLI, "worker", "work:queue", "--batch", "--max-tasks", "2"], cwd=tmp_path)
    assert limited.returncode == 0 and "Ran 2 tasks, as many as wanted." in limited.stderr
    assert sorted([await each.status() for each in ended]) == ["pending", "success", "success"]
    rest = run([*CLI, "worker", "work:queue", "--batch", "--max-tasks", "2"], cwd=tmp_path)
    assert rest.returncode == 0 and "Nothing is left that could run now." in rest.stderr
    assert [await each.status() for each in ended] == ["success"] * 3
    assert await later.status() == "pending"


async def test_a_batch_says_what_it_left_for_want_of_a_function(
    tmp_path: Path, queue: AsyncOmniQ
) -> None:
    known = await queue.enqueue("pid")
    gone = [await queue.enqueue("gone", queue="mail", priority=9) for _ in range(2)]
    batch = [*CLI, "worker", "work:queue", "--batch"]
    ran = run(batch, cwd=tmp_path)
    assert ran.returncode == 3 and await known.status() == "success"
    told = ran.stderr[ran.stderr.index("Nothing is left that could run now.") :]
    assert re.search(r"\nLeft: 2 tasks \(\S+, \S+\), since task function 'gone' is not ", told)
    assert all(str(each) in told for each in gone) and told.endswith("Stopped.\n")
    for each in gone:  # so far ahead that nobody tries them now
        row = (await each.info()).row
        move = Move(id=row.id, expect=(row.status,), patch={"run_at": row.run_at + 600_000})
        await queue.stores.apply([move])
    again = run(batch, cwd=tmp_path)
    assert again.returncode == 3 and "Left: 2 tasks" in again.stderr, "they still wait"
    assert run([*batch, "-q", "default"], cwd=tmp_path).returncode == 0, "another's business"
    await queue.cancel(gone[0].id)
    rest = run(batch, cwd=tmp_path)
    assert rest.returncode == 3 and "Left: 1 task (" in rest.stderr
    await queue.cancel(gone[1].id)
    ended = run(batch, cwd=tmp_path)
    assert ended.returncode == 0 and "Left: " not in ended.stderr


async def test_a_web_app_lends_its_lifespan(tmp_path: Path, queue: AsyncOmniQ) -> None:
    command = [*CLI, "worker", "tests.contrib.shop:app"]
    with Program(command, cwd=tmp_path, paths=[ROOT]) as worker:
        ran_in, entered = await (await queue.enqueue("shop.pid")).result(PATIENCE)
        assert (ran_in, entered) == (worker.process.pid, 1)
        worker.send(signal.SIGTERM)
        assert worker.ends() == 0


async def test_memory_is_refused(tmp_path: Path, queue: AsyncOmniQ) -> None:
    refused = run([*CLI, "worker", "work:memory"], cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: this queue keeps its tasks in ")
    assert "Traceback" not in refused.stderr


async def test_a_missing_target_is_a_usage_error(tmp_path: Path) -> None:
    assert run([*CLI, "worker"], cwd=tmp_path).returncode == 2
