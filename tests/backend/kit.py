"""The six places as a user names them. Nothing here is opened, so no server is needed."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, NamedTuple

from omniq import backend


class Named(NamedTuple):
    """One place: how its backend is made, its URL, and what its storage is called."""

    type: str
    make: type[backend.Backend]
    url: str
    storage: str
    said: str
    """A part of `describe()` once it is made from `url`."""


HERE = [
    Named("memory", backend.MemoryBackend, "memory://", "AsyncMemoryStorage", "memory"),
    Named("file", backend.FileBackend, "file://{path}/tasks", "AsyncFileStorage", "{path}/tasks"),
    Named("sqlite", backend.SQLiteBackend, "sqlite:///{path}/t.db", "AsyncSQLiteStorage", "t.db"),
]
SERVERS = [
    Named(
        "postgres",
        backend.PostgresBackend,
        "postgresql://shop:hunter2@127.0.0.1:1/orders",
        "AsyncPostgresStorage",
        "127.0.0.1:1/orders",
    ),
    Named(
        "redis",
        backend.RedisBackend,
        "redis://shop:hunter2@127.0.0.1:1/3",
        "AsyncRedisStorage",
        "127.0.0.1:1",
    ),
    Named(
        "nats",
        backend.NATSBackend,
        "nats://shop:hunter2@127.0.0.1:1",
        "AsyncNATSStorage",
        "127.0.0.1:1",
    ),
]
PLACES = [*HERE, *SERVERS]


def name_of(place: Named) -> str:
    return place.type


def url_of(place: Named, path: Path) -> str:
    return place.url.format(path=path)


def all_said(error: BaseException) -> str:
    """Everything an error shows in a log: itself, its attributes, causes and contexts."""
    texts: list[str] = []
    seen: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or each in seen:
            continue
        seen.append(each)
        left += [each.__cause__, each.__context__, *_inside(each)]
        texts += traceback.format_exception_only(each)
        texts += [str(each), repr(each), repr(each.args), repr(vars(each))]
    return "\n".join(texts)


def _inside(error: Any) -> list[BaseException]:
    return list(error.exceptions) if isinstance(error, BaseExceptionGroup) else []
