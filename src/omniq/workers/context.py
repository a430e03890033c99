"""What a running task can know of itself and say while it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import msgspec

from omniq.errors import NotStarted, PayloadTooLarge
from omniq.models.row import TaskRow

MAX_PROGRESS = 1024

_current: ContextVar[TaskContext] = ContextVar("omniq_task")


class TaskContext:
    """The task that runs here and now; get it with `omniq.current()`.

    Safe to use from the thread or coroutine the task runs in.
    """

    __slots__ = ("_note", "_row", "_run_metadata", "cancelled", "progress")

    def __init__(
        self, row: TaskRow, metadata: dict[str, Any] | None, note: Callable[[TaskContext], None]
    ) -> None:
        self._row, self._run_metadata, self._note = row, metadata, note
        self.cancelled = False
        """Somebody asked it to stop. Coroutines are interrupted, threads should look here."""
        self.progress: bytes | None = None

    @property
    def id(self) -> str:
        """The task's id."""
        return self._row.id

    @property
    def name(self) -> str:
        """The name of its function."""
        return self._row.name

    @property
    def row(self) -> TaskRow:
        """The task as it was claimed, for what wraps calls; tasks themselves need the rest."""
        return self._row

    @property
    def queue(self) -> str:
        """The queue it was enqueued into."""
        return self._row.queue

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self._row.attempt

    @property
    def metadata(self) -> dict[str, Any]:
        """What `enqueue(metadata=...)` was given."""
        return self._run_metadata or {}

    def set_progress(self, value: Any) -> None:
        """Say how far the task is: any plain value of at most 1 KiB once encoded.

        `{"done": 3, "total": 10}` is drawn as a bar. Written a few times a second at most,
        the last value wins.
        """
        data = msgspec.msgpack.encode(value)
        if len(data) > MAX_PROGRESS:
            raise PayloadTooLarge(
                f"progress of {len(data)} bytes is over the limit of {MAX_PROGRESS}: "
                "say how far it is, and return the data as the result",
                size=len(data),
                limit=MAX_PROGRESS,
            )
        self.progress = data
        self._note(self)

    def __repr__(self) -> str:
        return f"<TaskContext {self.name} {self.id} attempt {self.attempt}>"


def current() -> TaskContext:
    """The running task's context; raises NotStarted outside of one."""
    try:
        return _current.get()
    except LookupError:
        raise NotStarted("omniq.current() is for code that runs inside a task") from None


def enter(context: TaskContext) -> None:
    """Make `context` current in this thread's or task's own contextvars."""
    _current.set(context)
