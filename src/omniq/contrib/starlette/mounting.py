"""The dashboard inside a Starlette or FastAPI app: where it goes, and who may see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import Receive, Scope, Send

from omniq.core import AsyncOmniQ

if TYPE_CHECKING:
    from omniq.dashboard import DashboardApp, Principal

HOST = "omniq.host"
"""The scope as the host's own routes would see it."""

Auth = Callable[[Request], Any] | tuple[str, str] | None
"""A callable that is given the host's request and gives (or awaits) True, a name, a
`Principal` or a response of its own; or `(user, password)`; or None: the token."""


class Dashboard:
    """The dashboard as an ASGI app, to be mounted anywhere: links follow the mount.

    Only a mount finds its own place in `path` and `root_path`; proxies and servers that strip a
    prefix, or do not, are all understood.
    """

    def __init__(self, queue: AsyncOmniQ, auth: Auth = None) -> None:
        self._queue, self._auth = queue, auth
        self._made: DashboardApp | None = None

    @property
    def app(self) -> DashboardApp:
        """The dashboard itself. Made when it is first asked for: it takes Litestar to make it."""
        if self._made is None:
            from omniq.dashboard import DashboardApp

            auth = self._auth
            self._made = DashboardApp(self._queue, auth=_asking(auth) if callable(auth) else auth)
        return self._made

    def prepare(self) -> None:
        """Make it now, so that what is wrong with it stops the start, not the first visitor."""
        _ = self.app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "http":
            from omniq.dashboard import mounted

            inside: Any = mounted(self.app)
            await inside({**scope, HOST: scope}, receive, send)

    async def admit(self, request: Request) -> Principal | int:
        """Who asks at another route of the host, or the status to refuse the request with."""
        from omniq.dashboard.hosted import admitted

        return await admitted(self.app, {**request.scope, HOST: request.scope})

    @property
    def scheme(self) -> str:
        """What opens it: "token", "password", or "own", the callable's business."""
        return "own" if callable(self._auth) else "token" if self._auth is None else "password"

    def close_streams(self) -> None:
        """End all live pages, so that a server that stops need not wait for them."""
        if self._made is not None:
            self._made.close_streams()

    def login_path(self, prefix: str = "") -> str:
        """The path that signs in whoever opens it; it holds the token."""
        return self.app.login_path(prefix)


def _asking(auth: Callable[[Request], Any]) -> Callable[[Any], Awaitable[Any]]:
    """The user's callable, given a Starlette request, where the dashboard has its own kind."""
    from omniq.dashboard.hosted import Answered

    async def ask(request: Any) -> Any:
        try:
            answer = auth(Request(request.scope[HOST]))
            if isawaitable(answer):
                answer = await answer
        except HTTPException as error:
            answer = PlainTextResponse(error.detail, error.status_code, error.headers)
        if isinstance(answer, Response):
            headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in answer.raw_headers]
            return Answered(bytes(answer.body), answer.status_code, headers)
        return answer

    return ask


class DashboardMount(Mount):
    """Answers at its own path too, where others send the browser on to the path with a slash.

    Behind a proxy that strips a prefix, that redirect would lead out of the app.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.NONE and scope["type"] == "http":
            return super().matches({**scope, "path": scope["path"] + "/"})
        return match, child


def place_of(dashboard: Dashboard, app: Starlette) -> str | None:
    """Where the app has mounted this dashboard; None: nowhere that can be seen."""
    return _place(dashboard, app.routes)


def _place(dashboard: Dashboard, routes: Iterable[BaseRoute]) -> str | None:
    for route in routes:
        if isinstance(route, Mount):
            if dashboard in (route.app, getattr(route, "_base_app", None)):
                return route.path
            inner = _place(dashboard, route.routes or ())
            if inner is not None:
                return route.path + inner
    return None


def mount(dashboard: Dashboard, app: Starlette, path: str) -> bool:
    """Mount it before a route that would catch everything, else behind all; again: no effect.

    False if the app has something of its own at that very path.
    """
    routes = app.router.routes
    if _place(dashboard, routes) is not None:
        return True
    inside: Scope = {
        "type": "http",
        "method": "GET",
        "path": f"{path}/{uuid4()}",
        "root_path": "",
        "headers": [],
    }
    where = len(routes)
    for number, route in enumerate(routes):
        if isinstance(route, Mount) and route.path == path:
            return False
        if route.matches(dict(inside))[0] is not Match.NONE:
            where = number
            break
    routes.insert(where, DashboardMount(path, app=dashboard, name=None))
    return True
