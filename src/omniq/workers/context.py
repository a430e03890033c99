"""What a running task can know of itself and say while it runs."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import msgspec

from omniq.errors import NotStarted, PayloadTooLarge

MAX_PROGRESS = 1024

_current: ContextVar[TaskContext] = ContextVar("omniq_task")


class TaskContext:
    """The task that runs here and now; get it with `omniq.current()`.

    Safe to use from the thread or coroutine the task runs in.
    """

    __slots__ = ("_note", "attempt", "cancelled", "id", "metadata", "name", "progress", "queue")

    def __init__(
        self,
        *,
        id: str,
        name: str,
        queue: str,
        attempt: int,
        metadata: dict[str, Any] | None,
        note: Callable[[], None],
    ) -> None:
        self.id, self.name, self.queue, self.attempt = id, name, queue, attempt
        self.metadata = metadata or {}
        self.cancelled = False
        """Somebody asked it to stop. Coroutines are interrupted, threads should look here."""
        self.progress: bytes | None = None
        self._note = note

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
        self._note()

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
