"""Apps that tests serve in processes of their own: `uvicorn --factory tests...served:plain`.

`everything` is all of them in one process, told apart by the host's name (`nested.test`): each
gets requests as the server made them, and keeps its tasks in a folder of its own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from litestar import Litestar, asgi, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery
from litestar.types import Receive, Scope, Send
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

import omniq
from omniq import AsyncOmniQ
from omniq.contrib import fastapi, starlette
from omniq.contrib.litestar import OmniQPlugin
from omniq.dashboard import DashboardApp, live, mounted
from tests.programs import PATIENCE
from tests.waiting import until

RUNS = Path("runs.log")


@omniq.task("served.note", retries=0)
async def note(mark: str, seconds: float = 0.0, beside: int = 0) -> int:
    """Note the start in a file, and answer where it ran. Run again, it is quick.

    It does not end before so many have started, those `beside` it included.
    """
    with RUNS.open("a+") as runs:
        runs.seek(0)
        again = f"{mark} " in runs.read()
        runs.write(f"{mark} {os.getpid()}\n")
    await asyncio.sleep(0 if again else seconds)
    await until(lambda: RUNS.read_text().count("\n") >= beside, patience=PATIENCE)
    return os.getpid()


async def where() -> dict[str, int]:
    return {"pid": os.getpid()}


async def start(queue: fastapi.QueueDep, mark: str, seconds: float = 0.0, beside: int = 0) -> str:
    return await queue.enqueue(note, (mark, seconds, beside))


def _routed(app: FastAPI) -> FastAPI:
    app.get("/where")(where)
    app.post("/start")(start)
    return app


def plain(**options: Any) -> FastAPI:
    extension = fastapi.OmniQExtension(**options)
    return _routed(FastAPI(lifespan=extension.lifespan))


def included(**options: Any) -> FastAPI:
    """The router alone starts everything; the dashboard is beside it."""
    extension, app = fastapi.OmniQExtension(**options), _routed(FastAPI())
    app.include_router(extension.router, prefix="/tasks")
    app.mount("/omniq", extension.dashboard())
    return app


def rooted(**options: Any) -> FastAPI:
    """Behind a proxy that strips `/api`, as the app has been told."""
    app = _routed(FastAPI(root_path="/api"))
    fastapi.OmniQExtension(**options).init_app(app)
    return app


def nested(**options: Any) -> FastAPI:
    """Two apps down; only the outermost one has a lifespan."""
    extension = fastapi.OmniQExtension(**options)
    inner, middle = _routed(FastAPI()), FastAPI()
    inner.mount("/omniq", extension.dashboard())
    middle.mount("/tools", inner)
    outer = FastAPI(lifespan=extension.lifespan)
    outer.mount("/shop", middle)
    return outer


async def _starlette_start(request: Request) -> Response:
    query = request.query_params
    given = (query["mark"], float(query.get("seconds", "0")))
    return JSONResponse(await starlette.get_queue(request).enqueue(note, given))


async def _starlette_where(request: Request) -> Response:
    return JSONResponse(await where())


def bare(**options: Any) -> Starlette:
    """Starlette without FastAPI."""
    extension = starlette.OmniQExtension(**options)
    routes = [
        Route("/where", _starlette_where),
        Route("/start", _starlette_start, methods=["POST"]),
        Mount("/omniq", extension.dashboard()),
    ]
    return Starlette(routes=routes, lifespan=extension.lifespan)


@get("/where")
async def _litestar_where() -> dict[str, int]:
    return await where()


@post("/start")
async def _litestar_start(
    queue: NamedDependency[AsyncOmniQ], mark: FromQuery[str], seconds: FromQuery[float] = 0.0
) -> str:
    return str(await queue.enqueue(note, (mark, seconds)))


def litestar(**options: Any) -> Litestar:
    return Litestar([_litestar_where, _litestar_start], plugins=[OmniQPlugin(**options)])


def litestar_mount(**options: Any) -> Litestar:
    """The dashboard as a mounted ASGI app, as hosts have it that want it apart."""
    plugin = OmniQPlugin(dashboard=False, **options)
    dashboard: Any = DashboardApp(plugin.queue)
    inside = mounted(dashboard, "/omniq")

    @asgi("/omniq", is_mount=True, copy_scope=True)
    async def mount(scope: Scope, receive: Receive, send: Send) -> None:
        await inside(scope, receive, send)

    return Litestar([_litestar_where, _litestar_start, mount], plugins=[plugin])


APPS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (plain, included, rooted, nested, bare, litestar, litestar_mount)
}


class Together:
    """Several apps in one process: each runs its lifespan, each answers to a name."""

    def __init__(self, apps: dict[str, Any]) -> None:
        self._apps = apps
        self._states: dict[str, Any] = {}

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        name = dict(scope["headers"])[b"host"].decode().partition(".")[0]
        scope["state"] = dict(self._states[name] or {})
        await self._apps[name](scope, receive, send)

    async def _live(
        self, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            for name, app in self._apps.items():
                theirs = app.lifespan() if isinstance(app, Litestar) else None
                lifespan = theirs or app.router.lifespan_context(app)
                self._states[name] = await stack.enter_async_context(lifespan)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


def everything() -> Together:
    live.LIFE = 3600.0  # a server that waited for its pages would do so for ever
    return Together({name: make(base_dir=folder(name)) for name, make in APPS.items()})


def folder(name: str) -> Path:
    """Where one of them keeps its tasks, below the working directory."""
    return Path(f"omniq-{name}")
