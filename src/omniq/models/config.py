"""Configuration structs. Lengths of time are seconds, sizes are bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, field

from omniq.models.task import WorkerKind


class StorageConfig(Struct, frozen=True, kw_only=True):
    """Where tasks are kept. `url` says the type too: `sqlite:///relative.db`,
    `sqlite:////absolute.db`, `postgresql://host/db`, `redis://host`, `nats://host`, `s3://bucket`.
    """

    type: str = "sqlite"
    """One of memory, file, sqlite, postgres, redis, nats; for events also jsonl."""
    url: str | None = None
    obstore_uri: str | None = None
    """Type "file" kept by obstore at this URI (`s3://bucket/path`) in place of fsspec."""
    options: dict[str, Any] = {}


class TaskDefaults(Struct, frozen=True, kw_only=True):
    """What a task gets that says nothing itself."""

    queue: str = "default"
    priority: int = 0
    retries: int = 3
    """Retries after the first attempt."""
    retry_delay: float = 1.0
    timeout: float | None = None
    ttl: float | None = None
    result_ttl: float | None = 86_400.0
    max_payload: int = 1_048_576
    """Arguments or a result larger than this are refused."""


class WorkerConfig(Struct, frozen=True, kw_only=True):
    """How tasks are run."""

    embedded: bool = True
    """The process that enqueues also works."""
    default: WorkerKind | None = None
    """The lane of tasks that name none; None: coroutines "async", plain functions "thread"."""
    max_workers: int | None = None
    """Slots of the default lane (or of the async lane)."""
    async_workers: int = 100
    thread_workers: int = 10
    process_workers: int | None = None
    """None: one per processor."""
    gevent_workers: int = 100
    queues: tuple[str, ...] = ()
    """Queues it serves; empty: all."""
    lease: float = 30.0
    """After so long without a heartbeat a worker's tasks are given to others."""
    max_losses: int = 3
    """A task whose worker died this often is failed as poison."""
    grace: float = 10.0
    """How long running tasks may go on when a stop is asked."""


class EventConfig(Struct, frozen=True, kw_only=True):
    """Which events are kept, and for how long."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "DISABLED"] = "INFO"
    retention: float = 7 * 86_400.0
    spool_limit: int = 64 * 1024 * 1024
    """Events in local files while a place of their own is down; beyond it tasks wait for it."""


class RetentionConfig(Struct, frozen=True, kw_only=True):
    """How long ended tasks stay visible (a result's own TTL may keep them longer)."""

    history: float = 86_400.0
    dead: float = 14 * 86_400.0
    """Failed tasks: dead letters kept for replay."""


class DashboardConfig(Struct, frozen=True, kw_only=True):
    """The dashboard. `token` None: one is made once in the base directory."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = 8778
    path: str = "/omniq"
    token: str | None = None
    read_only: bool = False
    live: Literal["stream", "poll", "off"] = "stream"
    """How open pages learn what is new: one stream each, a short request now and then, or not."""
    bundle: str | None = None
    """URL of the official Datastar bundle to use in place of OmniQ's own module."""


class LogConfig(Struct, frozen=True, kw_only=True):
    """Levels of the `omniq` loggers; the root logger is never touched."""

    level: str = "INFO"
    disabled: bool = False
    components: dict[str, str] = {}


class OmniQConfig(Struct, frozen=True, kw_only=True):
    """Everything that can be set, in one tree."""

    base_dir: Path = Path(".omniq")
    namespace: str = "default"
    """Keeps installations apart that share one place."""
    durability: Literal["normal", "strict"] = "normal"
    """Whether a place that would lose acknowledged tasks with its machine is opened."""
    storage: StorageConfig = field(default_factory=StorageConfig)
    """Where everything is kept, unless one of the next three says otherwise."""
    task_queue: StorageConfig | None = None
    result_storage: StorageConfig | None = None
    event_storage: StorageConfig | None = None
    tasks: TaskDefaults = field(default_factory=TaskDefaults)
    worker: WorkerConfig = field(default_factory=WorkerConfig)
    events: EventConfig = field(default_factory=EventConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    dashboard: DashboardConfig = field(default_factory=DashboardConfig)
    logging: LogConfig = field(default_factory=LogConfig)
    signing_keys: tuple[tuple[str, str], ...] = ()
    """(key id, secret): the first signs, all verify. Empty: a key file in `base_dir`."""
