"""Files that are whole or not there: a kill at any moment leaves no half one behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO
from uuid import uuid4


def write_whole(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Let `fill` write a file that appears under its name only when it is safely on disk.

    Two runs of one task may do this at once: each writes a file of its own, the last rename
    wins, and what a reader sees is one of the two, whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rough = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with rough.open("xb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        rough.replace(path)
    except BaseException:
        rough.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable; Windows keeps them without being asked."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep_rough(folder: Path) -> int:
    """Remove what killed writers left behind; how many files."""
    left = list(folder.glob("**/.*.tmp"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)
