"""Everything that is checked without running a test.

    uv run python tools/check.py          say what is wrong
    uv run python tools/check.py --fix    format and regenerate first

One line per check with its time, then what failed, in full.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
CODE = [
    name for name in ("src", "tests", "tools", "bench", "example_apps") if (ROOT / name).is_dir()
]
TYPED = ["src", "tools"]

MAX_LINES = 500
MEDIAN_GOAL = 120
COUNTED = {".py", ".js", ".css", ".sql", ".lua", ".sh"}
GENERATED = {"src/omniq/sync.py"}

# Lock files name the hosts of package indexes.
LOCKS = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "package-lock.json", "yarn.lock"}


class Outcome(NamedTuple):
    name: str
    seconds: float
    said: str
    failed: bool


Check = Callable[[], tuple[bool, str]]


def tool(*command: str) -> Check:
    """A program that says by its exit status whether all is well."""

    def run() -> tuple[bool, str]:
        done = subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return done.returncode == 0, done.stdout.strip()

    return run


def module(*command: str) -> Check:
    return tool(PYTHON, "-m", *command)


def files(*options: str) -> list[str]:
    """Paths git knows; with `--others --exclude-standard` those it would take."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", *options], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def sizes() -> tuple[bool, str]:
    names = files("--cached", "--others", "--exclude-standard")
    counted = {
        name: len((ROOT / name).read_bytes().splitlines())
        for name in names
        if Path(name).suffix in COUNTED and name not in GENERATED
    }
    big = {name: lines for name, lines in counted.items() if lines > MAX_LINES}
    own = [n for name, n in counted.items() if name.startswith("src/") and n]
    median = statistics.median(own)
    if big:
        rows = "\n".join(f"{lines} {name}" for name, lines in sorted(big.items()))
        return False, f"over {MAX_LINES} lines:\n{rows}"
    return True, f"median {median:.0f} lines in src (goal near {MEDIAN_GOAL}), longest {max(own)}"


def machines() -> tuple[bool, str]:
    """Nothing committed may only be true on one machine."""
    tracked = files("--cached")
    wrong = [f"{name}: a lock file" for name in tracked if Path(name).name in LOCKS]
    homes = {str(ROOT), str(ROOT.parent), str(Path.home())} - {"/", tempfile.gettempdir()}
    places = "|".join(sorted(re.escape(home) + r"\b" for home in homes))
    path = re.compile(rf"(?<![\w.])(?:{places}|/(?:root|home/\w+|Users/\w+)/)")
    for name in tracked:
        try:
            text = (ROOT / name).read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if path.search(line) and name != "tools/check.py":
                wrong.append(f"{name}:{number}: a path of one machine: {line.strip()[:80]}")
    return not wrong, "\n".join(wrong)


CHECKS: dict[str, Check] = {  # the slowest first
    "mypy --strict": module("mypy", "--strict", *TYPED),
    "imports": tool(str(Path(PYTHON).with_name("lint-imports")), "--no-logo"),
    "black": module("black", "--check", *CODE),
    "isort": module("isort", "--check-only", "--quiet", *CODE),
    "ruff": module("ruff", "check", *CODE),
    "blocking face": tool(PYTHON, "tools/gen_sync.py", "--check"),
    "file sizes": sizes,
    "machine paths": machines,
}

FIXES: dict[str, Check] = {
    "ruff --fix": module("ruff", "check", "--fix", "--quiet", *CODE),
    "isort": module("isort", "--quiet", *CODE),
    "black": module("black", "--quiet", *CODE),
    "blocking face": tool(PYTHON, "tools/gen_sync.py"),
}


def timed(name: str, check: Check) -> Outcome:
    start = time.perf_counter()
    good, said = check()
    return Outcome(name, time.perf_counter() - start, said, not good)


def show(outcome: Outcome) -> None:
    word = "FAILED" if outcome.failed else "ok"
    last = "" if outcome.failed else outcome.said.splitlines()[-1] if outcome.said else ""
    print(f"{word:<7}{outcome.name:<16}{outcome.seconds:6.1f} s  {last[:80]}".rstrip(), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fix", action="store_true", help="format and regenerate first")
    if parser.parse_args().fix:
        for name, fix in FIXES.items():
            timed(name, fix)
    failed: list[Outcome] = []
    with ThreadPoolExecutor(max_workers=2) as pool:
        for outcome in pool.map(timed, CHECKS.keys(), CHECKS.values()):
            show(outcome)
            if outcome.failed:
                failed.append(outcome)
    for outcome in failed:
        print(f"\n--- {outcome.name}\n{outcome.said}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
