"""Workers that are killed, stopped and blocked: nothing is lost, nothing ends twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from omniq import AsyncOmniQ, Task
from omniq.models import EventType, Status
from omniq.models.filters import EventFilter
from omniq.workers import WorkerPool
from tests.chaos.hand import block, mark, queue_in

pytestmark = [pytest.mark.asyncio, pytest.mark.once]

HAND = Path(__file__).with_name("hand.py")
LONG = 3600.0
"""Seconds of a lease that no stall of a machine outlasts."""
Start = Callable[[float], subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a worker process with a lease; returns once it works."""
    processes: list[subprocess.Popen[str]] = []

    def begin(lease: float) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(HAND), str(tmp_path), str(lease)],
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield begin
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
async def queue(tmp_path: Path) -> AsyncIterator[AsyncOmniQ]:
    async with queue_in(tmp_path, LONG) as made:
        yield made


async def lines(path: Path, count: int) -> list[str]:
    """Wait until a file has so many lines."""
    async with asyncio.timeout(60):
        while not path.exists() or len(path.read_text().splitlines()) < count:
            await asyncio.sleep(0.01)
    return path.read_text().splitlines()


async def stop_outside_of_a_commit(pid: int, folder: Path) -> None:
    """Stop a process, but not while it holds SQLite's one write lock: nobody could write then."""
    async with asyncio.timeout(60):
        while True:
            os.kill(pid, signal.SIGSTOP)
            try:
                with closing(sqlite3.connect(folder / "omniq.db", timeout=0)) as other:
                    other.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError:
                os.kill(pid, signal.SIGCONT)
                await asyncio.sleep(0.01)


async def test_a_killed_worker_loses_nothing(
    start: Start, queue: AsyncOmniQ, tmp_path: Path
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for n in range(30, 60):
        (files / f"{n}.hold").touch()
    victim = start(LONG)
    handles = await queue.enqueue_many(
        [Task(func=mark, args=(str(files), f"{n}", 0.02)) for n in range(60)]
    )
    for n in range(30, 35):  # these run in its five threads, and will not end
        await lines(files / f"{n}", 1)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    for n in range(30, 60):
        (files / f"{n}.hold").unlink()
    start(LONG)  # on this machine a dead neighbour is seen at once, no lease is waited for
    ended = [result async for result in queue.results(handles)]
    assert len(ended) == 60
    assert {result.status.value for result in ended} == {"success"}
    ran_twice = [n for n in range(60) if len((files / f"{n}").read_text().splitlines()) > 2]
    assert ran_twice == [30, 31, 32, 33, 34], "what ran when the worker died, and nothing else"
    lost = await queue.events(EventFilter(types=(EventType.LEASE_LOST,)))
    assert {event.data["losses"] for event in lost.events} == {1}
    attempts = {(await queue.info(handle)).row.attempt for handle in handles}
    assert attempts == {1}, "a worker's death costs no attempt"


async def test_a_worker_stopped_past_its_lease_cannot_end_what_others_took_over(
    start: Start, queue: AsyncOmniQ, tmp_path: Path
) -> None:
    hold = tmp_path / "log.hold"
    hold.touch()
    zombie = start(2.0)
    handle = await queue.enqueue(mark, (str(tmp_path), "log", 0.0))
    await lines(tmp_path / "log", 1)
    await stop_outside_of_a_commit(zombie.pid, tmp_path)
    hold.unlink()
    async with WorkerPool(queue):
        assert await handle.result(60) == os.getpid()
        os.kill(zombie.pid, signal.SIGCONT)
        written = await lines(tmp_path / "log", 4)
        assert written[-1] == f"end {zombie.pid}"
        probe = await queue.enqueue(mark, (str(tmp_path), "other", 0.0))
        await probe.result(60)  # whoever ran it, the zombie had time to send its result
    row = (await queue.info(handle)).row
    assert (row.status, row.epoch, row.losses) == (Status.SUCCEEDED, 3, 1)
    assert await handle.result() == os.getpid()


async def test_a_task_that_blocks_the_loop_keeps_its_lease(start: Start, queue: AsyncOmniQ) -> None:
    start(6.0)  # with a beat every two seconds: no stall of a machine takes all three
    handle = await queue.enqueue(block, (8.0,))
    async with asyncio.timeout(60):
        while (await queue.info(handle)).row.status is not Status.RUNNING:
            await asyncio.sleep(0.01)
    async with WorkerPool(queue):  # would take it over, if it could
        assert await handle.result(60) != os.getpid()
    row = (await queue.info(handle)).row
    assert (row.epoch, row.losses) == (1, 0)


async def test_a_task_that_kills_its_workers_is_failed_as_poison(
    start: Start, queue: AsyncOmniQ, tmp_path: Path
) -> None:
    handle = await queue.enqueue(mark, (str(tmp_path), "log", 3600.0))
    for deaths in range(1, 5):
        victim = start(LONG)
        await lines(tmp_path / "log", deaths)
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
    start(LONG)
    with pytest.raises(Exception, match="worker died 4 times"):
        await handle.result(60)
    assert (await queue.info(handle)).row.fault == "omniq.WorkerLost"


async def test_a_running_task_is_cancelled_from_another_process(
    start: Start, queue: AsyncOmniQ
) -> None:
    start(LONG)
    handle = await queue.enqueue(asyncio.sleep, (3600,))
    async with asyncio.timeout(60):
        while (await queue.info(handle)).row.status is not Status.RUNNING:
            await asyncio.sleep(0.01)
    assert await handle.cancel()
    with pytest.raises(Exception, match="was cancelled"):
        await handle.result(60)


async def test_a_terminated_worker_gives_back_at_once(
    start: Start, queue: AsyncOmniQ, tmp_path: Path
) -> None:
    worker = start(LONG)
    handle = await queue.enqueue(asyncio.sleep, (3600,))
    async with asyncio.timeout(60):
        while (await queue.info(handle)).row.status is not Status.RUNNING:
            await asyncio.sleep(0.01)
    worker.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(worker.wait, 60) != 0
    row = (await queue.info(handle)).row
    assert (row.status, row.attempt) == (Status.READY, 0)
