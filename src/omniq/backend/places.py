"""The table of places: what a type's storage is called, and how it is told where to keep things.

Schemes stand in `omniq.config.places`, options in each storage's own constructor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

from msgspec import Struct

from omniq.errors import ConfigError

Where = tuple[tuple[Any, ...], dict[str, Any]]
"""What the constructor is given first (nothing, or one value), and options out of the URL."""


class Place(Struct, frozen=True, kw_only=True):
    """One place. `default` says where it is if no URL does, in words of its constructor."""

    type: str
    home: str
    default: Callable[[Path], tuple[Any, ...]]
    read: Callable[[str], Where]
    driver: str | None = None
    """The top-level module of the driver, and `extra` the extra that brings it."""
    extra: str | None = None

    def load(self) -> Callable[..., Any]:
        """The storage's class. ConfigError if its driver is not installed."""
        module, _, name = self.home.partition(":")
        try:
            return getattr(import_module(module), name)  # type: ignore[no-any-return]
        except ModuleNotFoundError as error:
            if self.driver is None or (error.name or "").partition(".")[0] != self.driver:
                raise
            raise ConfigError(
                f"storage type {self.type!r} needs {self.driver}, which is not installed: "
                f"pip install 'omniq-tasks[{self.extra}]'"
            ) from None


def options_of(storage: Callable[..., Any]) -> Mapping[str, Any]:
    """What a constructor takes by name, with defaults; the clock is nothing to configure."""
    return {
        name: parameter.default
        for name, parameter in signature(storage).parameters.items()
        if parameter.kind is Parameter.KEYWORD_ONLY and name != "clock"
    }


def _nowhere(*_: object) -> tuple[()]:
    return ()


def _memory(url: str) -> Where:
    return (), {}


def _for_storage(url: str) -> Where:
    """A URL the storage reads itself, but for the options that every place has."""
    rest, _, query = url.partition("?")
    said: dict[str, Any] = {}
    own: list[str] = []
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        if name in ("namespace", "durability"):
            said[name] = unquote_plus(value)
        else:
            own.append(part)
    return ("?".join((rest, "&".join(own))) if own else rest,), said


def _without_driver(url: str) -> Where:
    """SQLAlchemy's way to name a driver in the scheme means nothing here."""
    scheme, _, rest = url.partition("://")
    return _for_storage(f"{scheme.partition('+')[0]}://{rest}")


def _path(url: str) -> Where:
    """`scheme:///relative?option=value`, `scheme:////absolute`."""
    rest, _, query = url.partition("://")[2].partition("?")
    path = rest.removeprefix("/")
    if path and path == rest:  # it would be the name of a machine
        raise ConfigError(
            f"{url.partition(':')[0]}:// has two slashes before its path: write three before a "
            "relative path and four before an absolute one"
        )
    if not path:
        raise ConfigError(
            f"{url.partition(':')[0]}:// names no file: write three slashes before a relative "
            "path and four before an absolute one, or leave the URL out"
        )
    return (Path(path),), dict(parse_qsl(query, keep_blank_values=True))


PLACES: Final = {
    place.type: place
    for place in (
        Place(
            type="memory",
            home="omniq.storage.memory:AsyncMemoryStorage",
            default=_nowhere,
            read=_memory,
        ),
        Place(
            type="file",
            home="omniq.storage.file:AsyncFileStorage",
            default=lambda base: (base / "tasks",),
            read=_for_storage,
        ),
        Place(
            type="sqlite",
            home="omniq.storage.sqlite:AsyncSQLiteStorage",
            default=lambda base: (base / "omniq.db",),
            read=_path,
        ),
        Place(
            type="postgres",
            home="omniq.storage.postgres:AsyncPostgresStorage",
            # libpq's own variables say the rest (PGHOST, PGUSER, PGDATABASE ...).
            default=lambda base: ("postgresql://",),
            read=_without_driver,
            driver="asyncpg",
            extra="postgres",
        ),
        Place(
            type="redis",
            home="omniq.storage.redis:AsyncRedisStorage",
            default=lambda base: ("redis://localhost:6379/0",),
            read=_for_storage,
            driver="redis",
            extra="redis",
        ),
        Place(
            type="nats",
            home="omniq.storage.nats:AsyncNATSStorage",
            default=lambda base: ("nats://localhost:4222",),
            read=_for_storage,
            driver="nats",
            extra="nats",
        ),
        Place(
            type="jsonl",
            home="omniq.storage.jsonl:AsyncJSONLEventStorage",
            default=lambda base: (base / "events",),
            read=_path,
            driver="duckdb",
            extra="duckdb",
        ),
    )
}
"""Storage type -> its place; `jsonl` keeps events only."""
