"""The log in any place of keys and bytes that can create a key only if it is not there.

The names are those of the local directory. Object stores and filesystems differ in how they
are asked (`Keys`); what is asked stands here once.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, Protocol

from omniq.errors import ConfigError, StorageClosed, StorageError
from omniq.models.row import Ms
from omniq.storage.file.names import (
    SHARD,
    Damaged,
    check_name,
    seal,
    segment_name,
    shard_name,
    unseal,
)
from omniq.storage.log.port import Manners

GO: Final = (1, 1, 4, 16, 16, 16)
"""How many segments are asked for at once, one step after the other. In step with the others a
reader asks for one that is there and one that is not; one that is late asks for many."""


class Keys(Protocol):
    """One place's way to be asked. Errors as in `Log`; keys are relative to the log's root."""

    place: str
    """Where, for people, without credentials."""
    remote: bool
    """Reached by a network: it has a clock of its own, and a question takes milliseconds."""
    bulk: bool
    """Many keys are removed by one question."""

    def create(self, key: str, data: bytes) -> bool:
        """Write if there is none; False if there is one."""
        ...

    def write(self, key: str, data: bytes) -> None: ...

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes | None: ...

    def below(self, folder: str) -> list[str]:
        """All keys below a folder."""
        ...

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in a folder."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Remove keys; those that are not there are passed over."""
        ...

    def modified(self, key: str) -> Ms | None:
        """The place's stamp of a key."""
        ...


class KeyLog:
    """The log over keys. They are made at `open`, since few drivers survive a fork."""

    def __init__(self, connect: Callable[[], Keys], manners: Manners) -> None:
        self._connect = connect
        self._made: Keys | None = None
        self._pool: ThreadPoolExecutor | None = None
        self.manners = manners

    def open(self) -> None:
        self._made = self._connect()
        self._probe(self._made)

    def close(self) -> None:
        self._made = None
        if self._pool is not None:
            self._pool.shutdown(wait=False)
            self._pool = None

    @property
    def _keys(self) -> Keys:
        if self._made is None:
            raise StorageClosed("the log is not open")
        return self._made

    def put(self, number: int, data: bytes) -> bool:
        return self._keys.create(segment_name(number), seal(data) + data)

    def read_on(self, number: int) -> Sequence[bytes]:
        found: list[bytes] = []
        for count in GO:
            for sealed in self._read_all(range(number, number + count)):
                if sealed is None:
                    return found
                try:
                    found.append(unseal(sealed))
                except Damaged as damage:
                    raise StorageError(
                        f"segment {number} at {self._keys.place} is damaged ({damage})"
                    ) from None
                number += 1
            if not self._keys.remote and len(found) >= SHARD:
                break
        return found

    def _read_all(self, numbers: Sequence[int]) -> Iterable[bytes | None]:
        names = [segment_name(number) for number in numbers]
        if len(names) == 1 or not self._keys.remote:
            return map(self._keys.read, names)
        try:
            return self._together().map(self._keys.read, names)
        except RuntimeError:  # the interpreter ends: no more threads, but tasks to give back
            return map(self._keys.read, names)

    def _delete(self, keys: Sequence[str]) -> None:
        if self._keys.bulk or len(keys) < max(GO):
            self._keys.delete(keys)
        else:
            parts = [keys[start :: max(GO)] for start in range(max(GO))]
            list(self._together().map(self._keys.delete, parts))

    def _together(self) -> ThreadPoolExecutor:
        """Threads for questions that need not wait for each other."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max(GO), thread_name_prefix="omniq-log")
        return self._pool

    def first(self) -> int:
        for shard in self._shards():
            if found := self._keys.below(shard_name(shard)):
                return min(int(key.rpartition("/")[2]) for key in found)
        return 1

    def cut(self, before: int) -> None:
        shards = self._shards()
        for shard in shards[:-1]:
            if (shard + 1) * SHARD <= before:
                self._delete(self._keys.below(shard_name(shard)))

    def keep(self, name: str, data: bytes) -> bool:
        return self._keys.create(check_name(name), data)

    def replace(self, name: str, data: bytes) -> None:
        self._keys.write(check_name(name), data)

    def fetch(self, name: str, offset: int = 0, length: int | None = None) -> bytes | None:
        return self._keys.read(check_name(name), offset, length)

    def names(self, prefix: str) -> list[str]:
        folder = prefix.rpartition("/")[0]
        if folder:
            check_name(folder)
        return sorted(key for key in self._keys.below(folder) if key.startswith(prefix))

    def drop(self, names: Iterable[str]) -> None:
        self._delete([check_name(name) for name in names])

    def now(self) -> Ms | None:
        """The place's clock, by the stamp of an object written for it, to a second.

        A stamp of whole seconds says little about the fraction: as long as this machine's
        clock fits the stamp it is the better one.
        """
        if not self._keys.remote:
            return None
        before = time.time_ns() // 1_000_000
        self._keys.write("clock", b"omniq")
        stamp = self._keys.modified("clock")
        after = time.time_ns() // 1_000_000
        if stamp is None or before - 1000 <= stamp <= after:
            return after
        return stamp + 500 + (after - before) // 2

    def follow(self, tell: Callable[[], None]) -> bool:
        """Nothing here tells."""
        return False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """There is no lock to ask for: the engine's own pauses do it."""
        yield

    def _shards(self) -> list[int]:
        return sorted(int(name) for name in self._keys.folders("log") if name.isdecimal())

    def _probe(self, keys: Keys) -> None:
        """Create an object twice: whoever lets that happen would lose tasks.

        With bytes in it (an empty object goes another way in some drivers), under a name of
        its own.
        """
        key = f"probe/{secrets.token_hex(16)}"
        keys.create(key, b"first")
        try:
            second = keys.create(key, b"second")
            kept = keys.read(key)
        finally:
            keys.delete([key])
        # A retry inside the driver may have found its own first try: only the second tells.
        if second or kept != b"first":
            raise ConfigError(
                f"{keys.place} is a bucket or filesystem without conditional create: an object "
                "could be created twice, so two workers would be given the same tasks. Set "
                "storage_url (OMNIQ_STORAGE_URL) to one that honours it (Amazon S3, MinIO, R2, "
                "Google Cloud Storage, Azure Blob Storage) or use a local directory"
            )
