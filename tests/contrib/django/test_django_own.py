"""Django's own tests of its tasks framework pass on OmniQ: all of them, as Django wrote them.

What is adapted, and why, stands in `own_tests.py`. They come with Django 6; on Django 5.2
`test_backend.py` and `test_backend_eager.py` cover the same ground over the backport.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from omniq.contrib.django.compat import package
from tests.contrib.django import own_tests
from tests.contrib.django.sources import django_tests

THREE_CLASSES = 74
"""How many tests there were in the framework's three main classes when this was written."""


def test_the_adapted_ones_are_few_and_have_a_reason() -> None:
    source = Path(own_tests.__file__).read_text()
    adapted = [line for line in source.splitlines() if line.strip().startswith('"test_')]
    assert len(adapted) == 5


def written(tests: Path) -> int:
    """How many tests stand in the sources, counted without running anything."""
    return sum(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")
        for module in own_tests.MODULES
        for case in ast.parse((tests / "tasks" / f"{module}.py").read_text()).body
        if isinstance(case, ast.ClassDef)
        for node in case.body
    )


if package() == "django.tasks":

    @pytest.mark.timeout(700)  # the first run fetches the sources
    def test_djangos_own_tests_pass(tmp_path: Path) -> None:
        tests = django_tests()
        ran = subprocess.run(
            [sys.executable, "-W", "error", own_tests.__file__, str(tests), str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        (line,) = [line for line in ran.stdout.splitlines() if line.startswith("{")]
        told = json.loads(line)
        assert told["bad"] == [], "\n".join(told["bad"])
        assert told["skipped"] == []
        assert told["omniq_tasks"] == "OmniQTask", "Django's own sample tasks are OmniQ's"
        assert told["run"] == written(tests) >= THREE_CLASSES
        assert ran.returncode == 0, ran.stderr
