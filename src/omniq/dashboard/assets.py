"""The browser's side: files of our own, served from memory under a path that names their
version, so that browsers may keep them for ever."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def _load() -> dict[str, tuple[bytes, str]]:
    found: dict[str, tuple[bytes, str]] = {}
    for file in files("omniq.dashboard").joinpath("static").iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            found[file.name] = (file.read_bytes(), kind)
    return found


ASSETS = _load()
"""File name -> (bytes, media type)."""
VERSION = sha256(b"".join(ASSETS[name][0] for name in sorted(ASSETS))).hexdigest()[:12]
