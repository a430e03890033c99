"""What a place must be able to do to keep the commit log: a `Log`.

One process's engine calls it from one thread at a time; its methods block. Numbers count from
1 without gaps. Errors: StorageUnavailable when an answer did not come (what was asked may or
may not have happened), StorageError or ConfigError for what will not get better by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from msgspec import Struct

from omniq.errors import StorageError
from omniq.models.row import Ms


class Rewound(StorageError):
    """The log ends before the segment asked for: it was restored, or lost its end."""


class Manners(Struct, frozen=True, kw_only=True):
    """How a log wants to be used. Read after `open`."""

    segment_bytes: int = 1_048_576
    """A larger segment is refused: its values go to objects of their own first."""
    inline_bytes: int = 65_536
    """A larger value (arguments, a result) is an object of its own (`big/...`)."""
    memory_bytes: int = 1024
    """A larger value is not kept in memory: those of one commit share an object (`pack/...`)."""
    checkpoints: bool = True
    """It outlives its readers: a new one starts from a checkpoint, and the log is cut behind.
    False: one engine in one process; what was played is cut, nothing else is ever kept."""
    grace: float = 600.0
    """Seconds between the moment from which something is not needed and its removal. A
    process stopped for half of it looks twice before it trusts what it wrote."""
    poll: tuple[float, float] = (0.002, 0.01)
    """Seconds between two looks for what others wrote: at least, at most. Ignored by a log
    that tells (see `follow`), which is looked at once a second all the same."""


class Log(Protocol):
    """Numbered segments that can each be created only once, and named objects beside them."""

    @property
    def manners(self) -> Manners: ...

    def open(self) -> None:
        """Connect, check that creation is conditional, make what is missing."""
        ...

    def close(self) -> None:
        """Let go of everything. Again: no effect."""
        ...

    def put(self, number: int, data: bytes) -> bool:
        """Create a segment; False if there is one with this number.

        A retry inside the driver may make it answer False for one's own segment: the engine
        looks for its commit id. Raises StorageUnavailable when it cannot be known.
        """
        ...

    def read_on(self, number: int) -> Sequence[bytes]:
        """Segments from `number` on, as many as come in one go; empty: there is none yet.

        It sees everything put before it was called. Empty as well where `number` was cut; a
        log that knows that it ends before `number - 1` may say so by `Rewound`.
        """
        ...

    def first(self) -> int:
        """The oldest number still kept, or a lower one (1 in an empty log)."""
        ...

    def cut(self, before: int) -> None:
        """Remove the segments with lower numbers, or some of them. Never the newest one."""
        ...

    def keep(self, name: str, data: bytes) -> bool:
        """Create an object (`cp/...`, `pack/...`, `big/...`); False if there is one."""
        ...

    def replace(self, name: str, data: bytes) -> None:
        """Write an object, whether or not it is there (`cp/last`, `beat/...`)."""
        ...

    def fetch(self, name: str, offset: int = 0, length: int | None = None) -> bytes | None:
        """An object's bytes, or a part of them; None if there is no such object."""
        ...

    def names(self, prefix: str) -> list[str]:
        """The names of the objects that begin so, sorted."""
        ...

    def drop(self, names: Iterable[str]) -> None:
        """Remove objects; those that are not there are passed over."""
        ...

    def now(self) -> Ms | None:
        """The place's own clock; None where it has none and this machine's will do.

        Asked at open and now and then, not for every commit.
        """
        ...

    def follow(self, tell: Callable[[], None]) -> bool:
        """Call `tell`, from any thread, when a segment may have come; False: it cannot."""
        ...

    def turn(self) -> AbstractContextManager[None]:
        """Asked for when commits collide: wait a little for a turn, as a hint only.

        It gives way after 100 ms at most; being right never depends on it.
        """
        ...


@runtime_checkable
class Lively(Protocol):
    """A log with a connection to look after while the engine's thread has nothing to do."""

    def rest(self, seconds: float | None) -> None:
        """Wait for `wake`, or for so many seconds. May return early."""
        ...

    def wake(self) -> None:
        """End a `rest`, or the next one. From any thread."""
        ...
