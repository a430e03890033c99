"""A task as its author says it, and as its worker reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, TypedDict

from msgspec import UNSET, Struct, UnsetType, field

from omniq.ids import uuid7
from omniq.models.row import Dep, Unique

Seconds = float | int | timedelta
"""A length of time at the public edge: seconds, or a timedelta."""

WorkerKind = Literal["async", "thread", "process", "gevent"]
LANES: tuple[WorkerKind, ...] = ("async", "thread")
"""The kinds that are there; the others are planned, and refused until then."""


class RetryPolicy(Struct, frozen=True, kw_only=True, array_like=True):
    """When a failed task is tried again, and after how long.

    The delay before retry n (from 1) is `delay * factor**(n-1)`, at most `max_delay`, plus
    up to `jitter` of itself at random. `only` and `never` hold dotted names of exception
    classes and match subclasses too; `never` wins.
    """

    retries: int = 3
    delay: float = 1.0
    factor: float = 2.0
    max_delay: float = 3600.0
    jitter: float = 0.1
    only: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


class Task(Struct, kw_only=True, eq=False):
    """Something to be run. Two tasks are equal if their ids are.

    `func` is the function itself (sync or async), or the name it is registered under.
    Lengths of time are seconds or `timedelta`. Options left out follow the function's
    `@task(...)`, then the queue's configuration.
    """

    func: Callable[..., Any] | str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    id: str = field(default_factory=uuid7)
    queue: str | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    delay: Seconds | None = None
    run_at: datetime | None = None
    ttl: Seconds | UnsetType | None = UNSET
    """It expires if no worker has started it this long after it was enqueued."""
    timeout: Seconds | UnsetType | None = UNSET
    """How long one run may take."""
    retries: int | RetryPolicy | UnsetType = UNSET
    result_ttl: Seconds | UnsetType | None = UNSET
    """How long the result is kept once the task ended (None: as long as the task)."""
    unique: str | Unique | None = None
    depends_on: Sequence[str | Dep] | str = ()
    tags: Sequence[str] | UnsetType = UNSET
    metadata: dict[str, Any] | None = None
    worker: WorkerKind | UnsetType = UNSET

    def __hash__(self) -> int:
        return hash(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and other.id == self.id

    def __lt__(self, other: Task) -> bool:
        return self.id < other.id


class EnqueueOptions(TypedDict, total=False):
    """What `enqueue` takes besides the function and its arguments: the fields of `Task`."""

    id: str
    queue: str
    priority: int
    delay: Seconds | None
    run_at: datetime | None
    ttl: Seconds | None
    timeout: Seconds | None
    retries: int | RetryPolicy
    result_ttl: Seconds | None
    unique: str | Unique | None
    depends_on: Sequence[str | Dep] | str
    tags: Sequence[str]
    metadata: dict[str, Any] | None
    worker: WorkerKind


class JoinOptions(EnqueueOptions, total=False):
    """What `enqueue` of a queue takes: besides all that, whose transaction to join."""

    connection: Any
    """An open connection to the database that keeps the tasks: asyncpg, psycopg, sqlite3,
    aiosqlite, or SQLAlchemy's connections and sessions over them."""


class TaskBody(Struct, frozen=True, gc=False, array_like=True):
    """What a row's `body` holds: opened by workers, never by a storage.

    `payload` is tagged and maybe signed (see `omniq.serialization`); the rest is what the
    rules need when the task ends. Lengths are seconds. New fields go to the end.
    """

    payload: bytes
    timeout: float | None = None
    retry: RetryPolicy | None = None
    result_ttl: float | None = None
    metadata: dict[str, Any] | None = None
