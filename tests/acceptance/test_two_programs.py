"""The first two programs anybody runs, as they stand, and every combination beside them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from textwrap import dedent
from uuid import uuid4

import pytest

pytestmark = pytest.mark.newer

ROOT = Path(__file__).parents[2]

ASYNC = """
import asyncio
from omniq import AsyncTaskQueue

async def my_task(x, y):
    return x + y

async def main():
    queue = AsyncTaskQueue(storage_type="memory", worker_type="async", max_workers=10)
    task_id = await queue.enqueue(my_task, args=(5, 10))
    result = await queue.get_result(task_id)
    print(f"Result: {result}")          # Result: 15

asyncio.run(main())
"""

BLOCKING = """
from omniq import TaskQueue

def my_task(x, y):
    return x + y

queue = TaskQueue(storage_type="sqlite", worker_type="thread", max_workers=5)
task_id = queue.enqueue(my_task, args=(5, 10))
print(f"Result: {queue.get_result(task_id)}")   # Result: 15
"""

PROGRAMS = {"async": ASYNC, "blocking": BLOCKING}
STORAGES = ("memory", "sqlite")
EVERYWHERE = ("memory", "file", "sqlite", "postgres", "redis", "nats")
WORKERS = ("async", "thread")
KINDS = ("def", "async def")


def run(program: Path, **env: str) -> tuple[int, str, str]:
    """Status, output and errors of a program that ends by itself."""
    done = subprocess.run(
        [sys.executable, program.name],
        cwd=program.parent,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("face", PROGRAMS)
def test_it_runs_as_it_stands(face: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAMS[face])
    assert run(program) == (0, "Result: 15\n", "")
    assert run(program) == (0, "Result: 15\n", ""), "and again, beside what the first run left"


@pytest.mark.parametrize(("face", "storage"), list(product(PROGRAMS, EVERYWHERE)))
def test_it_runs_on_every_place(
    face: str, storage: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One word changes; where the server is stands in the environment."""
    env = {"OMNIQ_NAMESPACE": f"t{uuid4().hex}"}
    if storage in ("postgres", "redis", "nats"):
        env["OMNIQ_STORAGE_URL"] = request.getfixturevalue(f"{storage}_url")
    program = tmp_path / "program.py"
    text = re.sub(r'storage_type="\w+"', f'storage_type="{storage}"', PROGRAMS[face])
    program.write_text(text)
    for again in ("", "and again, beside the first run's"):
        status, out, err = run(program, **env)
        assert (status, out) == (0, "Result: 15\n"), again
        # NATS keeps for two minutes in memory what it acknowledged, which people should know of.
        assert not err if storage != "nats" else "sync_interval" in err and err.count("\n") == 1


@pytest.mark.parametrize("face", PROGRAMS)
def test_the_readme_shows_the_same(face: str) -> None:
    assert PROGRAMS[face].strip() in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("face", "storage", "worker", "kind"), list(product(PROGRAMS, STORAGES, WORKERS, KINDS))
)
def test_every_worker_runs_every_kind_of_function(
    face: str, storage: str, worker: str, kind: str, tmp_path: Path
) -> None:
    text = re.sub(r"(async )?def my_task", f"{kind} my_task", PROGRAMS[face])
    text = re.sub(r'storage_type="\w+"', f'storage_type="{storage}"', text)
    text = re.sub(r'worker_type="\w+"', f'worker_type="{worker}"', text)
    program = tmp_path / "program.py"
    program.write_text(text)
    assert run(program) == (0, "Result: 15\n", "")


def test_two_scripts_share_a_directory_but_not_their_functions(tmp_path: Path) -> None:
    """Each leaves a task of its own `my_task` behind; only its own worker may run it."""
    leave = dedent("""
        from omniq import TaskQueue

        def my_task(x, y):
            return (__file__.rsplit("/", 1)[-1], x {sign} y)

        if __name__ == "__main__":
            queue = TaskQueue(storage_type="sqlite", embedded=False)
            print(queue.enqueue(my_task, args=(5, 10)))
        """)
    work = dedent("""
        import sys
        from omniq import TaskQueue

        def my_task(x, y):
            return (__file__.rsplit("/", 1)[-1], x {sign} y)

        queue = TaskQueue(storage_type="sqlite")
        print(queue.get_result(queue.enqueue(my_task, args=(1, 2))))
        print(queue.get_result(sys.stdin.read().strip()))
        """)
    left = {}
    for name, sign in (("plus.py", "+"), ("times.py", "*")):
        (tmp_path / name).write_text(leave.format(sign=sign))
        status, out, err = run(tmp_path / name)
        assert (status, err) == (0, "")
        left[name] = out.strip()
        (tmp_path / name).write_text(work.format(sign=sign))
    for name, mine, theirs in (("plus.py", 3, 15), ("times.py", 2, 50)):
        done = subprocess.run(
            [sys.executable, name],
            cwd=tmp_path,
            input=left[name],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0
        assert all("is not that script" in line for line in done.stderr.splitlines())
        assert done.stdout == f"({name!r}, {mine})\n({name!r}, {theirs})\n"
    assert (tmp_path / ".omniq").is_dir()
