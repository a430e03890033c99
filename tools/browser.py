"""Make sure there is a Chromium for the tests that drive one, and print where.

One on PATH is taken. Otherwise root installs Debian's package, and Playwright's own build is
the last resort. Exits 1 if there is none in the end: the tests would fail without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def found() -> str | None:
    """A Chromium on PATH, or Playwright's."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def installers() -> list[list[list[str]]]:
    """Ways to get one, each a list of commands."""
    ways = []
    if shutil.which("apt-get") and os.geteuid() == 0:
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        ways.append([["apt-get", "update", "-qq"], install])
    ways.append([[sys.executable, "-m", "playwright", "install", "chromium"]])
    return ways


def main() -> int:
    path = found()
    for way in installers() if path is None else []:
        print("no Chromium yet:", *way[-1], flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        if all(subprocess.run(command, env=environment).returncode == 0 for command in way):
            path = found()
        if path is not None:
            break
    if path is None:
        print(
            "There is no Chromium and none could be installed. Install one "
            "(Debian: `apt-get install chromium`), then run this again.",
            file=sys.stderr,
        )
        return 1
    print(f"Chromium: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
