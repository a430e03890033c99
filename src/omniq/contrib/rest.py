"""What the REST routes do, whatever framework they are routes of."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Literal, NamedTuple, Protocol, TypeVar

from omniq.contrib.answers import QueueOut, StatusName, TaskDetail, TaskOut, TaskPage, WorkerOut
from omniq.core import AsyncOmniQ
from omniq.errors import StorageError, TaskNotFound
from omniq.models.filters import TaskFilter
from omniq.models.status import Status

T = TypeVar("T")
Action = Literal["cancel", "retry", "delete"]


class Caller(NamedTuple):
    """Who asks, and what they may not do."""

    name: str
    read_only: bool
    forbidden: frozenset[str] = frozenset()


class Refuse(Protocol):
    """Makes the framework's own exception of a status and the reason."""

    def __call__(
        self, status: int, detail: str, headers: dict[str, str] | None = None, /
    ) -> Exception: ...


class Rest:
    """The routes, without their paths. What goes wrong is raised as `refuse` makes it."""

    def __init__(self, refuse: Refuse) -> None:
        self._refuse = refuse

    def closed(self, status: int, asks: str | None) -> Exception:
        """Why somebody is not let in; `asks` is how to sign in: "Bearer", "Basic"."""
        if status != 401:
            return self._refuse(status, "not for you")
        return self._refuse(401, "sign in first", {"WWW-Authenticate": asks} if asks else None)

    async def queues(self, queue: AsyncOmniQ) -> list[QueueOut]:
        """How many tasks stand where."""
        return QueueOut.all_of(await self._answer(queue.counts()))

    async def workers(self, queue: AsyncOmniQ) -> list[WorkerOut]:
        """The processes that work on tasks."""
        return [WorkerOut.of(card) for card in await self._answer(queue.workers())]

    async def tasks(
        self,
        queue: AsyncOmniQ,
        *,
        statuses: Iterable[StatusName] | None,
        queues: Iterable[str] | None,
        names: Iterable[str] | None,
        tag: str | None,
        limit: int,
        cursor: str | None,
    ) -> TaskPage:
        """Those that fit, the newest first; None or nothing asks for all."""
        wanted = TaskFilter(
            queues=tuple(queues or ()),
            statuses=tuple(Status[each.name] for each in statuses or ()),
            names=tuple(names or ()),
            tag=tag,
        )
        page = await self._answer(queue.find(wanted, limit=limit, cursor=cursor))
        return TaskPage(tasks=[TaskOut.of(row) for row in page.tasks], cursor=page.cursor)

    async def task(self, queue: AsyncOmniQ, id: str) -> TaskDetail:
        """One task with its arguments, result and errors."""
        return TaskDetail.of_info(await self._answer(queue.info(id)))

    async def cancel(self, queue: AsyncOmniQ, id: str, by: Caller) -> TaskOut:
        """Cancel a task, or ask its worker to stop it."""
        if not await self._answer(queue.cancel(id, actor=self._actor(by, "cancel"))):
            raise self._refuse(409, "it has already ended")
        return await self._as_it_is_now(queue, id)

    async def retry(self, queue: AsyncOmniQ, id: str, by: Caller) -> TaskOut:
        """Run an ended task once more, or a delayed one now."""
        if not await self._answer(queue.retry(id, actor=self._actor(by, "retry"))):
            raise self._refuse(409, "it waits or runs, or its unique key is taken")
        return await self._as_it_is_now(queue, id)

    async def delete(self, queue: AsyncOmniQ, id: str, by: Caller) -> None:
        """Forget an ended task and its result."""
        if not await self._answer(queue.delete(id, actor=self._actor(by, "delete"))):
            raise self._refuse(409, "it has not ended")

    def _actor(self, by: Caller, action: Action) -> str:
        """The name to act under, for whoever may."""
        if by.read_only or action in by.forbidden:
            raise self._refuse(403, "you may look, but not act")
        return by.name

    async def _as_it_is_now(self, queue: AsyncOmniQ, id: str) -> TaskOut:
        return TaskOut.of((await self._answer(queue.info(id))).row)

    async def _answer(self, asked: Awaitable[T]) -> T:
        try:
            return await asked
        except TaskNotFound as error:
            raise self._refuse(404, str(error)) from None
        except StorageError as error:
            text = f"the place where tasks are kept does not answer: {error}"
            raise self._refuse(503, text) from None
