"""The log in a local directory, by a writer of our own.

A file is written beside the log and then linked to its name: `link` makes the whole file appear
at once and fails if the name is taken, on every local filesystem. The general libraries do not
do here: fsspec looks before it writes, obstore never calls fsync.

Numbers lie in directories of 256, each made while the one before is half full. A put asks for
the number before its own, so one that was cut cannot come back, nor does a log go on that was
set back to an older copy.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from omniq.errors import StorageError, StorageUnavailable
from omniq.models.row import Ms
from omniq.storage.file.folder import explained, make_folders
from omniq.storage.file.names import (
    SHARD,
    Damaged,
    check_name,
    seal,
    segment_name,
    shard_name,
    unseal,
)
from omniq.storage.file.repair import repair
from omniq.storage.log.port import Manners

with suppress(ImportError):  # where there is none, colliding writers collide more often
    import fcntl

GO_SEGMENTS: Final = 256
GO_BYTES: Final = 4 * 1024 * 1024
"""What one `read_on` brings at most."""
LITTER_AGE: Final = 3600.0
"""Seconds after which an unfinished file was left by a writer that was killed."""
TURN: Final = 0.1
_READ: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_MAKE: Final = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
)
_CHUNK: Final = 65_536
_LASTING: Final = "cp/"
"""Objects that are on the disk in every grade: what they stand for is removed."""


class LocalLog:
    """Segments and objects as files below `base`/`namespace`.

    An acknowledged put survives a crash of the process; with `strict` file and directory are
    on the disk before it is acknowledged. Checkpoints always are, since the segments they
    stand for are removed.
    """

    manners = Manners(grace=60.0)  # a removed number cannot come back, so none is needed for that

    def __init__(self, base: Path, namespace: str, *, strict: bool = False) -> None:
        self.base = base
        self._namespace = namespace
        self._strict = strict
        self._root = self._tmp = ""

    def open(self) -> None:
        root = make_folders(self.base, self._namespace)
        self._root, self._tmp = str(root), str(root / "tmp")
        with self._explained():
            self._make_log()
            self._probe()
            self._sweep()
            repair(root)

    def close(self) -> None:
        """Nothing is held open between two calls."""

    def put(self, number: int, data: bytes) -> bool:
        shard, place = divmod(number, SHARD)
        with self._explained():
            if number > 1 and not os.path.exists(self._path(segment_name(number - 1))):
                self._shards()  # raises if all of it is gone
                return False  # this number was there and was cut, or the log was set back
            if not place and all(other < shard for other in self._shards()):
                self._make_shard(shard)  # empty ones are lost in some copies
            if place == SHARD // 2:  # before this number is there, so that it need not be later
                self._make_shard(shard + 1)
            if self._strict and not place and shard:
                # The one before may have been linked by a writer killed before its fsync.
                with suppress(FileNotFoundError):
                    _sync(self._path(shard_name(shard - 1)))
            return self._create(self._path(segment_name(number)), (seal(data), data), shard)

    def read_on(self, number: int) -> Sequence[bytes]:
        found: list[bytes] = []
        size = 0
        with self._explained():
            while len(found) < GO_SEGMENTS and size < GO_BYTES:
                try:
                    sealed = _read(self._path(segment_name(number)))
                except FileNotFoundError:
                    break
                size += len(sealed)
                try:
                    found.append(unseal(sealed))
                except Damaged as damage:
                    if found:
                        break
                    raise StorageError(
                        f"segment {number} in {self._root} is damaged ({damage}); restore the "
                        "directory (storage_url, base_dir) from a backup, or move it away"
                    ) from None
                number += 1
        return found

    def first(self) -> int:
        with self._explained():
            for shard in self._shards():
                with suppress(FileNotFoundError):  # cut meanwhile
                    if numbers := os.listdir(self._path(shard_name(shard))):
                        return int(min(numbers))
        return 1

    def cut(self, before: int) -> None:
        with self._explained():
            shards = self._shards()
            used = [s for s in shards[-2:] if os.listdir(self._path(shard_name(s)))]
            newest = used[-1] if used else 0
            for shard in shards:
                if shard < newest and (shard + 1) * SHARD <= before:
                    aside = self._new_tmp()
                    with suppress(FileNotFoundError):  # another one cuts as well
                        os.rename(self._path(shard_name(shard)), aside)
                        shutil.rmtree(aside, ignore_errors=True)
            self._sweep()

    def keep(self, name: str, data: bytes) -> bool:
        with self._explained():
            if name.startswith(_LASTING):
                self._settle(name.rpartition("/")[2])
            return self._create(self._path(check_name(name)), (data,), None, name)

    def replace(self, name: str, data: bytes) -> None:
        target = self._path(check_name(name))
        with self._explained():
            tmp = self._write((data,), sync=self._strict)
            try:
                _in_folder(lambda: os.replace(tmp, target), target)
            except BaseException:
                _unlink(tmp)
                raise

    def fetch(self, name: str, offset: int = 0, length: int | None = None) -> bytes | None:
        with self._explained():
            try:
                return _read(self._path(check_name(name)), offset, length)
            except FileNotFoundError:
                return None

    def names(self, prefix: str) -> list[str]:
        folder = prefix.rpartition("/")[0]
        top = self._path(check_name(folder)) if folder else self._root
        with self._explained():
            cut = len(self._root) + 1
            found = [
                f"{folder}/{file}" if folder else file
                for where, _, files in os.walk(top)
                for folder in (where[cut:].replace(os.sep, "/"),)
                for file in files
            ]
        return sorted(name for name in found if name.startswith(prefix))

    def drop(self, names: Iterable[str]) -> None:
        with self._explained():
            for name in names:
                _unlink(self._path(check_name(name)))

    def now(self) -> Ms | None:
        """The machine's clock will do: everybody who uses the directory has it."""
        return None

    def follow(self, tell: Callable[[], None]) -> bool:
        """A look costs a few microseconds, so it is looked at often instead."""
        return False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A lock that one writer at a time holds; a stopped holder stops nobody for long."""
        if not hasattr(os, "fork"):  # nor are there locks of this kind
            yield
            return
        with self._explained():
            fd = os.open(self._path("lock"), os.O_RDWR | os.O_CREAT | _READ, 0o600)
        try:
            until = time.monotonic() + TURN
            while time.monotonic() < until:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:  # held, or a filesystem without locks
                    time.sleep(0.0005)
            yield
        finally:
            os.close(fd)

    # ---- files

    def _create(
        self, target: str, parts: Sequence[bytes], shard: int | None, name: str = ""
    ) -> bool:
        sync = self._strict or name.startswith(_LASTING)
        tmp = self._write(parts, sync=sync)
        try:
            if shard is None:
                _in_folder(lambda: os.link(tmp, target), target)
            else:
                os.link(tmp, target)
        except FileExistsError:
            return False
        except FileNotFoundError:
            if shard is not None and any(other > shard for other in self._shards()):
                return False  # it existed, and was cut
            raise
        finally:
            _unlink(tmp)
        if sync:
            _sync(os.path.dirname(target))
        return True

    def _write(self, parts: Sequence[bytes], *, sync: bool) -> str:
        tmp = self._new_tmp()
        fd = os.open(tmp, _MAKE, 0o600)
        try:
            try:
                data = b"".join(parts)
                written = os.write(fd, data)
                while written < len(data):  # a disk about to be full takes a part of it
                    written += os.write(fd, data[written:])
                if sync:
                    os.fsync(fd)
            finally:
                os.close(fd)
        except BaseException:
            _unlink(tmp)
            raise
        return tmp

    def _settle(self, number: str) -> None:
        """Bring the segment of a checkpoint to the disk: one is worth nothing without the other."""
        if number.isdecimal() and not self._strict:
            segment = self._path(segment_name(int(number)))
            with suppress(FileNotFoundError):
                for path in (segment, os.path.dirname(segment), self._path("log")):
                    _sync(path)

    def _make_log(self) -> None:
        """The log with its first directory, both at once."""
        log = self._path("log")
        if os.path.isdir(log) and os.listdir(log):
            return
        aside = self._new_tmp()
        for folder in (aside, f"{aside}/{0:016d}"):
            os.mkdir(folder, 0o700)
        try:
            os.rename(aside, log)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        _sync(self._root)

    def _make_shard(self, shard: int) -> None:
        with suppress(FileExistsError):
            os.mkdir(self._path(shard_name(shard)), 0o700)
            if self._strict:
                _sync(self._path("log"))

    def _probe(self) -> None:
        """A filesystem without hard links is told now and not at the first task."""
        tmp = self._write((b"omniq",), sync=False)
        twin = self._new_tmp()
        try:
            os.link(tmp, twin)
        finally:
            _unlink(tmp)
            _unlink(twin)

    def _sweep(self) -> None:
        old = time.time() - LITTER_AGE
        with os.scandir(self._tmp) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < old:
                        if entry.is_dir(follow_symlinks=False):
                            shutil.rmtree(entry.path, ignore_errors=True)
                        else:
                            _unlink(entry.path)

    def _shards(self) -> list[int]:
        return sorted(int(name) for name in os.listdir(self._path("log")) if name.isdecimal())

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _new_tmp(self) -> str:
        return f"{self._tmp}/{os.getpid()}-{secrets.token_hex(8)}"

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, StorageUnavailable):
                raise
            told = explained(self.base, error)
        else:
            return
        raise told


def _read(path: str, offset: int = 0, length: int | None = None) -> bytes:
    fd = os.open(path, _READ)
    try:
        if offset:
            os.lseek(fd, offset, os.SEEK_SET)
        parts = []
        while length is None or length > 0:
            part = os.read(fd, _CHUNK if length is None else min(length, 1 << 24))
            if not part:
                break
            parts.append(part)
            if length is not None:
                length -= len(part)
            elif len(part) < _CHUNK:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(fd)


def _in_folder(act: Callable[[], None], target: str) -> None:
    """Do it, and once more with the directory of `target` made."""
    try:
        act()
    except FileNotFoundError:
        os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
        act()


def _sync(path: str) -> None:
    """Bring a file or a directory to the disk."""
    if os.name == "nt":  # which has no such call for directories
        return
    fd = os.open(path, _READ)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
