"""The programs and tests of docs/testing.md, as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
PROGRAMS = [block for block in BLOCKS if "print(" in block]
TESTS = [block for block in BLOCKS if "def test_" in block]

SHOP = """
async def send_mail(to: str) -> str:
    return f"sent to {to}"

async def invite(queue, to):
    return await queue.enqueue(send_mail, (to,))
"""


def test_every_block_is_a_program_or_a_test() -> None:
    assert len(PROGRAMS) + len(TESTS) == len(BLOCKS)
    assert len(TESTS) == 3


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_a_program_prints_what_it_says(program: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == re.findall(r"print\(.*\)\s+# (.*)", program)


def test_the_tests_pass(pytester: pytest.Pytester) -> None:
    pytester.makeini(
        "[pytest]\nfilterwarnings = error\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    )
    pytester.makepyfile(shop=SHOP, **{f"test_{n}": text for n, text in enumerate(TESTS)})
    result = pytester.runpytest_subprocess("-pno:django", "-pno:anyio")
    result.assert_outcomes(passed=sum(block.count("def test_") for block in TESTS))
