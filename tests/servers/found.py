"""Which server programs there are on this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from pathlib import Path


def on_path(*names: str) -> Path | None:
    """The first of these programs that is on PATH, unless only packages are wanted."""
    if os.environ.get("OMNIQ_TEST_SERVERS") == "packages":
        return None
    for name in names:
        if found := shutil.which(name):
            return Path(found).absolute()  # not resolved: some programs ask for their own name
    return None


def package(name: str) -> Path | None:
    """The folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def script(name: str) -> Path:
    """A program that a package put beside this Python."""
    return Path(sysconfig.get_path("scripts")) / name


def missing(what: str) -> AssertionError:
    return AssertionError(
        f"no {what} on PATH and none installed for Python {sys.version.split()[0]}: "
        "`uv sync --all-extras` installs the `servers` group"
    )
