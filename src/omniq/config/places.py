"""What a storage's URL means: one table of schemes for all who read one."""

from __future__ import annotations

import re
from typing import Final

from omniq.errors import ConfigError, did_you_mean

SCHEMES: Final[dict[str, tuple[str, ...]]] = {
    "memory": ("memory",),
    "file": ("file", "s3", "s3a", "gs", "gcs", "az", "adl", "azure", "abfs", "abfss"),
    "sqlite": ("sqlite", "sqlite+aiosqlite"),
    "postgres": ("postgresql", "postgres", "postgresql+asyncpg", "postgres+asyncpg"),
    "redis": (
        *(
            scheme + kind
            for scheme in ("redis", "rediss", "valkey", "valkeys")
            for kind in ("", "+cluster", "+sentinel")
        ),
        "unix",
    ),
    "nats": ("nats", "tls", "ws", "wss"),
    "jsonl": ("jsonl",),
}
"""Storage type -> the schemes of its URLs. `jsonl` keeps events only."""

EVENTS_ONLY: Final = frozenset({"jsonl"})

_TYPES: Final = {scheme: type for type, schemes in SCHEMES.items() for scheme in schemes}
_KNOWN: Final = ", ".join(
    f"{scheme}://"
    for scheme in ("sqlite", "file", "s3", "gs", "az", "postgresql", "redis", "nats", "memory")
)
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def type_of(url: str, said: str | None = None, *, label: str = "storage_url") -> str:
    """The storage type a URL means, if that fits the type `said` with it; else ConfigError.

    Where "file" is said, any scheme will do that is no other place's: the filesystems know
    their own. The URL itself is never part of the error, since it may hold a password.
    """
    match = _URL.match(url)
    if match is None:
        raise ConfigError(
            f"{label} is no URL: it has no scheme. Write for example sqlite:///path/to.db, "
            "postgresql://user@host/database or redis://host:6379/0"
        )
    scheme = match[1].lower()
    meant = _TYPES.get(scheme)
    if said == "file" and meant in (None, "file", "memory"):
        return "file"
    if meant is None:
        near = did_you_mean(scheme, _TYPES)
        raise ConfigError(
            f"{label} begins with {scheme}://, which is no place's scheme"
            f"{near if 'did you mean' in near else '.'} OmniQ knows {_KNOWN}, and with the type "
            "'file' said beside the URL every filesystem of fsspec"
        )
    if said and said != meant:
        raise ConfigError(
            f"{label} begins with {scheme}://, which means the type {meant!r}, but the type said "
            f"with it is {said!r}: leave one of the two out"
        )
    return meant
