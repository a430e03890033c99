"""What a type checker sees: signatures and results survive being enqueued."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.newer

PROGRAM = """
from omniq import AsyncOmniQ, OmniQ, task
from omniq.contrib import django

@task
async def add(x: int, y: int = 1) -> int:
    return x + y

@task(retries=3)
def shout(text: str) -> str:
    return text.upper()

def plain(x: int) -> float:
    return x / 2

async def main(queue: AsyncOmniQ) -> None:
    reveal_type(await add.enqueue(1, y=2))           # 1
    reveal_type(await shout.enqueue("a"))            # 2
    reveal_type(shout("a"))                          # 3
    reveal_type(await queue.enqueue(plain, (1,)))    # 4
    reveal_type(await queue.enqueue(add, (1,)))      # 5
    reveal_type(await (await add.enqueue(1)).result())  # 6
    await add.enqueue("no")                          # wrong 1
    await add.enqueue(1, z=2)                        # wrong 2
    await queue.enqueue(plain, (1,), prio=1)         # wrong 3

def blocking(queue: OmniQ) -> None:
    reveal_type(queue.enqueue(plain, (1,)))          # 7
    reveal_type(queue.enqueue(plain, (1,)).result()) # 8

async def view() -> None:
    reveal_type(await django.aqueue.enqueue(add, (1,), on_commit=True))  # 9
    reveal_type(django.queue.enqueue(plain, (1,)).result())              # 10
    await django.aqueue.enqueue(plain, (1,), when=True)                  # wrong 4
"""
REVEALED = {
    1: "AsyncTaskHandle[int]",
    2: "AsyncTaskHandle[str]",
    3: "str",
    4: "AsyncTaskHandle[float]",
    5: "AsyncTaskHandle[int]",
    6: "int",
    7: "TaskHandle[float]",
    8: "float",
    9: "AsyncTaskHandle[int]",
    10: "float",
}


@pytest.mark.timeout(600)  # the checker reads Django and all, with nothing cached
def test_a_type_checker_keeps_signatures_and_results(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-pretty", "--no-error-summary", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    lines = dict(enumerate(PROGRAM.splitlines(), 1))
    revealed, wrong = {}, set()
    for line in run.stdout.splitlines():
        found = re.match(r".*?:(\d+): (note|error): (.*)", line)
        assert found, line
        source = lines[int(found[1])]
        if mark := re.search(r"# (\d+)$", source):
            kind = re.search(r'Revealed type is "(?:[\w.]+\.)?([\w\[\]., ]+)"', found[3])
            assert kind, line
            revealed[int(mark[1])] = re.sub(r"[\w.]+\.(\w+)", r"\1", kind[1])
        elif "# wrong" in source:
            wrong.add(source)
        elif found[2] == "error":
            raise AssertionError(line)
    assert revealed == REVEALED
    assert len(wrong) == 4, run.stdout
