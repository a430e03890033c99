"""What `queue.enqueue` gives back: the task's id, which also knows how to ask for its result."""

from __future__ import annotations

from typing import Any, Protocol

from omniq import within
from omniq.handle import R_co


class Asked(within.Asked, Protocol):
    """The queue a handle asks, which can wait besides."""

    def get_result(self, id: str, timeout: float | None = None) -> Any: ...


class TaskHandle(within.Handle[R_co]):
    """A task's id: store it, send it, compare it like any string.

    Besides, it can be asked for the task's result and state. Copies made by string operations
    or through pickle are plain strings.
    """

    __slots__ = ()

    _queue: Asked

    def result(self, timeout: float | None = None) -> R_co:
        """Wait for the value, at most `timeout` seconds; raises as `get_result` does."""
        value: R_co = self._queue.get_result(self.id, timeout)
        return value
