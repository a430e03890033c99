"""The REST routes as FastAPI has them: what the dashboard shows and does, for programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Security, params
from fastapi.security import HTTPBasic, HTTPBearer

from omniq.contrib.answers import QueueOut, StatusName, TaskDetail, TaskOut, TaskPage, WorkerOut
from omniq.contrib.fastapi.depends import queue_dependency
from omniq.contrib.rest import Caller, Rest
from omniq.contrib.starlette.mounting import Dashboard
from omniq.core import AsyncOmniQ


@dataclass(frozen=True)
class Problem:
    """Why a request was refused."""

    detail: str


MISSING: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such task."}}
NOT_NOW: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "Not as the task stands."}
}
REST = Rest(HTTPException)


def closed_by(dashboard: Dashboard, read_only: Callable[[], bool]) -> Callable[..., Any]:
    """A dependency that lets in whoever the dashboard would let in."""
    schemes: dict[str, Any] = {
        "token": HTTPBearer(auto_error=False, description="The dashboard's token."),
        "password": HTTPBasic(auto_error=False),
    }
    scheme = schemes.get(dashboard.scheme)
    asks = {"token": "Bearer", "password": "Basic"}.get(dashboard.scheme)

    async def admitted(request: Request) -> Caller:
        found = await dashboard.admit(request)
        if isinstance(found, int):
            raise REST.closed(found, asks)
        return Caller(found.name, found.read_only or read_only(), found.forbidden)

    if scheme is None:
        return admitted
    lock: Any = Security(scheme)

    async def shown_in_the_schema(request: Request, _: Any = lock) -> Caller:
        return await admitted(request)

    return shown_in_the_schema


def opened(read_only: Callable[[], bool]) -> Callable[..., Any]:
    """In place of the dashboard's auth where the app has dependencies of its own."""

    async def admitted() -> Caller:
        return Caller("api", read_only())

    return admitted


def rest_router(
    who: Callable[..., Any],
    *,
    name: str,
    lifespan: Any,
    prefix: str,
    dependencies: Sequence[params.Depends] = (),
) -> APIRouter:
    """The routes over the queue `name`; including them in an app starts it with the app."""
    caller: Any = Depends(who)
    started: Any = Depends(queue_dependency(name))
    router = APIRouter(
        prefix=prefix, tags=["omniq"], lifespan=lifespan, dependencies=[*dependencies, caller]
    )

    @router.get("/queues")
    async def list_queues(queue: AsyncOmniQ = started) -> list[QueueOut]:
        """How many tasks stand where."""
        return await REST.queues(queue)

    @router.get("/workers")
    async def list_workers(queue: AsyncOmniQ = started) -> list[WorkerOut]:
        """The processes that work on tasks."""
        return await REST.workers(queue)

    @router.get("/tasks")
    async def list_tasks(
        status: Annotated[list[StatusName], Query()] = [],  # noqa: B006 - FastAPI copies it
        queue_name: Annotated[list[str], Query(alias="queue")] = [],  # noqa: B006
        name: Annotated[list[str], Query()] = [],  # noqa: B006
        tag: str | None = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: str | None = None,
        queue: AsyncOmniQ = started,
    ) -> TaskPage:
        """Tasks, the newest first."""
        return await REST.tasks(
            queue,
            statuses=status,
            queues=queue_name,
            names=name,
            tag=tag,
            limit=limit,
            cursor=cursor,
        )

    @router.get("/tasks/{task_id}", responses=MISSING)
    async def get_task(task_id: str, queue: AsyncOmniQ = started) -> TaskDetail:
        """One task with its arguments, result and errors."""
        return await REST.task(queue, task_id)

    @router.post("/tasks/{task_id}/cancel", responses=MISSING | NOT_NOW)
    async def cancel_task(
        task_id: str, by: Caller = caller, queue: AsyncOmniQ = started
    ) -> TaskOut:
        """Cancel a task, or ask its worker to stop it."""
        return await REST.cancel(queue, task_id, by)

    @router.post("/tasks/{task_id}/retry", responses=MISSING | NOT_NOW)
    async def retry_task(task_id: str, by: Caller = caller, queue: AsyncOmniQ = started) -> TaskOut:
        """Run an ended task once more, or a delayed one now."""
        return await REST.retry(queue, task_id, by)

    @router.delete("/tasks/{task_id}", status_code=204, responses=MISSING | NOT_NOW)
    async def delete_task(task_id: str, by: Caller = caller, queue: AsyncOmniQ = started) -> None:
        """Forget an ended task and its result."""
        await REST.delete(queue, task_id, by)

    return router
