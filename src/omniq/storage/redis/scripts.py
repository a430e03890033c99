"""The scripts, put together from the .lua files beside this one.

A script is called by the hash of its text, so workers of two versions run side by side, each
with its own rules, on rows that both can read.
"""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files
from typing import Final

from msgspec import Struct

FORMAT: Final = 1
"""The format these scripts write. A reader of an older one is told by `meta.min_reader`."""

_PARTS: Final = {
    "exchange": ("base", "rows", "edges", "apply", "plain", "units", "claim", "exchange"),
    "extend": ("base", "rows", "extend"),
    "sweep": ("base", "rows", "edges", "sweep"),
    "tasks": ("base", "rows", "tasks"),
    "find": ("base", "rows", "find"),
    "counts": ("base", "rows", "counts"),
    "results": ("base", "rows", "results"),
    "docs": ("base", "rows", "docs"),
    "events": ("base", "rows", "events"),
}


class Script(Struct, frozen=True):
    """A script and the hash it is called by."""

    text: bytes
    sha: bytes


def _assembled(parts: tuple[str, ...]) -> Script:
    folder = files("omniq.storage.redis").joinpath("lua")
    text = b"\n".join(folder.joinpath(f"{part}.lua").read_bytes() for part in parts)
    return Script(text, sha1(text, usedforsecurity=False).hexdigest().encode())


SCRIPTS: Final = {name: _assembled(parts) for name, parts in _PARTS.items()}
