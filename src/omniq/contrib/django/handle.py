"""What `queue.enqueue` gives back: the task's id, which also knows how to ask for its result."""

from __future__ import annotations

from typing import Any, Generic, Protocol, Self

from omniq.handle import R_co
from omniq.models.info import TaskInfo
from omniq.models.result import TaskResult
from omniq.models.status import ResultStatus


class Asked(Protocol):
    """The queue a handle asks."""

    def get_result(self, id: str, timeout: float | None = None) -> Any: ...
    def result(self, id: str) -> TaskResult: ...
    def info(self, id: str) -> TaskInfo: ...
    def cancel(self, id: str, *, actor: str = "") -> bool: ...
    def retry(self, id: str, *, actor: str = "") -> bool: ...


class TaskHandle(str, Generic[R_co]):
    """A task's id: store it, send it, compare it like any string.

    Besides, it can be asked for the task's result and state. Copies made by string operations
    or through pickle are plain strings.
    """

    __slots__ = ("_queue",)

    _queue: Asked

    def __new__(cls, id: str, queue: Asked) -> Self:
        handle = super().__new__(cls, id)
        handle._queue = queue
        return handle

    @property
    def id(self) -> str:
        """The id as a plain string."""
        return str.__str__(self)

    def result(self, timeout: float | None = None) -> R_co:
        """Wait for the value, at most `timeout` seconds; raises as `get_result` does."""
        value: R_co = self._queue.get_result(self.id, timeout)
        return value

    def status(self) -> ResultStatus:
        """How far it is now."""
        return self._queue.result(self.id).status

    def info(self) -> TaskInfo:
        """Everything that is known about it."""
        return self._queue.info(self.id)

    def cancel(self) -> bool:
        """Cancel it, or ask its worker to stop it; False: it had already ended."""
        return self._queue.cancel(self.id)

    def retry(self) -> bool:
        """Run it once more from the start; False: it has not ended, or runs again already."""
        return self._queue.retry(self.id)

    def __omniq_plain__(self) -> str:
        """As an argument of another task it is its id."""
        return str.__str__(self)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str.__str__(self),)
