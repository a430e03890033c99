"""The files: one a day, lines only ever added, by any number of processes of a machine.

Each line carries a number of its own, given under a lock that writers hold one at a time: numbers
are the order of events and the cursor of readers. A line that was cut off by a crash was never
acknowledged; the next writer takes it away, and readers pass over it until then.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from omniq.errors import StorageError, StorageUnavailable
from omniq.models.event import TaskEvent
from omniq.models.row import Ms

try:
    import fcntl
except ImportError:
    _LOCKS = False
else:
    _LOCKS = True

RECENT: Final = 100_000
"""Events whose identity is remembered: one that is sent again within so many is kept once."""
_LOOK_BACK: Final = 8 * 1024 * 1024
_BLOCK: Final = 64 * 1024
_TURN: Final = 10.0
"""Seconds a writer waits for the one before it."""


class Line(Struct, frozen=True, omit_defaults=False, gc=False):
    """One event as it stands in a file."""

    no: int
    task: str
    epoch: int
    n: int
    at: Ms
    type: str
    queue: str
    name: str
    worker: str
    data: dict[str, Any]
    keep_until: Ms | None


class _Head(Struct, gc=False):
    """What a writer has to know of a line."""

    no: int
    task: str
    epoch: int
    n: int
    keep_until: Ms | None = None


_encode: Final = msgspec.json.Encoder().encode
_head: Final = msgspec.json.Decoder(_Head).decode


class Days:
    """The files of one folder. Methods block; one thread at a time may write."""

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self.folder, self._sync = folder, sync
        self._lock = threading.Lock()
        self._last = 0
        self._at: tuple[Path | None, int] = (None, 0)
        """How far the files are known: the newest of them, and its size."""
        self._recent: dict[int, None] = {}
        self._firsts: dict[Path, int] = {}
        self._ends: dict[Path, tuple[int, Ms | None, int]] = {}

    # ---- what is there

    def paths(self) -> list[Path]:
        """The files, oldest first."""
        return sorted(self.folder.glob("events-????-??-??.jsonl"))

    def sizes(self) -> tuple[tuple[str, int], ...]:
        """What changes with every event that is stored."""
        newest = self.paths()[-1:]
        with suppress(FileNotFoundError):
            return tuple((path.name, path.stat().st_size) for path in newest)
        return ()

    def last(self) -> int:
        """The number of the newest event, 0 if there is none."""
        for path in reversed(self.paths()):
            for head in _backwards(path):
                return head.no
        return 0

    def first(self, path: Path) -> int | None:
        """The number of a file's oldest event; None: it has none."""
        known = self._firsts.get(path)
        if known is None:
            for head in _forwards(path):
                known = self._firsts[path] = head.no
                break
        return known

    # ---- adding

    def append(self, events: Iterable[TaskEvent], now: Ms) -> int:
        """Add those of the events that are not known; how many those are."""
        with self._lock, self._turn():
            path, size = self._catch_up(now)
            lines: list[bytes] = []
            fresh: dict[int, None] = {}
            number = self._last
            for event in events:
                key = hash((event.task, event.epoch, event.n))
                if key in self._recent or key in fresh:
                    continue
                number += 1
                fresh[key] = None
                lines.append(_line(number, event))
            if lines:
                size = self._write(path, size, b"".join(lines))
                self._last, self._at = number, (path, size)
                self._remember(fresh)
            return len(lines)

    def _catch_up(self, now: Ms) -> tuple[Path, int]:
        """Read what others have added; the file to add to, and its size."""
        paths = self.paths()
        known, size = self._at
        if known is None or known not in paths:
            self._look_back(paths)
        else:
            for path in paths[paths.index(known) :]:
                self._learn(path, size if path == known else 0)
        newest = paths[-1] if paths else None
        day = datetime.fromtimestamp(now / 1000, UTC).date().isoformat()
        path = self.folder / f"events-{day}.jsonl"
        if newest is not None and newest >= path:  # a slow clock does not write into the past
            path = newest
        return path, _whole(path)

    def _look_back(self, paths: Sequence[Path]) -> None:
        left = _LOOK_BACK
        recent: list[Path] = []
        for path in reversed(paths):
            recent.append(path)
            left -= path.stat().st_size
            if left <= 0:
                break
        for path in reversed(recent):
            start = max(0, path.stat().st_size - _LOOK_BACK)
            self._learn(path, start, cut=start > 0)

    def _learn(self, path: Path, start: int, *, cut: bool = False) -> None:
        fresh: dict[int, None] = {}
        for head in _forwards(path, start, cut=cut):
            self._last = max(self._last, head.no)
            fresh[hash((head.task, head.epoch, head.n))] = None
        self._remember(fresh)

    def _remember(self, fresh: dict[int, None]) -> None:
        self._recent |= fresh
        while len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]

    def _write(self, path: Path, size: int, data: bytes) -> int:
        new = not path.exists()
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                if self._sync:
                    os.fsync(fd)
            except OSError:
                os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)
        if new and self._sync:
            _sync_folder(self.folder)
        return size + len(data)

    # ---- taking away

    def sweep(self, now: Ms) -> int:
        """Remove the files all of whose events are past their time; how many events that were."""
        gone = 0
        with self._lock, self._turn():
            for path in self.paths()[:-1]:  # the newest has the numbers to go on from
                count, until = self._end(path)
                if until is not None and until <= now:
                    path.unlink()
                    self._firsts.pop(path, None)
                    self._ends.pop(path, None)
                    gone += count
        return gone

    def _end(self, path: Path) -> tuple[int, Ms | None]:
        """How many events a file has, and until when the last of them is kept (None: for good)."""
        size = path.stat().st_size
        known = self._ends.get(path)
        if known is None or known[2] != size:
            count, until = 0, 0
            forever = False
            for head in _forwards(path):
                count += 1
                forever = forever or head.keep_until is None
                until = max(until, head.keep_until or 0)
            known = self._ends[path] = (count, None if forever else until, size)
        return known[:2]

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The lock that one writer at a time holds."""
        fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            until = time.monotonic() + _TURN
            while _LOCKS:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise StorageUnavailable(
                            f"another process has held the lock of {self.folder} for {_TURN:g} s"
                        ) from None
                    time.sleep(0.0005)
            yield
        finally:
            os.close(fd)


def explained(folder: Path, call: Callable[[], Any]) -> Any:
    """Do it; what the system refuses is told as an error of ours."""
    try:
        return call()
    except StorageError:  # one of them is an OSError too
        raise
    except OSError as error:
        raise StorageUnavailable(f"events cannot be kept in {folder}: {error.strerror}") from error


def _line(number: int, event: TaskEvent) -> bytes:
    e = event
    line = Line(
        *(number, e.task, e.epoch, e.n, e.at, e.type.value, e.queue, e.name, e.worker),
        *(e.data, e.keep_until),
    )
    try:
        return _encode(line) + b"\n"
    except (TypeError, ValueError, OverflowError) as error:
        raise StorageError(f"an event of {e.task} cannot be written as JSON: {error}") from None


def _forwards(path: Path, start: int = 0, *, cut: bool = False) -> Iterator[_Head]:
    """The lines of a file; what is no whole line is passed over."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(start)
        if cut:
            file.readline()
        for line in file:
            if line.endswith(b"\n"):
                with suppress(msgspec.MsgspecError):
                    yield _head(line)


def _backwards(path: Path) -> Iterator[_Head]:
    """The lines of a file, the last one first."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        at, rest = file.seek(0, os.SEEK_END), b""
        while at > 0:
            step = min(_BLOCK, at)
            at -= step
            file.seek(at)
            lines = (file.read(step) + rest).split(b"\n")
            rest = lines[0] if at else b""
            for line in reversed(lines[1:] if at else lines):
                if line:
                    with suppress(msgspec.MsgspecError):
                        yield _head(line)


def _whole(path: Path) -> int:
    """The size of a file without a last line that was cut off; takes that away."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return 0
    with path.open("r+b") as file:
        at = size
        while at > 0:
            step = min(_BLOCK, at)
            file.seek(at - step)
            found = file.read(step).rfind(b"\n")
            if found >= 0:
                at = at - step + found + 1
                break
            at -= step
        if at < size:
            file.truncate(at)
    return at


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
