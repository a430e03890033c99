"""Composition: one place that gives the three roles to a queue.

AsyncOmniQ(backend=SQLiteBackend("tasks.db"))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omniq.backend.factory import (
    BASE_DIR,
    create_event_storage,
    create_storage,
    make_storage,
)
from omniq.backend.roles import create_stores
from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import ConfigError
from omniq.models.config import StorageConfig
from omniq.storage.base import AsyncStorage

__all__ = [
    "Backend",
    "FileBackend",
    "MemoryBackend",
    "NATSBackend",
    "PostgresBackend",
    "RedisBackend",
    "SQLiteBackend",
    "create_event_storage",
    "create_storage",
    "create_stores",
]


def checked_backend(backend: object, **said: object) -> Backend:
    """A backend, if nothing `said` beside it names a place of tasks, too."""
    if not isinstance(backend, Backend):
        raise ConfigError(
            f"backend={type(backend).__name__} is no Backend: give one, such as "
            "SQLiteBackend('tasks.db'), or name the place by storage_type= or storage_url="
        )
    for name, value in said.items():
        if value is not None and name.startswith(("storage_", "task_queue", "obstore_")):
            raise ConfigError(
                f"backend= and {name}= both say where tasks are kept: leave one of them out"
            )
    return backend


class Backend:
    """One connection to one place: tasks, results and events together.

    `source` is a name or a URL: `"memory"`, `"sqlite"`, `"redis://localhost:6379/0"`. Options
    are those of the place's storage, for example `namespace`, `durability` or `synchronous`.
    Nothing is connected before the queue opens.
    """

    storage: AsyncStorage

    def __init__(
        self,
        source: str = "sqlite",
        *,
        base_dir: str | Path = BASE_DIR,
        clock: Clock = SYSTEM_CLOCK,
        **options: Any,
    ) -> None:
        url = source if "://" in source else None
        config = StorageConfig(type=source if url is None else "", url=url, options=options)
        self.storage = create_storage(config, base_dir=Path(base_dir), clock=clock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.storage.describe()}>"


class MemoryBackend(Backend):
    """Tasks live and end with this process."""

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK, **options: Any) -> None:
        super().__init__("memory", clock=clock, **options)


class SQLiteBackend(Backend):
    """A SQLite database file; without a path `omniq.db` in `base_dir`."""

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        base_dir: str | Path = BASE_DIR,
        clock: Clock = SYSTEM_CLOCK,
        **options: Any,
    ) -> None:
        where = Path(base_dir) / "omniq.db" if path is None else path
        self.storage = make_storage("sqlite", (where,), options, clock=clock)


class FileBackend(Backend):
    """Files in a local directory, an object store or a filesystem of fsspec.

    `where` is a path, a URL (`s3://bucket/tasks`) or a filesystem object of fsspec, whose
    directory is given as `path=`; `obstore_uri` is a place kept by obstore instead. With
    neither it is the directory `tasks` in `base_dir`.
    """

    def __init__(
        self,
        where: Any = None,
        *,
        obstore_uri: str | None = None,
        base_dir: str | Path = BASE_DIR,
        clock: Clock = SYSTEM_CLOCK,
        **options: Any,
    ) -> None:
        if where is None and obstore_uri is None:
            where = Path(base_dir) / "tasks"
        options |= {"obstore_uri": obstore_uri} if obstore_uri is not None else {}
        self.storage = make_storage("file", (where,), options, clock=clock)


class PostgresBackend(Backend):
    """A PostgreSQL database; without a URL the one libpq's variables name (PGHOST ...)."""

    def __init__(
        self, url: str = "postgresql://", *, clock: Clock = SYSTEM_CLOCK, **options: Any
    ) -> None:
        self.storage = _by_url("postgres", url, options, clock)


class RedisBackend(Backend):
    """A Redis or Valkey server or cluster."""

    def __init__(
        self, url: str = "redis://localhost:6379/0", *, clock: Clock = SYSTEM_CLOCK, **options: Any
    ) -> None:
        self.storage = _by_url("redis", url, options, clock)


class NATSBackend(Backend):
    """A NATS server or cluster with JetStream."""

    def __init__(
        self, url: str = "nats://localhost:4222", *, clock: Clock = SYSTEM_CLOCK, **options: Any
    ) -> None:
        self.storage = _by_url("nats", url, options, clock)


def _by_url(kind: str, url: str, options: dict[str, Any], clock: Clock) -> AsyncStorage:
    """A storage of this type; a URL of another one is refused."""
    return create_storage(StorageConfig(type=kind, url=url, options=options), clock=clock)
