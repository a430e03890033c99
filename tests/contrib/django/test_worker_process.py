"""`omniq_worker` as a process: signals, reloads, neighbours, and what it does without its store."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from omniq import OmniQ
from omniq.models.status import Status
from tests.contrib.django.project import Project
from tests.programs import PATIENCE, Program

pytestmark = pytest.mark.once

TASKS = """
import asyncio
import os
import time
from pathlib import Path

from omniq import task


def said(name):
    print(f"holding {name}", flush=True)


@task("hold")
def hold(name):
    said(name)
    while not Path(name).exists():
        time.sleep(0.01)
    return "old"


@task("hold_async")
async def hold_async(name):
    said(name)
    while not Path(name).exists():
        await asyncio.sleep(0.01)
    return "old"


@task("pid")
def pid():
    return os.getpid()


@task("leave")
def leave():
    raise SystemExit(3)


@task("interrupt")
def interrupt():
    raise KeyboardInterrupt
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path, settings="DEBUG = False", files={"notes/tasks.py": TASKS})


@pytest.fixture
def queue(project: Project) -> Iterator[OmniQ]:
    with OmniQ(base_dir=project.folder / ".omniq", embedded=False) as queue:
        yield queue


def worker(project: Project, *words: str, **env: str) -> Program:
    return project.start("manage.py", "omniq_worker", *words, **env)


def working(program: Program) -> None:
    program.says("Ctrl-C lets running tasks end")


def more_settings(project: Project, text: str) -> None:
    with (project.folder / "mysite/settings.py").open("a") as file:
        file.write(f"\n{text}\n")


def edited(program: Program, path: Path, text: str, pattern: str) -> None:
    """Write a file until the reloader, which looks at files once in a while, has seen it."""
    for _ in range(10):
        path.write_text(text)
        if program.heard(pattern, 6):  # once more would be one more change for a slow one
            return
    raise AssertionError(f"never said {pattern!r}, but:\n{program.output}")


def let_go(project: Project, name: str) -> None:
    (project.folder / name).touch()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_running_tasks_end(
    project: Project, queue: OmniQ, number: signal.Signals
) -> None:
    tasks = [queue.enqueue("hold", ("a",)), queue.enqueue("hold_async", ("b",))]
    with worker(project, "--drain-timeout", "600") as program:
        for name in "ab":
            program.says(f"holding {name}")
        program.send(number)
        program.says("2 running tasks may go on for 600 s; press Ctrl-C again to force")
        for name in "ab":
            let_go(project, name)
        assert program.ends() == 0
    assert [task.result(PATIENCE) for task in tasks] == ["old", "old"]
    assert program.output.endswith("Stopped.\n")


def test_a_second_signal_gives_back_what_runs(project: Project, queue: OmniQ) -> None:
    tasks = [queue.enqueue(name, ("never",)) for name in ("hold", "hold_async")]
    with worker(project, "--drain-timeout", "600") as program:
        program.says(r"(?s)holding never.*holding never")
        program.send(signal.SIGINT)
        program.says("2 running tasks may go on for 600 s")
        assert {queue.info(task).row.status for task in tasks} == {Status.RUNNING}
        program.send(signal.SIGTERM)
        assert program.ends() == 128 + signal.SIGTERM
    rows = [queue.info(task).row for task in tasks]
    assert {(row.status, row.attempt) for row in rows} == {(Status.READY, 0)}, "no attempt is lost"


def test_what_a_killed_worker_held_is_run_by_the_next(project: Project, queue: OmniQ) -> None:
    held = queue.enqueue("hold", ("a",))
    with worker(project) as program:
        program.says("holding a")
        program.send(signal.SIGKILL)
        assert program.ends() == -signal.SIGKILL
    assert queue.info(held).row.status is Status.RUNNING
    let_go(project, "a")
    # The next one also survives tasks that want to end the process.
    ends = [queue.enqueue(name, retries=0) for name in ("leave", "interrupt")]
    with worker(project, "--threads", "1") as program:
        assert held.result(PATIENCE) == "old"
        after = queue.enqueue("pid")
        assert after.result(PATIENCE) == program.process.pid
        program.send(signal.SIGQUIT)
        assert program.ends() == 0
    assert [queue.info(task).errors[0].type for task in ends] == ["SystemExit", "KeyboardInterrupt"]
    assert queue.workers() == []


