"""The REST routes as Litestar has them: what the dashboard shows and does, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, cast

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

from omniq.contrib.answers import QueueOut, StatusName, TaskDetail, TaskOut, TaskPage, WorkerOut
from omniq.contrib.rest import Caller, Rest
from omniq.core import AsyncOmniQ
from omniq.dashboard import DashboardRouter
from omniq.dashboard.hosted import admitted

CALLER = "omniq_caller"
KINDS = {401: NotAuthorizedException, 403: PermissionDeniedException, 404: NotFoundException}
_Queue = NamedDependency[AsyncOmniQ]
_Request = Request[Any, Any, Any]


def _refuse(status: int, detail: str, headers: dict[str, str] | None = None, /) -> HTTPException:
    kind = KINDS.get(status, ClientException if status < 500 else HTTPException)
    return kind(detail, status_code=status, headers=headers)


REST = Rest(_refuse)


class TaskRoutes(Controller):
    """Tasks, the queues they are in and the workers that run them."""

    tags = ["omniq"]  # noqa: RUF012 - Litestar's own way to say it

    @get("/queues")
    async def list_queues(self, omniq_queue: _Queue) -> list[QueueOut]:
        """How many tasks stand where."""
        return await REST.queues(omniq_queue)

    @get("/workers")
    async def list_workers(self, omniq_queue: _Queue) -> list[WorkerOut]:
        """The processes that work on tasks."""
        return await REST.workers(omniq_queue)

    @get("/tasks")
    async def list_tasks(
        self,
        omniq_queue: _Queue,
        status: FromQuery[list[StatusName] | None] = None,
        queue_name: Annotated[list[str] | None, QueryParameter(name="queue")] = None,
        name: FromQuery[list[str] | None] = None,
        tag: FromQuery[str | None] = None,
        limit: Annotated[int, QueryParameter(ge=1, le=200)] = 50,
        cursor: FromQuery[str | None] = None,
    ) -> TaskPage:
        """Tasks, the newest first."""
        return await REST.tasks(
            omniq_queue,
            statuses=status,
            queues=queue_name,
            names=name,
            tag=tag,
            limit=limit,
            cursor=cursor,
        )

    @get("/tasks/{task_id:str}", raises=[NotFoundException])
    async def get_task(self, omniq_queue: _Queue, task_id: FromPath[str]) -> TaskDetail:
        """One task with its arguments, result and errors."""
        return await REST.task(omniq_queue, task_id)

    @post("/tasks/{task_id:str}/cancel", status_code=200, raises=[NotFoundException])
    async def cancel_task(
        self, request: _Request, omniq_queue: _Queue, task_id: FromPath[str]
    ) -> TaskOut:
        """Cancel a task, or ask its worker to stop it."""
        return await REST.cancel(omniq_queue, task_id, _caller(request))

    @post("/tasks/{task_id:str}/retry", status_code=200, raises=[NotFoundException])
    async def retry_task(
        self, request: _Request, omniq_queue: _Queue, task_id: FromPath[str]
    ) -> TaskOut:
        """Run an ended task once more, or a delayed one now."""
        return await REST.retry(omniq_queue, task_id, _caller(request))

    @delete("/tasks/{task_id:str}", raises=[NotFoundException])
    async def delete_task(
        self, request: _Request, omniq_queue: _Queue, task_id: FromPath[str]
    ) -> None:
        """Forget an ended task and its result."""
        await REST.delete(omniq_queue, task_id, _caller(request))


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
        if isinstance(found, int):
            raise REST.closed(
                found, "Bearer" if gate.by_token else "Basic" if gate.by_password else None
            )
        connection.scope["state"][CALLER] = Caller(
            found.name, found.read_only or config.read_only, found.forbidden
        )

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


def _caller(request: _Request) -> Caller:
    return cast("Caller", request.scope["state"][CALLER])
