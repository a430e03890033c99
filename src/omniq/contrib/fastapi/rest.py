"""The REST routes: what the dashboard shows and does, for programs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Security, params
from fastapi.security import HTTPBasic, HTTPBearer

from omniq.contrib.fastapi.depends import queue_dependency
from omniq.contrib.fastapi.models import (
    Problem,
    QueueOut,
    StatusName,
    TaskDetail,
    TaskOut,
    TaskPage,
    WorkerOut,
)
from omniq.contrib.starlette.mounting import Dashboard
from omniq.core import AsyncOmniQ
from omniq.errors import StorageError, TaskNotFound
from omniq.models.filters import TaskFilter
from omniq.models.status import Status

MISSING: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "No such task."}}
NOT_NOW: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "Not as the task stands."}
}


class Caller(NamedTuple):
    """Who asks. `may` says whether they may take an action."""

    name: str
    may: Callable[[str], bool]


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
            detail = "sign in first" if found == 401 else "not for you"
            headers = {"WWW-Authenticate": asks} if asks and found == 401 else None
            raise HTTPException(found, detail, headers)
        blocked = found.read_only or read_only()
        return Caller(found.name, lambda action: not blocked and action not in found.forbidden)

    if scheme is None:
        return admitted
    lock: Any = Security(scheme)

    async def shown_in_the_schema(request: Request, _: Any = lock) -> Caller:
        return await admitted(request)

    return shown_in_the_schema


def opened(read_only: Callable[[], bool]) -> Callable[..., Any]:
    """In place of the dashboard's auth where the app has dependencies of its own."""

    async def admitted() -> Caller:
        return Caller("api", lambda action: not read_only())

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
        return QueueOut.all_of(await _answer(queue.counts()))

    @router.get("/workers")
    async def list_workers(queue: AsyncOmniQ = started) -> list[WorkerOut]:
        """The processes that work on tasks."""
        return [WorkerOut.of(card) for card in await _answer(queue.workers())]

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
        wanted = TaskFilter(
            queues=tuple(queue_name),
            statuses=tuple(Status[each.name] for each in status),
            names=tuple(name),
            tag=tag,
        )
        page = await _answer(queue.find(wanted, limit=limit, cursor=cursor))
        return TaskPage(tasks=[TaskOut.of(row) for row in page.tasks], cursor=page.cursor)

    @router.get("/tasks/{task_id}", responses=MISSING)
    async def get_task(task_id: str, queue: AsyncOmniQ = started) -> TaskDetail:
        """One task with its arguments, result and errors."""
        return TaskDetail.of_info(await _answer(queue.info(task_id)))

    @router.post("/tasks/{task_id}/cancel", responses=MISSING | NOT_NOW)
    async def cancel_task(
        task_id: str, by: Caller = caller, queue: AsyncOmniQ = started
    ) -> TaskOut:
        """Cancel a task, or ask its worker to stop it."""
        _allow(by, "cancel")
        if not await _answer(queue.cancel(task_id, actor=by.name)):
            raise HTTPException(409, "it has already ended")
        return await _as_it_is_now(queue, task_id)

    @router.post("/tasks/{task_id}/retry", responses=MISSING | NOT_NOW)
    async def retry_task(task_id: str, by: Caller = caller, queue: AsyncOmniQ = started) -> TaskOut:
        """Run an ended task once more, or a delayed one now."""
        _allow(by, "retry")
        if not await _answer(queue.retry(task_id, actor=by.name)):
            raise HTTPException(409, "it waits or runs, or its unique key is taken")
        return await _as_it_is_now(queue, task_id)

    @router.delete("/tasks/{task_id}", status_code=204, responses=MISSING | NOT_NOW)
    async def delete_task(task_id: str, by: Caller = caller, queue: AsyncOmniQ = started) -> None:
        """Forget an ended task and its result."""
        _allow(by, "delete")
        if not await _answer(queue.delete(task_id, actor=by.name)):
            raise HTTPException(409, "it has not ended")

    return router


async def _as_it_is_now(queue: AsyncOmniQ, task_id: str) -> TaskOut:
    return TaskOut.of((await _answer(queue.info(task_id))).row)


def _allow(by: Caller, action: str) -> None:
    if not by.may(action):
        raise HTTPException(403, "you may look, but not act")


async def _answer(asked: Awaitable[Any]) -> Any:
    try:
        return await asked
    except TaskNotFound as error:
        raise HTTPException(404, str(error)) from None
    except StorageError as error:
        raise HTTPException(
            503, f"the place where tasks are kept does not answer: {error}"
        ) from None
