"""`litestar workers ...` and the worker process of `litestar run`."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from omniq import AsyncOmniQ
from tests.programs import PATIENCE, ROOT, Program, run

pytestmark = [pytest.mark.asyncio, pytest.mark.once]
APP = "tests.contrib.shop:app"
LITESTAR = ["-m", "litestar", "--app", APP]


@pytest_asyncio.fixture
async def queue(tmp_path: Path) -> AsyncIterator[AsyncOmniQ]:
    """The app's queue, seen from here; nobody works on it here."""
    async with AsyncOmniQ(base_dir=tmp_path / ".omniq", embedded=False) as queue:
        yield queue


def program(tmp_path: Path, *words: str, placement: str = "external") -> Program:
    env = {"SHOP_PLACEMENT": placement}
    return Program([*LITESTAR, *words], cwd=tmp_path, env=env, paths=[ROOT])


def wait_for_end(handle: int) -> None:
    """Wait for the end of a process that is not our child."""
    assert select.select([handle], [], [], PATIENCE)[0], "the process did not end"


async def test_a_worker_of_the_app_runs_tasks_inside_its_lifespan(
    tmp_path: Path, queue: AsyncOmniQ
) -> None:
    task = await queue.enqueue("shop.pid")
    with program(tmp_path, "workers", "run") as worker:
        ran_in, entered = await task.result(timeout=PATIENCE)
        assert ran_in == worker.process.pid and entered == 1
        assert [card.embedded for card in await queue.workers()] == [False]
        worker.send(signal.SIGTERM)
        assert worker.ends() == 0
    assert (tmp_path / f"closed.{worker.process.pid}").exists()
    assert "Stopped." in worker.output


async def test_a_worker_serves_the_queues_it_is_told(tmp_path: Path, queue: AsyncOmniQ) -> None:
    other = await queue.enqueue("shop.pid", queue="other")
    mine = await queue.enqueue("shop.pid", queue="mine")
    options = ("-q", "mine", "--concurrency", "3", "--threads", "2", "--drain-timeout", "1")
    with program(tmp_path, "workers", "run", *options) as worker:
        await mine.result(timeout=PATIENCE)
        (card,) = await queue.workers()
        assert card.queues == ("mine",) and card.slots == {"async": 3, "thread": 2}
        assert await other.status() == "pending"
        worker.send(signal.SIGINT)
        assert worker.ends() == 0


async def test_status_says_how_the_queue_stands(tmp_path: Path, queue: AsyncOmniQ) -> None:
    await queue.enqueue("shop.pid", queue="mail")
    command = [*LITESTAR, "workers", "status"]
    told = run([*command, "--json"], cwd=tmp_path, paths=[ROOT], SHOP_PLACEMENT="external")
    assert told.returncode == 0
    report = json.loads(told.stdout)
    assert report["queues"] == {"mail": {"ready": 1}} and report["workers"] == []
    shown = run(command, cwd=tmp_path, paths=[ROOT], SHOP_PLACEMENT="external").stdout
    assert "mail" in shown and "nobody works on these tasks now" in shown


async def test_memory_of_an_app_has_no_other_worker(tmp_path: Path) -> None:
    command = ["-m", "litestar", "--app", "tests.contrib.shop:memory_app", "workers", "run"]
    refused = run(command, cwd=tmp_path, paths=[ROOT])
    assert refused.returncode == 1
    words = " ".join(refused.stderr.replace("│", " ").split())
    assert "inside the process that enqueues" in words and "Traceback" not in words


async def test_litestar_run_keeps_one_worker_process(tmp_path: Path, queue: AsyncOmniQ) -> None:
    with program(tmp_path, "run", "--port", "0", placement="server") as server:
        task = await queue.enqueue("shop.pid")
        ran_in, entered = await task.result(timeout=PATIENCE)
        assert ran_in != server.process.pid and entered == 1
        server.says("running on http")
        assert [card.pid for card in await queue.workers()] == [ran_in]
        handle = os.pidfd_open(ran_in)
        server.send(signal.SIGTERM)
        server.ends()
        wait_for_end(handle)
        os.close(handle)
        assert "Fatal" not in server.output and "Traceback" not in server.output
    assert (tmp_path / f"closed.{ran_in}").exists(), "the worker drained and closed the app"
    assert await queue.workers() == []


async def test_a_worker_process_that_dies_is_started_again(
    tmp_path: Path, queue: AsyncOmniQ
) -> None:
    with program(tmp_path, "run", "--port", "0", placement="server") as server:
        first, _ = await (await queue.enqueue("shop.pid")).result(timeout=PATIENCE)
        os.kill(first, signal.SIGKILL)
        server.says("starting it again")
        second, _ = await (await queue.enqueue("shop.pid")).result(timeout=PATIENCE)
        assert second not in (first, server.process.pid)
        server.send(signal.SIGTERM)
        server.ends()


async def test_the_worker_process_ends_with_a_server_that_is_killed(
    tmp_path: Path, queue: AsyncOmniQ
) -> None:
    with program(tmp_path, "run", "--port", "0", placement="server") as server:
        ran_in, _ = await (await queue.enqueue("shop.pid")).result(timeout=PATIENCE)
        handle = os.pidfd_open(ran_in)
        server.send(signal.SIGKILL)
        server.ends()
        wait_for_end(handle)
        os.close(handle)
    assert (tmp_path / f"closed.{ran_in}").exists()