def test_workers_beside_each_other_run_each_task_once(project: Project, queue: OmniQ) -> None:
    words = ["--threads", "1", "--concurrency", "1"]
    with (
        worker(project, *words) as one,
        worker(project, *words) as two,
        worker(project, *words) as three,
    ):
        for each in (one, two, three):
            working(each)
        tasks = [queue.enqueue("pid") for _ in range(30)]
        held = [queue.enqueue("hold", (name,)) for name in "abc"]
        assert {task.result(PATIENCE) for task in tasks} <= {
            each.process.pid for each in (one, two, three)
        }
        for name in "abc":
            let_go(project, name)
        assert [task.result(PATIENCE) for task in held] == ["old"] * 3
        for each in (one, two, three):
            each.send(signal.SIGTERM)
        assert [each.ends() for each in (one, two, three)] == [0, 0, 0]
    rows = [queue.info(task).row for task in (*tasks, *held)]
    assert {(row.status, row.attempt, row.epoch) for row in rows} == {(Status.SUCCEEDED, 1, 1)}
    output = one.output + two.output + three.output
    assert [output.count(f"holding {name}") for name in "abc"] == [1, 1, 1]


# -- reload --------------------------------------------------------------------------------


def test_a_reload_brings_new_code_and_gives_back_what_runs(project: Project, queue: OmniQ) -> None:
    with worker(project, "--reload") as program:
        working(program)
        old = queue.enqueue("pid").result(PATIENCE)
        held = queue.enqueue("hold", ("a",))
        program.says("holding a")
        new_code = TASKS.replace('return "old"', 'return "new"')
        edited(program, project.folder / "notes/tasks.py", new_code, "may go on for 3 s")
        program.says(r"(?s)holding a.*holding a")
        let_go(project, "a")
        assert held.result(PATIENCE) == "new"
        new = queue.enqueue("pid").result(PATIENCE)
        assert len({old, new, program.process.pid}) == 3
        assert queue.info(held).row.attempt == 1, "given back without losing an attempt"
        # The parent passes its signals on and waits.
        last = queue.enqueue("hold_async", ("b",))
        program.says("holding b")
        program.send(signal.SIGTERM)
        program.says("1 running task may go on for 10 s")
        let_go(project, "b")
        assert program.ends() == 0
    assert last.result(PATIENCE) == "new" and queue.workers() == []


def test_a_second_signal_under_the_reloader(project: Project, queue: OmniQ) -> None:
    task = queue.enqueue("hold", ("never",))
    more_settings(project, "DEBUG = True")  # as good as --reload
    with worker(project, "--drain-timeout", "600") as program:
        program.says("holding never")
        program.send(signal.SIGINT)
        program.says("1 running task may go on for 600 s")
        program.send(signal.SIGINT)
        assert program.ends() == 128 + signal.SIGINT
    assert queue.info(task).row.attempt == 0


def test_a_mistake_under_the_reloader_waits_to_be_corrected(project: Project, queue: OmniQ) -> None:
    task = queue.enqueue("pid")
    settings = project.folder / "mysite/settings.py"
    more_settings(project, "DEBUG = True")
    right = settings.read_text()
    more_settings(project, 'OMNIQ = {"STORAGE_TYPE": "memory"}')
    with worker(project, "--max-tasks", "1") as program:
        program.says("inside the process that enqueues")
        program.says("Nothing runs until a file changes.")
        edited(program, settings, right + "\nDEBUG =", "settings.py changed, reloading")
        program.says("SyntaxError")
        program.says("The worker did not come up; nothing runs until a file changes.")
        settings.write_text(right)
        program.says("Ran 1 task, as many as wanted.")
        program.says("Stopped.")
        assert program.ends() == 0, "a worker that has done enough leaves the reloader too"
    assert task.result(PATIENCE) != program.process.pid, "run by the reloader's child"


# -- without its store, or with another ----------------------------------------------------


def test_a_store_that_is_not_there(project: Project) -> None:
    more_settings(project, 'OMNIQ = {"STORAGE_URL": "sqlite:////proc/no/such/place.db"}')
    with worker(project) as program:
        assert program.ends() == 1
    assert program.output.startswith("CommandError: ") and "Traceback" not in program.output
    assert "/proc/no/such/place.db" in program.output


def test_tasks_in_a_database_of_django(project: Project) -> None:
    more_settings(project, 'OMNIQ = {"DATABASE": "default"}')
    with worker(project) as program:
        assert program.ends() == 1
    assert "CommandError: " in program.output and "Traceback" not in program.output
    assert "manage.py migrate" in program.output
    project.migrate()
    with worker(project) as program:
        working(program)
        said = project.python("""
            from django.db import transaction
            from omniq.contrib.django import queue
            try:
                with transaction.atomic():
                    gone = queue.enqueue("pid")
                    raise KeyError
            except KeyError:
                pass
            with transaction.atomic():
                kept = queue.enqueue("pid")
            print(kept.result(50), sum(each.count for each in queue.counts()))
            """)
        assert said.split() == [str(program.process.pid), "1"]
        program.send(signal.SIGTERM)
        assert program.ends() == 0


def test_the_plain_command_knows_a_project(project: Project, queue: OmniQ) -> None:
    task = queue.enqueue("pid")
    with project.start("-m", "omniq.cli", "worker", "mysite.asgi:application") as program:
        working(program)
        assert task.result(PATIENCE) == program.process.pid
        program.send(signal.SIGTERM)
        assert program.ends() == 0
