"""Records kept in local files until the place they are for takes them. Bytes and files only.

A folder of segments, each written by one process, which holds a lock on it for as long as it
lives: what a dead process left is adopted by whoever looks next. A record is framed by its length
and checksum, so that a write which was cut off is told from one that was acknowledged.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final, NamedTuple

from omniq.ids import uuid7

try:
    import fcntl
except ImportError:  # a system without locks: each process sends its own, nobody adopts
    _LOCKS = False
else:
    _LOCKS = True

_LOG: Final = logging.getLogger("omniq.storage")
LIMIT: Final = 64 * 1024 * 1024
_SEGMENT: Final = 1024 * 1024
"""Bytes after which a new file is begun: what was sent goes file by file."""
_HEAD: Final = 8
_LARGEST: Final = 1 << 30
_ENDING: Final = ".spool"


class Spooled(NamedTuple):
    """Where to keep records: a folder, and how many bytes of them."""

    folder: Path
    limit: int = LIMIT


class _Segment:
    """One file of records, locked by this process."""

    __slots__ = ("done", "file", "path", "size")

    def __init__(self, path: Path, file: FileIO, size: int) -> None:
        self.path, self.file, self.size = path, file, size
        self.done = 0
        """Bytes whose records were sent."""


class Mark(NamedTuple):
    """How far a reader came."""

    segment: _Segment
    done: int


class Spool:
    """First in, first out, for all processes that are given the same folder.

    `limit` bounds the folder's bytes. With `sync` a record is on the disk, and not only with the
    system, when `append` returns. Any thread may call any method. Files are made when the first
    record comes, and are gone when the last one was sent.
    """

    def __init__(self, folder: Path, *, limit: int = LIMIT, sync: bool = False) -> None:
        self.folder, self.limit, self._sync = folder, limit, sync
        self._lock = threading.Lock()
        self._segments: list[_Segment] = []
        self._current: _Segment | None = None
        self._known = 0
        """The folder's bytes when they were last counted, and what was added since."""
        _spools.add(self)

    @property
    def empty(self) -> bool:
        """Whether nothing that this process holds is left to be sent."""
        return not self._segments

    @property
    def full(self) -> bool:
        """Whether there is no room."""
        with self._lock:
            if self._known >= self.limit:
                self._known = self._count()
            return self._known >= self.limit

    def append(self, record: bytes) -> None:
        """Keep a record, full or not: whoever asks to stay within the limit asks `full` before.

        Raises OSError if it could not be kept; what was there before stays whole.
        """
        frame = len(record).to_bytes(4, "big") + zlib.crc32(record).to_bytes(4, "big") + record
        with self._lock:
            segment = self._current
            if segment is None or segment.size >= _SEGMENT:
                segment = self._begin()
            try:
                segment.file.seek(segment.size)
                _write(segment.file, frame)
                if self._sync:
                    os.fsync(segment.file.fileno())
            except OSError:
                with suppress(OSError):
                    segment.file.truncate(segment.size)
                raise
            segment.size += len(frame)
            self._known += len(frame)

    def read(self, most: int = _SEGMENT) -> tuple[list[bytes], Mark | None]:
        """The oldest records, at least one and about `most` bytes; say `sent` of the mark then."""
        with self._lock:
            while self._segments:
                segment = self._segments[0]
                records, end = self._frames(segment, most)
                if records:
                    return records, Mark(segment, end)
                self._drop(segment)
            return [], None

    def sent(self, mark: Mark) -> None:
        """What was read up to the mark is at its place now."""
        segment, done = mark
        with self._lock:
            if segment in self._segments:
                segment.done = max(segment.done, done)
                if segment.done >= segment.size:
                    self._drop(segment)

    def put_aside(self, record: bytes) -> Path:
        """Keep a record that no place takes, for people to look at."""
        make_private(self.folder)
        path = self.folder / f"{uuid7()}.refused"
        path.write_bytes(record)
        return path

    def adopt(self) -> bool:
        """Take over what processes left that are gone; whether there is anything to send."""
        with self._lock:
            mine = {segment.path for segment in self._segments}
            for path in self._paths():
                if path not in mine and (segment := _take(path)) is not None:
                    if segment.size:
                        self._segments.append(segment)
                    else:
                        _unlink(segment)
            self._segments.sort(key=lambda segment: segment.path.name)
            return bool(self._segments)

    def close(self) -> None:
        """Let go of the files; what is left in them is for whoever adopts it."""
        with self._lock:
            for segment in self._segments:
                segment.file.close()
            self._segments, self._current = [], None

    # ---- files

    def _begin(self) -> _Segment:
        make_private(self.folder)
        path = self.folder / f"{uuid7()}{_ENDING}"
        # It gets its name when it is locked, or another process could adopt it before.
        unlocked = path.with_suffix(".new")
        file = FileIO(os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+")
        try:
            _lock(file)
            unlocked.rename(path)
            if self._sync:
                _sync_folder(self.folder)
        except BaseException:
            file.close()
            raise
        segment = self._current = _Segment(path, file, 0)
        self._segments.append(segment)
        self._known = self._count()
        return segment

    def _drop(self, segment: _Segment) -> None:
        self._segments.remove(segment)
        if segment is self._current:
            self._current = None
        _unlink(segment)
        self._known = self._count()

    def _frames(self, segment: _Segment, most: int) -> tuple[list[bytes], int]:
        """Whole records behind what was sent, and where they end."""
        records: list[bytes] = []
        at = segment.done
        while at < segment.size and at - segment.done < most:
            segment.file.seek(at)
            head = _read(segment.file, _HEAD)
            size = int.from_bytes(head[:4], "big")
            record = _read(segment.file, min(size, _LARGEST))
            if len(head) < _HEAD or len(record) < size or zlib.crc32(record) != _sum(head):
                if at + _HEAD + size < segment.size:  # not merely cut off at the end
                    _LOG.error(
                        "%s is damaged at byte %d: what follows is kept aside in %s.damaged",
                        *(segment.path, at, segment.path.name),
                    )
                    with suppress(OSError):
                        os.link(segment.path, f"{segment.path}.damaged")
                segment.size = at
                if segment is self._current:
                    self._current = None
                break
            records.append(record)
            at += _HEAD + size
        return records, at

    def _paths(self) -> Iterator[Path]:
        try:
            paths = sorted(self.folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return
        yield from (path for path in paths if path.suffix == _ENDING)

    def _count(self) -> int:
        total = 0
        for path in self._paths():
            with suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def _forked(self) -> None:
        """A child must not keep its parent's files locked when that is gone."""
        self._lock = threading.Lock()
        self.close()


def make_private(folder: Path) -> None:
    """Make a directory (0700), and the one around it unseen by git if it is new."""
    base = folder.parent.parent
    new = not base.exists()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if new:
        with suppress(OSError):
            base.joinpath(".gitignore").write_text("*\n", encoding="utf-8")


def _take(path: Path) -> _Segment | None:
    """A segment nobody holds any more; None: somebody does, or it is gone."""
    try:
        file = FileIO(os.open(path, os.O_RDWR), "r+")
    except OSError:
        return None
    try:
        held = _lock(file)
        stat = os.fstat(file.fileno())
    except OSError:
        held = False
    if not held or not stat.st_nlink:
        file.close()
        return None
    return _Segment(path, file, stat.st_size)


def _lock(file: FileIO) -> bool:
    if not _LOCKS:
        return False
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlink(segment: _Segment) -> None:
    with suppress(FileNotFoundError):
        segment.path.unlink()
    segment.file.close()


def _write(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _read(file: FileIO, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size and (part := file.read(size - len(parts))):
        parts += part
    return bytes(parts)


def _sum(head: bytes) -> int:
    return int.from_bytes(head[4:], "big")


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


def _after_fork() -> None:
    for spool in list(_spools):
        spool._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
