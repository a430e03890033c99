"""After a power cut: the end of a local log that did not reach the disk is put aside.

With durability "normal" the last segments may be missing or torn when the machine (not only
the process) went down; and one may be missing in a copy that was made while tasks were written.
What they held is lost within the promise of that grade; but the log must go on from the last
whole one, so the rest is moved to `lost/`, newest first. What lies before a checkpoint does not
matter: it is on the disk together with its own segment.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from omniq.storage.file.names import SHARD, Damaged, segment_name, shard_name, unseal

with suppress(ImportError):
    import fcntl

_LOG: Final = logging.getLogger("omniq.storage")
_SHARDS: Final = 4
"""How many directories are looked through where there is no checkpoint yet."""


def repair(root: Path) -> int:
    """Put aside what follows the first missing segment, or a torn one if the machine was started
    since; how many segments that were."""
    if _newest_stamp(root) >= _booted() and not _has_hole(root):
        return 0
    with (root / "lock").open("ab") as lock:
        if hasattr(os, "fork"):  # where there is none, there are no such locks either
            fcntl.flock(lock, fcntl.LOCK_EX)
        start, segments = _segments(root)
        end = _last_whole(root, start, segments)
        lost = [number for number in segments if number > end]
        if lost:
            aside = root / "lost" / secrets.token_hex(4)
            aside.mkdir(parents=True, mode=0o700)
            for number in reversed(lost):
                segments[number].rename(aside / segments[number].name)
        for number in (end + 1, end + 1 + SHARD // 2):  # directories may be lost as well
            (root / shard_name(number // SHARD)).mkdir(mode=0o700, exist_ok=True)
    if lost:
        _LOG.warning(
            "%s: the log broke off at segment %d, when this machine went down or while it was "
            "copied; %d later segment(s) were moved to %s. With durability='strict' a loss of power "
            "loses nothing acknowledged",
            root,
            end + 1,
            len(lost),
            aside,
        )
    return len(lost)


def _segments(root: Path) -> tuple[int | None, dict[int, Path]]:
    """The newest checkpoint that can be begun from, and the segments from there on."""
    kept = root / "cp"
    names = [file.name for file in kept.iterdir()] if kept.is_dir() else []
    for number in sorted((int(name) for name in names if name.isdecimal()), reverse=True):
        if _is_whole(root / segment_name(number)):
            return number, _files(root, number // SHARD, number)
    return None, _files(root)


def _files(root: Path, shard: int | None = None, after: int = 0) -> dict[int, Path]:
    shards = sorted(folder for folder in (root / "log").iterdir() if folder.name.isdecimal())
    kept = [s for s in shards if int(s.name) >= shard] if shard is not None else shards[-_SHARDS:]
    files = sorted(file for folder in kept for file in folder.iterdir())
    return {number: file for file in files if (number := int(file.name)) > after}


def _has_hole(root: Path) -> bool:
    """Whether one of the newest numbers is missing."""
    numbers = sorted(_newest_files(root))
    missing = set(range(numbers[0], numbers[-1])) - set(numbers) if numbers else ()
    # A listing may show a file made meanwhile and not the one made before it.
    return any(not (root / segment_name(number)).exists() for number in missing)


def _newest_files(root: Path) -> dict[int, Path]:
    """The segments of the last two directories that have any."""
    found: dict[int, Path] = {}
    folders = 0
    for shard in sorted((root / "log").iterdir(), reverse=True):
        files = dict[int, Path]()
        with suppress(FileNotFoundError):  # cut meanwhile
            files = {int(file.name): file for file in shard.iterdir()}
        folders += bool(files)
        found |= files
        if folders == 2:
            break
    return found


def _last_whole(root: Path, start: int | None, segments: dict[int, Path]) -> int:
    """The last number before one that is missing or torn."""
    if start is None:
        # Whole directories are cut, so a log begins with the first number of one.
        start = max(0, min(segments, default=1) // SHARD * SHARD - 1)
    while _is_whole(root / segment_name(start + 1)):
        start += 1
    return start


def _is_whole(file: Path) -> bool:
    try:
        unseal(file.read_bytes())
    except (Damaged, FileNotFoundError):
        return False
    return True


def _newest_stamp(root: Path) -> float:
    """When the newest segment was written; now, if there is none."""
    files = _newest_files(root)
    return files[max(files)].stat().st_mtime if files else time.time()


def _booted() -> float:
    """When this machine was started; 0 where it does not say."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return 0.0 if clock is None else time.time() - time.clock_gettime(clock) - 1
