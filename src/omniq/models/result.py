"""What became of a task."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct

from omniq.models.status import ResultStatus


class AttemptError(Struct, frozen=True, kw_only=True):
    """One failed attempt, as text: nothing of it is ever re-created as an exception.

    `bases` are the dotted names of the exception's classes, itself first; retry rules match
    them.
    """

    type: str
    message: str
    traceback: str = ""
    attempt: int = 1
    at: int = 0
    bases: tuple[str, ...] = ()
    started_at: int = 0
    worker: str = ""


class TaskResult(Struct, frozen=True, kw_only=True):
    """A task's end, or how far it is. Times are aware datetimes in UTC.

    `value` is set on success, `error` (the last attempt's) on failure; `expires_at` is when
    the value will be forgotten.
    """

    id: str
    status: ResultStatus
    value: Any = None
    error: AttemptError | None = None
    enqueued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    attempt: int = 0
    worker: str | None = None
    progress: Any = None

    @property
    def ready(self) -> bool:
        """Whether the task has ended, in whatever way."""
        return self.status not in (ResultStatus.PENDING, ResultStatus.RUNNING)
