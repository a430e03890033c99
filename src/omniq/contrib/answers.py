"""What the REST routes answer, in plain dataclasses: every framework can describe those."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from omniq.models.filters import QueueCount
from omniq.models.info import Shown, TaskInfo
from omniq.models.result import AttemptError
from omniq.models.row import Ms, TaskRow
from omniq.models.status import Status
from omniq.models.worker import WorkerCard

StatusName = StrEnum("StatusName", {each.name: each.name.lower() for each in Status})  # type: ignore[misc]


@dataclass(frozen=True, kw_only=True)
class TaskOut:
    """A task as lists show it.

    `name` is its function, as workers know it. It does not run before `run_at`.
    """

    id: str
    name: str
    queue: str
    status: StatusName
    worker_type: str
    priority: int
    attempt: int
    tags: list[str]
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, row: TaskRow) -> Self:
        return cls(**_common(row))


@dataclass(frozen=True, kw_only=True)
class ErrorOut:
    """A failed attempt."""

    type: str
    message: str
    traceback: str
    attempt: int

    @classmethod
    def of(cls, error: AttemptError) -> Self:
        return cls(
            type=error.type,
            message=error.message,
            traceback=error.traceback,
            attempt=error.attempt,
        )


@dataclass(frozen=True, kw_only=True)
class TaskDetail(TaskOut):
    """A task with everything that can be shown of it.

    `arguments` are what it was called with and `result` what it gave, where that is plain
    data. `errors` are its failed attempts, the newest last.
    """

    arguments: Any
    result: Any
    errors: list[ErrorOut]
    progress: Any
    metadata: dict[str, Any]

    @classmethod
    def of_info(cls, info: TaskInfo) -> Self:
        return cls(
            **_common(info.row),
            arguments=_opened(info.arguments),
            result=_opened(info.result),
            errors=[ErrorOut.of(each) for each in info.errors],
            progress=info.progress,
            metadata=info.metadata,
        )


@dataclass(frozen=True, kw_only=True)
class TaskPage:
    """Some tasks. `cursor` asks for the next page; null: this is the last."""

    tasks: list[TaskOut]
    cursor: str | None


@dataclass(frozen=True, kw_only=True)
class QueueOut:
    """How many tasks of a queue stand where."""

    name: str
    counts: dict[StatusName, int]

    @classmethod
    def all_of(cls, counts: Iterable[QueueCount]) -> list[Self]:
        found: dict[str, dict[StatusName, int]] = {}
        for each in counts:
            found.setdefault(each.queue, {})[StatusName[each.status.name]] = each.count
        return [cls(name=name, counts=found[name]) for name in sorted(found)]


@dataclass(frozen=True, kw_only=True)
class WorkerOut:
    """A process that works on tasks. No `queues`: all of them."""

    id: str
    host: str
    pid: int
    embedded: bool
    stopping: bool
    queues: list[str]
    slots: dict[str, int]
    running: dict[str, int]
    seen_at: datetime

    @classmethod
    def of(cls, card: WorkerCard) -> Self:
        return cls(
            id=card.id,
            host=card.host,
            pid=card.pid,
            embedded=card.embedded,
            stopping=card.stopping,
            queues=list(card.queues),
            slots=card.slots,
            running=card.running,
            seen_at=_moment(card.seen_at),
        )


def _common(row: TaskRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "queue": row.queue,
        "status": StatusName[row.status.name],
        "worker_type": row.lane,
        "priority": row.priority,
        "attempt": row.attempt,
        "tags": list(row.tags),
        "created_at": _moment(row.created_at),
        "run_at": _moment(row.run_at),
        "started_at": None if row.started_at is None else _moment(row.started_at),
        "finished_at": None if row.finished_at is None else _moment(row.finished_at),
    }


def _opened(shown: Shown | None) -> Any:
    return shown.value if shown is not None and shown.opened else None


def _moment(ms: Ms) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
