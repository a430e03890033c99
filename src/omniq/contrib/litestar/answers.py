"""What the REST routes answer; the words are those of the FastAPI adapter's."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from msgspec import Meta, Struct

from omniq.models.filters import QueueCount
from omniq.models.info import Shown, TaskInfo
from omniq.models.row import Ms, TaskRow
from omniq.models.worker import WorkerCard


class TaskOut(Struct, kw_only=True):
    """A task as lists show it."""

    id: str
    name: Annotated[str, Meta(description="Its function, as workers know it.")]
    queue: str
    status: str
    worker_type: str
    priority: int
    attempt: int
    tags: list[str]
    created_at: datetime
    run_at: Annotated[datetime, Meta(description="Not before this moment.")]
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, row: TaskRow) -> Self:
        return cls(**_common(row))


class ErrorOut(Struct):
    """A failed attempt."""

    type: str
    message: str
    traceback: str
    attempt: int


class TaskDetail(TaskOut, kw_only=True):
    """A task with everything that can be shown of it."""

    arguments: Annotated[Any, Meta(description="What it was called with, if that is plain data.")]
    result: Annotated[Any, Meta(description="What it gave, if it ended well with plain data.")]
    errors: Annotated[list[ErrorOut], Meta(description="Failed attempts, the newest last.")]
    progress: Any
    metadata: dict[str, Any]

    @classmethod
    def of_info(cls, info: TaskInfo) -> Self:
        return cls(
            **_common(info.row),
            arguments=_opened(info.arguments),
            result=_opened(info.result),
            errors=[ErrorOut(e.type, e.message, e.traceback, e.attempt) for e in info.errors],
            progress=info.progress,
            metadata=info.metadata,
        )


class TaskPage(Struct):
    """Some tasks. `cursor` asks for the next page; null: this is the last."""

    tasks: list[TaskOut]
    cursor: str | None


class QueueOut(Struct):
    """How many tasks of a queue stand where."""

    name: str
    counts: dict[str, int]

    @classmethod
    def all_of(cls, counts: Iterable[QueueCount]) -> list[Self]:
        found: dict[str, dict[str, int]] = {}
        for each in counts:
            found.setdefault(each.queue, {})[each.status.name.lower()] = each.count
        return [cls(name, found[name]) for name in sorted(found)]


class WorkerOut(Struct, kw_only=True):
    """A process that works on tasks."""

    id: str
    host: str
    pid: int
    embedded: bool
    stopping: bool
    queues: Annotated[list[str], Meta(description="Empty: all of them.")]
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
        "status": row.status.name.lower(),
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
