"""What `enqueue` gives back: the task's id, which also knows how to ask for its result."""

from __future__ import annotations

from typing import Any, Generic, Protocol, Self, TypeVar

from omniq.models.info import TaskInfo
from omniq.models.result import TaskResult
from omniq.models.status import ResultStatus

R_co = TypeVar("R_co", covariant=True)


class Asked(Protocol):
    """The queue a handle asks."""

    async def get_result(self, id: str, timeout: float | None = None) -> Any: ...
    async def result(self, id: str) -> TaskResult: ...
    async def info(self, id: str) -> TaskInfo: ...
    async def cancel(self, id: str, *, actor: str = "") -> bool: ...
    async def retry(self, id: str, *, actor: str = "") -> bool: ...


class AsyncTaskHandle(str, Generic[R_co]):
    """A task's id: store it, send it, compare it like any string.

    Besides, it can be asked for the task's result and state. Copies made by string
    operations or through pickle are plain strings.
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

    async def result(self, timeout: float | None = None) -> R_co:
        """Wait for the value, at most `timeout` seconds; raises as `get_result` does."""
        value: R_co = await self._queue.get_result(self.id, timeout)
        return value

    async def status(self) -> ResultStatus:
        """How far it is now."""
        return (await self._queue.result(self.id)).status

    async def info(self) -> TaskInfo:
        """Everything that is known about it."""
        return await self._queue.info(self.id)

    async def cancel(self) -> bool:
        """Cancel it, or ask its worker to stop it; False: it had already ended."""
        return await self._queue.cancel(self.id)

    async def retry(self) -> bool:
        """Run it once more from the start; False: it has not ended, or runs again already."""
        return await self._queue.retry(self.id)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """To pydantic, and so to FastAPI's answers, it is the string it is."""
        return handler(str)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        """In OpenAPI: the task's id."""
        return {**handler(schema), "format": "uuid", "description": "A task's id."}

    def __omniq_plain__(self) -> str:
        """As an argument of another task it is its id."""
        return str.__str__(self)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str.__str__(self),)
