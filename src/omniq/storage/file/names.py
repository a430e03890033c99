"""What the files of a log are called, and how a segment is wrapped: the same in every place."""

from __future__ import annotations

import re
import zlib
from typing import Final

from omniq.errors import StorageError

SHARD: Final = 256
"""Numbers of one directory: they are made, listed and removed together."""

_PART: Final = r"[A-Za-z0-9=_-][A-Za-z0-9=._-]{0,127}"
_NAME: Final = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)
_HEAD: Final = 4


class Damaged(ValueError):
    """The bytes of a segment are not those that were written."""


def segment_name(number: int) -> str:
    """Where segment `number` is kept."""
    return f"log/{number // SHARD:016d}/{number:020d}"


def shard_name(shard: int) -> str:
    """The directory of the numbers from `shard * SHARD` on."""
    return f"log/{shard:016d}"


def check_name(name: str) -> str:
    """Refuse a name that could lead out of the log's own directory."""
    if not _NAME.fullmatch(name):
        raise StorageError(f"{name!r} is no name for an object of the log")
    return name


def seal(data: bytes) -> bytes:
    """What is put before a segment so that a torn one is told from a whole one."""
    return zlib.crc32(data).to_bytes(_HEAD, "big")


def unseal(sealed: bytes) -> bytes:
    """A segment without its seal; raises Damaged."""
    data = sealed[_HEAD:]
    if not data or zlib.crc32(data).to_bytes(_HEAD, "big") != sealed[:_HEAD]:
        raise Damaged(f"{len(sealed)} bytes that do not fit their checksum")
    return data
