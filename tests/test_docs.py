"""The documentation is true: its programs run, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = [ROOT / "README.md", ROOT / "docs" / "quickstart.md"]
"""Pages whose Python blocks are whole programs. A comment behind `print` is what it prints."""

PROGRAMS = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in RUN
    for number, text in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_print_what_they_say(program: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    said = re.findall(r"print\(.*\)\s+# (.*)", program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == said


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
