"""The documentation is true: its programs run, its links lead somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = [ROOT / "README.md", ROOT / "docs" / "quickstart.md"]
"""Pages whose Python blocks are whole programs. A comment behind `print` is what it prints."""


def blocks(page: Path) -> list[str]:
    """The Python on a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


PROGRAMS = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in RUN
    for number, text in enumerate(blocks(page))
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_print_what_they_say(program: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=110
    )
    said = re.findall(r"print\(.*\)\s+# (.*)", program)
    beside = [
        line for line in done.stderr.splitlines() if " failed for good in attempt " not in line
    ]
    assert (done.returncode, beside) == (0, [])
    assert done.stdout.splitlines() == said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_python_and_imports_what_exists(page: Path) -> None:
    for text in blocks(page):
        tree = compile(text, page.name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        assert isinstance(tree, ast.Module)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "omniq":
                module = import_module(node.module or "")
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    assert hasattr(module, alias.name) or find_spec(full), full


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    for link in links:
        if "://" not in link:
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_the_readme_has_the_commands_ci_reads(name: str) -> None:
    block = re.compile(rf"<!-- command: {name} -->\n```bash\n(.+)\n```")
    command = block.search((ROOT / "README.md").read_text())
    assert command
    assert command[1].startswith("pip install uv && uv run --all-extras ")
