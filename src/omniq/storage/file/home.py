"""What a place for the log is, before it is touched, and what was wished of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from omniq.storage.durability import Grade
from omniq.storage.log.port import Log, Manners

NEAR: Final = Manners(grace=60.0)
FAR: Final = Manners(poll=(0.05, 2.0), memory_bytes=4096)
"""Questions cost milliseconds and money: one that finds nothing is asked less and less often,
and small values go with their segment instead of by an object of their own."""


class Home(Struct, frozen=True, kw_only=True):
    """A place for the log, not yet touched."""

    place: str
    make: Callable[[], Log]
    grade: Grade
    settings: str
    local: bool = False
    multiprocess: bool = True
    instead: str = ""
    """What to do where `strict` refuses it."""

    folder: Path | None = None
    """Where it is, if it is on this machine: a look costs nothing there."""

    def exists(self) -> bool:
        """Whether there is a log already; True where only the network would know."""
        return self.folder is None or self.folder.is_dir()


class Wish(Struct, frozen=True, kw_only=True):
    """What the storage was told beside the place itself."""

    namespace: str
    strict: bool
    options: Mapping[str, Any]
    path: str
    assume_atomic_create: bool
