"""The REST routes: what the dashboard shows and does, for programs."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Annotated, Any, Literal, TypeVar, cast

from litestar import Controller, Request, Router, delete, get, post
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.exceptions import (
    ClientException,
    HTTPException,
    NotAuthorizedException,
    NotFoundException,
    PermissionDeniedException,
)
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.types import Guard

from omniq.contrib.litestar.answers import QueueOut, TaskDetail, TaskOut, TaskPage, WorkerOut
from omniq.core import AsyncOmniQ
from omniq.dashboard import DashboardRouter
from omniq.dashboard.auth import Principal
from omniq.dashboard.hosted import admitted
from omniq.errors import StorageError, TaskNotFound
from omniq.models.filters import TaskFilter
from omniq.models.status import Status

T = TypeVar("T")
Action = Literal["cancel", "retry", "delete"]
Name = Literal[
    "waiting",
    "held",
    "scheduled",
    "ready",
    "running",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
]
CALLER = "omniq_caller"
_Queue = NamedDependency[AsyncOmniQ]
_Request = Request[Any, Any, Any]


class TaskRoutes(Controller):
    """Tasks, the queues they are in and the workers that run them."""

    tags = ["omniq"]  # noqa: RUF012 - Litestar's own way to say it

    @get("/queues")
    async def list_queues(self, omniq_queue: _Queue) -> list[QueueOut]:
        """How many tasks stand where."""
        return QueueOut.all_of(await _answer(omniq_queue.counts()))

    @get("/workers")
    async def list_workers(self, omniq_queue: _Queue) -> list[WorkerOut]:
        """The processes that work on tasks."""
        return [WorkerOut.of(card) for card in await _answer(omniq_queue.workers())]

    @get("/tasks")
    async def list_tasks(
        self,
        omniq_queue: _Queue,
        status: FromQuery[list[Name] | None] = None,
        queue_name: Annotated[list[str] | None, QueryParameter(name="queue")] = None,
        name: FromQuery[list[str] | None] = None,
        tag: FromQuery[str | None] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=200)] = 50,
        cursor: FromQuery[str | None] = None,
    ) -> TaskPage:
        """Tasks, the newest first."""
        wanted = TaskFilter(
            queues=tuple(queue_name or ()),
            statuses=tuple(Status[each.upper()] for each in status or ()),
            names=tuple(name or ()),
            tag=tag,
        )
        page = await _answer(omniq_queue.find(wanted, limit=limit, cursor=cursor))
        return TaskPage([TaskOut.of(row) for row in page.tasks], page.cursor)

    @get("/tasks/{task_id:str}", raises=[NotFoundException])
    async def get_task(self, omniq_queue: _Queue, task_id: FromPath[str]) -> TaskDetail:
        """One task with its arguments, result and errors."""
        return TaskDetail.of_info(await _answer(omniq_queue.info(task_id)))

    @post("/tasks/{task_id:str}/cancel", status_code=200, raises=[NotFoundException])
    async def cancel_task(
        self, request: _Request, omniq_queue: _Queue, task_id: FromPath[str]
    ) -> TaskOut:
        """Cancel a task, or ask its worker to stop it."""
        if not await _answer(omniq_queue.cancel(task_id, actor=_actor(request, "cancel"))):
            raise ClientException("it has already ended", status_code=409)
        return await _as_it_is_now(omniq_queue, task_id)

    @post("/tasks/{task_id:str}/retry", status_code=200, raises=[NotFoundException])
    async def retry_task(
        self, request: _Request, omniq_queue: _Queue, task_id: FromPath[str]
    ) -> TaskOut:
        """Run an ended task once more, or a delayed one now."""
        if not await _answer(omniq_queue.retry(task_id, actor=_actor(request, "retry"))):
            raise ClientException("it waits or runs, or its unique key is taken", status_code=409)
        return await _as_it_is_now(omniq_queue, task_id)

    @delete("/tasks/{task_id:str}", raises=[NotFoundException])
    async def delete_task(
        self, request: _Request, omniq_queue: _Queue, task_id: FromPath[str]
    ) -> None:
        """Forget an ended task and its result."""
        if not await _answer(omniq_queue.delete(task_id, actor=_actor(request, "delete"))):
            raise ClientException("it has not ended", status_code=409)


def rest_router(
    queue: AsyncOmniQ,
    dashboard: DashboardRouter,
    *,
    path: str,
    guards: Sequence[Guard] = (),
    include_in_schema: bool = False,
) -> Router:
    """The routes over one queue. The host's `guards` are asked first, then the dashboard's gate."""
    gate, config = dashboard.desk.gate, dashboard.desk.config.dashboard

    async def closed(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        found = await admitted(dashboard, cast("Any", connection.scope))
        if isinstance(found, Principal):
            connection.scope["state"][CALLER] = found, config.read_only
        elif found == 401:
            asks = "Bearer" if gate.by_token else "Basic" if gate.by_password else None
            headers = {"WWW-Authenticate": asks} if asks else None
            raise NotAuthorizedException("sign in first", headers=headers)
        else:
            raise HTTPException("not for you", status_code=found)

    return Router(
        path=path,
        route_handlers=[TaskRoutes],
        dependencies={"omniq_queue": Provide(lambda: queue, sync_to_thread=False)},
        guards=[*guards, closed],
        include_in_schema=include_in_schema,
        # A host's form token is nothing a program has; pages of other sites are refused here.
        opt={"exclude_from_csrf": True},
        dto=None,
        return_dto=None,
    )


def _actor(request: _Request, action: Action) -> str:
    """Who acts, if they may."""
    by, read_only = cast("tuple[Principal, bool]", request.scope["state"][CALLER])
    if read_only or by.read_only or action in by.forbidden:
        raise PermissionDeniedException("you may look, but not act")
    return by.name


async def _as_it_is_now(queue: AsyncOmniQ, id: str) -> TaskOut:
    return TaskOut.of((await _answer(queue.info(id))).row)


async def _answer(asked: Awaitable[T]) -> T:
    try:
        return await asked
    except TaskNotFound as error:
        raise NotFoundException(str(error)) from None
    except StorageError as error:
        text = f"the place where tasks are kept does not answer: {error}"
        raise HTTPException(text, status_code=503) from None
