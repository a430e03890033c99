"""A task as people look at it: the row with its body opened as far as is safe."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from omniq.models.result import AttemptError
from omniq.models.row import TaskRow
from omniq.models.task import RetryPolicy


class Shown(Struct, frozen=True, kw_only=True):
    """A value for people. Only plain formats are opened: of others, `text` says what they are."""

    format: str
    """"msgspec" or "dill"."""
    size: int
    opened: bool
    value: Any = None
    """The plain value, if `opened`."""
    text: str = ""
    """What stands in its place otherwise: format, size, digest."""


class TaskInfo(Struct, frozen=True, kw_only=True):
    """One task with everything that is known about it."""

    row: TaskRow
    arguments: Shown | None = None
    """value: {"args": [...], "kwargs": {...}}"""
    result: Shown | None = None
    errors: tuple[AttemptError, ...] = ()
    """Failed attempts, the newest last (the last ten are kept)."""
    metadata: dict[str, Any] = {}
    timeout: float | None = None
    retry: RetryPolicy | None = None
    progress: Any = None


class TaskList(Struct, frozen=True):
    """A page of rows for people (cold fields left out, but the preview)."""

    tasks: list[TaskRow]
    cursor: str | None = None
