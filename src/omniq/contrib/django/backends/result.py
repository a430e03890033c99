"""Rows as Django's framework tells them: `TaskResult`, with every attempt in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.utils import timezone

from omniq.contrib.django.backends.framework import (
    Task,
    TaskError,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
)
from omniq.contrib.django.backends.task import AnyTask, changed
from omniq.ids import time_of
from omniq.models.result import AttemptError
from omniq.models.row import Ms, ResultRow, TaskRow
from omniq.models.status import Status
from omniq.queue import policy
from omniq.queue.engine import Engine
from omniq.serialization.names import find, lookup, main_home

MARK = "django"
"""Under this key of a task's metadata stands what Django wants to know again."""

_STATUS = {
    Status.RUNNING: TaskResultStatus.RUNNING,
    Status.SUCCEEDED: TaskResultStatus.SUCCESSFUL,
    Status.FAILED: TaskResultStatus.FAILED,
    Status.CANCELLED: TaskResultStatus.FAILED,
    Status.EXPIRED: TaskResultStatus.FAILED,
}
_ENDED = {
    Status.CANCELLED: TaskError(
        exception_class_path="omniq.errors.TaskCancelled",
        traceback="omniq.errors.TaskCancelled: somebody cancelled it\n",
    ),
    Status.EXPIRED: TaskError(
        exception_class_path="omniq.errors.TaskExpired",
        traceback="omniq.errors.TaskExpired: its ttl passed before a worker started it\n",
    ),
}
_NO_CLASSES = {
    "omniq.WorkerLost": "omniq.errors.LeaseLost",
    "omniq.ParentFailed": "omniq.errors.TaskError",
}
"""Faults that nobody raised, and the classes that come nearest."""


class Reading(NamedTuple):
    """A row as it was read, and who can open it."""

    row: TaskRow
    result: ResultRow | None
    engine: Engine


def marked(backend: str, run_after: datetime | None) -> dict[str, Any]:
    """What a row's metadata says of its Django side."""
    return {"backend": backend, "run_after": run_after and run_after.isoformat()}


def mark_of(metadata: dict[str, Any] | None) -> dict[str, Any]:
    """The same, read again; empty for a task that was enqueued on OmniQ's own queue."""
    found = (metadata or {}).get(MARK)
    return found if isinstance(found, dict) else {}


def opened(reading: Reading, alias: str) -> TaskResult[Any]:
    """What became of a task that was enqueued through the backend `alias`.

    Raises TaskResultDoesNotExist for what is another backend's, or no task of Django's.
    """
    row, result, engine = reading
    body = engine.body(row)
    call = engine.call(row, body)
    task = task_at(row.name, trusted=call.signed)
    if task is None or mark_of(body.metadata).get("backend", task.backend) != alias:
        raise TaskResultDoesNotExist(row.id)
    told = task_result(row, as_enqueued(task, row, body.metadata), alias, call.args, call.kwargs)
    if row.status is Status.SUCCEEDED and result is not None:
        object.__setattr__(told, "_return_value", engine.value(row, result))
    return told


def task_result(row: TaskRow, task: AnyTask, alias: str, args: Any, kwargs: Any) -> TaskResult[Any]:
    """A row without its value."""
    errors = policy.errors_of(row)
    started = [error.started_at for error in errors if error.started_at]
    if row.attempt and row.started_at:
        started.append(row.started_at)
    told = [_task_error(error) for error in errors]
    if row.status in _ENDED:
        told.append(_ENDED[row.status])
    return TaskResult(
        task=task,
        id=row.id,
        status=_STATUS.get(row.status, TaskResultStatus.READY),
        enqueued_at=at(time_of(row.id)),
        started_at=at(min(started)) if started else None,
        last_attempted_at=at(max(started)) if started else None,
        finished_at=at(row.finished_at),
        args=list(args),
        kwargs=kwargs,
        backend=alias,
        errors=told,
        worker_ids=_workers(row, errors),
    )


def not_started(
    task: AnyTask,
    args: Iterable[Any],
    kwargs: Mapping[str, Any],
    *,
    id: str,
    alias: str,
    enqueued_at: datetime | None,
) -> TaskResult[Any]:
    """What whoever enqueues a task is given."""
    return TaskResult(
        task=task,
        id=id,
        status=TaskResultStatus.READY,
        enqueued_at=enqueued_at,
        started_at=None,
        last_attempted_at=None,
        finished_at=None,
        args=list(args),
        kwargs=dict(kwargs),
        backend=alias,
        errors=[],
        worker_ids=[],
    )


def as_enqueued(task: AnyTask, row: TaskRow, metadata: dict[str, Any] | None) -> AnyTask:
    """The task with what `.using(...)` had changed for this row."""
    mark = mark_of(metadata)
    after = mark.get("run_after")
    return changed(
        task,
        priority=row.priority,
        queue_name=row.queue,
        backend=mark.get("backend", task.backend),
        run_after=datetime.fromisoformat(after) if after else None,
    )


def task_at(name: str, *, trusted: bool) -> AnyTask | None:
    """The task of that name, or None if a plain function stands there.

    Only a `trusted` name may lead to an import. What is neither is refused: a row that leads
    elsewhere was not written by a task.
    """
    home, _, qualname = name.rpartition(":")
    found = lookup(home, qualname)
    if found is None and home == main_home():
        found = lookup("__main__", qualname)
    elif found is None and trusted:
        found = find(import_module(home), qualname)
    if isinstance(found, Task):
        return found
    if callable(found):
        return None
    raise SuspiciousOperation(f"{name!r} does not point to a Task")


def at(ms: Ms | None) -> datetime | None:
    """A stamp as Django's settings want times: aware, or naive in the current time zone."""
    if ms is None:
        return None
    aware = datetime.fromtimestamp(ms / 1000, UTC)
    return aware if settings.USE_TZ else timezone.make_naive(aware)


def _workers(row: TaskRow, errors: list[AttemptError]) -> list[str]:
    """Who worked on each attempt. The row remembers the last ten failed ones, and the last."""
    known = {error.attempt: error.worker for error in errors if error.worker}
    return [known.get(n) or row.owner or "" for n in range(1, row.attempt + 1)]


def _task_error(error: AttemptError) -> TaskError:
    path = _NO_CLASSES.get(error.type, error.type)
    return TaskError(
        exception_class_path=path if "." in path else f"builtins.{path}",
        traceback=error.traceback or f"{error.type}: {error.message}\n",
    )
