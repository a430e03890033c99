"""After a power cut: the end of a local log that did not reach the disk is put aside.

With durability "normal" the last segments may be missing or torn when the machine (not only
the process) went down. What they held is lost within the promise of that grade; but the log
must go on from the last whole one, so the rest is moved to `lost/`, newest first.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from omniq.storage.file.names import SHARD, Damaged, unseal

with suppress(ImportError):
    import fcntl

_LOG: Final = logging.getLogger("omniq.storage")
_SHARDS: Final = 4
"""How far back it is looked: the system writes everything out within half a minute or so,
but a busy log may fill several directories in that time."""


def repair(root: Path) -> int:
    """Put the torn end aside if the machine was started since; how many segments that were."""
    if _newest_stamp(root / "log") >= _booted():
        return 0
    with (root / "lock").open("ab") as lock:
        if hasattr(os, "fork"):  # where there is none, there are no such locks either
            fcntl.flock(lock, fcntl.LOCK_EX)
        segments = _segments(root / "log")
        broken = _first_broken(segments)
        if broken is None:
            return 0
        lost = [number for number in segments if number >= broken]
        aside = root / "lost" / secrets.token_hex(4)
        aside.mkdir(parents=True, mode=0o700)
        for number in reversed(lost):
            segments[number].rename(aside / segments[number].name)
    _LOG.warning(
        "%s: the log broke off at segment %d when this machine went down; %d later segment(s) "
        "were moved to %s. With durability='strict' nothing acknowledged is lost so",
        root,
        broken,
        len(lost),
        aside,
    )
    return len(lost)


def _segments(log: Path) -> dict[int, Path]:
    shards = sorted(folder for folder in log.iterdir() if folder.name.isdecimal())
    used = [files for shard in shards[-_SHARDS:] if (files := sorted(shard.iterdir()))]
    return {int(file.name): file for files in used for file in files}


def _first_broken(segments: dict[int, Path]) -> int | None:
    """The first number that is missing before others, or whose bytes are not whole."""
    before = None
    for number, file in segments.items():
        if before is None and number not in (1, number - number % SHARD):
            return number - number % SHARD or 1
        if before is not None and number != before + 1:
            return before + 1
        try:
            unseal(file.read_bytes())
        except Damaged:
            return number
        before = number
    return None


def _newest_stamp(log: Path) -> float:
    """When the newest segment was written; now, if there is none."""
    for shard in sorted(log.iterdir(), reverse=True):
        if files := sorted(shard.iterdir()):
            return files[-1].stat().st_mtime
    return time.time()


def _booted() -> float:
    """When this machine was started; 0 where it does not say."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return 0.0 if clock is None else time.time() - time.clock_gettime(clock) - 1
