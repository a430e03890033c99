"""What a place promises to survive: one line at open, and what its server's settings take away."""

from __future__ import annotations

import logging
import os
from typing import Final, Literal

from msgspec import Struct

from omniq.errors import ConfigError

Grade = Literal["none", "process", "power", "replicated"]
Durability = Literal["normal", "strict"]
"""How a place is opened: "normal" warns of what weakens it, "strict" refuses."""

_LOG: Final = logging.getLogger("omniq.storage")
_MEANS: Final[dict[Grade, str]] = {
    "none": "nothing survives the end of the process that keeps it",
    "process": "survives a crash of the process, not of the machine",
    "power": "survives a loss of power",
    "replicated": "survives the loss of a node",
}
_STRONG: Final = ("power", "replicated")
_told: set[tuple[int, Promise]] = set()
_last: dict[str, Promise] = {}


class Promise(Struct, frozen=True):
    """What acknowledged writes survive at one place, as it is set up now."""

    place: str
    """Where, in words for people, without credentials."""
    grade: Grade
    settings: str = ""
    """The versions and settings it rests on: "SQLite 3.45, synchronous=NORMAL"."""
    undone: tuple[str, ...] = ()
    """What settings take away, each a sentence that ends with what to set instead."""
    stronger: str = ""
    """What makes it survive a loss of power: "set appendfsync always"."""
    keeps: str = "Tasks"
    """What is kept there, where it is not tasks."""

    @property
    def means(self) -> str:
        """The grade in words."""
        return _MEANS[self.grade]


def tell(promise: Promise, durability: Durability = "normal") -> None:
    """Log the promise, once in a process, and a warning for all that weakens it.

    With `durability="strict"` a place that would lose acknowledged tasks with its machine is
    refused by ConfigError.
    """
    if durability == "strict" and (promise.undone or promise.grade not in _STRONG):
        why = "; ".join(promise.undone) or f"it {_means(promise)}"
        change = promise.stronger[:1].upper() + promise.stronger[1:] or "Change that"
        raise ConfigError(
            f"{promise.place} is refused by durability='strict': {why}. "
            f"{change}, or open it with durability='normal'"
        )
    _last[promise.place] = promise
    key = (os.getpid(), promise)
    if key in _told:
        return
    _told.add(key)
    rests = f" ({promise.settings})" if promise.settings else ""
    _LOG.info("%s are kept at %s: %s%s", promise.keeps, promise.place, promise.means, rests)
    for what in promise.undone:
        _LOG.warning("%s: %s", promise.place, what)


def promise_of(place: str) -> Promise | None:
    """What this process was told last of a place, by its `describe()`; None: not yet opened."""
    return _last.get(place)


def check_durability(durability: str) -> None:
    """Refuse an unknown word with ConfigError."""
    if durability not in ("normal", "strict"):
        raise ConfigError(f"durability is 'normal' or 'strict', not {durability!r}")


def _means(promise: Promise) -> str:
    return promise.means if promise.grade != "none" else "keeps everything in memory only"
