"""One queue per process: made late, and anew wherever a process or its settings change."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync
from django.db import connections

from omniq import AsyncOmniQ, StorageClosed
from omniq._portal import portal
from omniq.contrib.django import aqueue, queue, runtime
from omniq.contrib.django.runtime import aclose, blocking, native, on_loop, reset
from tests.contrib.django.conftest import Omniq
from tests.contrib.django.project import Project
from tests.contrib.django.shop.tasks import add


@pytest.fixture
def on_disk(omniq: Omniq, tmp_path: Path) -> Path:
    omniq(BASE_DIR=tmp_path)
    return tmp_path


def test_nothing_is_opened_by_import_or_start(tmp_path: Path) -> None:
    """Neither Django's start, nor what every module imports, nor the checks."""
    project = Project(tmp_path, 'OMNIQ = {"EMBEDDED_WORKER": True}')
    before = set(tmp_path.iterdir())
    said = project.python("""
        import sys
        import threading
        from django.core.management import call_command
        from omniq.contrib.django import OmniQConfig, aqueue, queue
        from omniq._portal import portal
        import notes.views

        assert "notes.tasks" in sys.modules, "autodiscovered"
        heavy = {"litestar", "htpy", "uvicorn", "aiosqlite", "omniq.storage.sqlite", "django_tasks"}
        print(sorted(heavy & set(sys.modules)), portal.running, threading.active_count())
        call_command("check")
        print(portal.running, threading.active_count())
        """)
    lines = said.splitlines()
    assert lines[0] in ("[] False 1", "['django_tasks'] False 1")
    assert lines[-1] == "False 1"
    assert {each for each in tmp_path.iterdir() if each.name != "__pycache__"} == before


def test_all_threads_share_one(on_disk: Path) -> None:
    together = threading.Barrier(8)

    def ask(_: int) -> object:
        together.wait(30)
        return blocking()

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1


def test_any_number_of_loops_share_it_too(on_disk: Path) -> None:
    """As Django's test client, runserver and `async_to_sync` make one per call."""

    async def enqueue() -> str:
        return await aqueue.enqueue(add, (1, 2))

    ids = {asyncio.run(enqueue()) for _ in range(3)} | {async_to_sync(enqueue)()}
    assert {row.id for row in queue.find().tasks} == ids


@pytest.mark.asyncio
async def test_a_call_may_come_from_the_loop_thread_itself(on_disk: Path) -> None:
    async def inside() -> str:
        assert portal.is_here()
        return await aqueue.enqueue(add, (1, 2))

    assert (await aqueue.info(await on_loop(inside))).row.id


@pytest.mark.asyncio
async def test_who_gives_up_waiting_cancels_the_call(on_disk: Path) -> None:
    began, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(on_loop(wait))
    assert await asyncio.to_thread(began.wait, 30)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.to_thread(ended.wait, 30)


@pytest.mark.asyncio
async def test_errors_cross_over(on_disk: Path) -> None:
    async def fail() -> None:
        raise LookupError("over there")

    with pytest.raises(LookupError, match="over there"):
        await on_loop(fail)


def test_other_settings_are_another_queue(omniq: Omniq, tmp_path: Path) -> None:
    omniq(BASE_DIR=tmp_path / "one")
    first = blocking()
    queue.enqueue(add, (1, 2))
    omniq(BASE_DIR=tmp_path / "two")
    assert blocking() is not first
    assert queue.counts() == []
    omniq(BASE_DIR=tmp_path / "one")
    assert [each.count for each in queue.counts()] == [1]


@pytest.mark.asyncio
async def test_settings_may_change_in_async_code(omniq: Omniq, tmp_path: Path) -> None:
    omniq(BASE_DIR=tmp_path / "one")
    await aqueue.enqueue(add, (1, 2))
    omniq(BASE_DIR=tmp_path / "two")
    assert await aqueue.counts() == []
    await aclose()
    assert await aqueue.counts() == []


@pytest.mark.asyncio
async def test_settings_may_change_on_the_loop_thread(on_disk: Path) -> None:
    async def change() -> None:
        reset()

    await aqueue.enqueue(add, (1, 2))
    await on_loop(change)
    assert [each.count for each in await aqueue.counts()] == [1]


def test_a_renamed_database_is_another_place(
    omniq_in_db: None, real_db: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As test runners do, also in each process of `--parallel`."""
    before = native().describe()
    monkeypatch.setitem(connections.settings["default"], "NAME", tmp_path / "clone_1.sqlite3")
    assert native().describe() != before
    assert "clone_1.sqlite3" in native().describe()


def _in_child(answers: multiprocessing.SimpleQueue[object]) -> None:
    handle = queue.enqueue(add, (3, 4))
    answers.put((str(handle), os.getpid(), [row.id for row in queue.find().tasks]))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_opens_its_own(on_disk: Path) -> None:
    """`gunicorn --preload`, multiprocessing and the parallel test runner fork after a use."""
    mine = queue.enqueue(add, (1, 2))
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    child = fork.Process(target=_in_child, args=(answers,))
    child.start()
    handle, pid, seen = answers.get()
    child.join(30)
    assert child.exitcode == 0 and pid != os.getpid()
    assert set(seen) == {mine, handle}
    assert {row.id for row in queue.find().tasks} == {mine, handle}


def _under_lock(answers: multiprocessing.SimpleQueue[object]) -> None:
    blocking()
    answers.put("made")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_in_the_middle_of_its_making(on_disk: Path) -> None:
    """The lock was held by a thread that the child does not have."""
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    with runtime._now.lock:
        child = fork.Process(target=_under_lock, args=(answers,))
        child.start()
        assert answers.get() == "made"
    child.join(30)


@pytest.mark.asyncio
async def test_the_end_of_the_process_loses_nothing(tmp_path: Path) -> None:
    Project(tmp_path).python("""
        from omniq import Task
        from omniq.contrib.django import queue
        queue.enqueue_many([Task(func="notes.tasks:add", args=(n, n)) for n in range(100)])
        """)
    async with AsyncOmniQ(base_dir=tmp_path / ".omniq", embedded=False) as found:
        assert [each.count for each in await found.counts()] == [100]


def test_after_the_loop_thread_was_closed_there_is_a_new_one(on_disk: Path) -> None:
    queue.enqueue(add, (1, 2))
    portal.close()
    assert not portal.running
    try:
        assert [each.count for each in queue.counts()] == [1]
    except StorageClosed:  # pragma: no cover
        pytest.fail("the closed queue was used again")
