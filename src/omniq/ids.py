"""Identifiers: uuid7 text (RFC 9562, 5.7), so that sorting by id is sorting by creation."""

from __future__ import annotations

import os
import re
import threading
import time
from hashlib import blake2b

from omniq.errors import InvalidName

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")


_COUNTS = tuple(f"-7{n:03x}-" for n in range(0x1000))
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


class _Uuid7:
    """Monotonic within a process: the 12 bits after the time count within a millisecond.

    Method 1 of RFC 9562, 6.2 (fixed-length dedicated counter), 62 random bits behind it.
    """

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._ms = 0
        self._head = ""
        self._count = 0
        self._tails: list[str] = []

    def __call__(self) -> str:
        ms = time.time_ns() // 1_000_000
        with self._lock:
            if ms > self._ms:
                self._begin(ms)
            else:
                self._count += 1
                if self._count > 0xFFF:  # more than 4096 in one millisecond: borrow the next
                    self._begin(self._ms + 1)
            if not self._tails:
                self._tails = _tails(os.urandom(2048).hex())
            return self._head + _COUNTS[self._count] + self._tails.pop()

    def _begin(self, ms: int) -> None:
        head = f"{ms:012x}"
        self._ms, self._head, self._count = ms, f"{head[:8]}-{head[8:]}", 0


def _tails(digits: str) -> list[str]:
    parts = [digits[at : at + 16] for at in range(0, len(digits), 16)]
    return [f"{_VARIANT[part[0]]}{part[1:4]}-{part[4:]}" for part in parts]


uuid7 = _Uuid7()


def derived_id(ms: int, *parts: str) -> str:
    """A uuid7-shaped id that everybody derives alike: the time is `ms`, the rest a hash.

    Used where two processes may create the same task (a schedule's tick): the second
    insert of one id changes nothing.
    """
    digest = blake2b("\x1f".join(parts).encode(), digest_size=10).hexdigest()
    head = f"{ms:012x}"
    variant = _VARIANT[digest[3]]
    return f"{head[:8]}-{head[8:]}-7{digest[:3]}-{variant}{digest[4:7]}-{digest[7:19]}"


def time_of(id: str) -> int:
    """When an id was made: milliseconds since 1970, UTC."""
    return int(id[:8] + id[9:13], 16)


def is_task_id(text: str) -> bool:
    """Whether `text` has the shape of a task id."""
    return _ID.match(text) is not None


def check_name(name: str, *, what: str = "queue") -> str:
    """Give `name` back if it is safe as a key everywhere, else raise InvalidName."""
    if not _NAME.match(name):
        raise InvalidName(
            f"{what} name {name!r} is not allowed: use 1 to 64 of A-Z a-z 0-9 _ - "
            "(names become keys, file names and subjects)"
        )
    return name
