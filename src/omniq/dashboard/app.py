"""The dashboard as an app of its own, and as a router of a Litestar host."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast
from urllib.parse import quote

from litestar import Litestar, Request, Response, Router
from litestar.di import Provide
from litestar.enums import MediaType, ScopeType
from litestar.exceptions import HTTPException
from litestar.middleware import DefineMiddleware
from litestar.types import (
    Guard,
    LifeSpanReceive,
    LifeSpanScope,
    LifeSpanSend,
    Receive,
    Scope,
    Send,
)

from omniq.dashboard.auth import Auth, Principal
from omniq.dashboard.components.layout import NavEntry
from omniq.dashboard.desk import Desk
from omniq.dashboard.mount import PREFIX, inner_scope
from omniq.dashboard.pages.about import AboutViews
from omniq.dashboard.pages.events import EventViews
from omniq.dashboard.pages.login import LoginViews, login_cookie, login_page
from omniq.dashboard.pages.overview import MetricsViews
from omniq.dashboard.pages.queues import QueueViews
from omniq.dashboard.pages.service import ServiceViews
from omniq.dashboard.pages.tasks import TaskViews
from omniq.dashboard.pages.workers import WorkerViews
from omniq.dashboard.reads import Watched
from omniq.dashboard.security import Guarded, host_allowed
from omniq.dashboard.visit import MARK, Visit
from omniq.errors import OmniQError, StorageError
from omniq.models import OmniQConfig

NAV = (
    NavEntry("", "Overview"),
    NavEntry("tasks", "Tasks"),
    NavEntry("queues", "Queues"),
    NavEntry("workers", "Workers"),
    NavEntry("events", "Events"),
    NavEntry("about", "About"),
)
VIEWS = (
    MetricsViews,
    TaskViews,
    QueueViews,
    WorkerViews,
    EventViews,
    AboutViews,
    LoginViews,
    ServiceViews,
)
_log = logging.getLogger("omniq.dashboard")
_Request = Request[Any, Any, Any]


class DashboardApp(Litestar):
    """The dashboard over `queue`, to be served alone or mounted in any ASGI app.

    It needs no lifespan: the queue is the caller's to open and close. `auth` is a callable,
    `(user, password)` or None: a token made once in the base directory. `allowed_hosts`, if
    given, are the only names a request may be addressed to: on a loopback address give loopback
    names (`security.LOOPBACK`), so that no site reaches it through a name of its own.
    """

    def __init__(
        self,
        queue: Watched,
        *,
        config: OmniQConfig | None = None,
        auth: Auth = None,
        allowed_hosts: Collection[str] = (),
    ) -> None:
        self.desk = Desk(lambda: queue, auth, config=lambda: config, nav=NAV, hosts=allowed_hosts)
        super().__init__(
            route_handlers=[_router(self.desk, "/")],
            exception_handlers={Exception: _bare},
            logging_config=None,
            openapi_config=None,
            debug=False,
        )
        # Around everything, not a middleware: those do not see what no route answers.
        self._guarded = Guarded(super().__call__, headers=self.desk.headers)

    async def __call__(
        self,
        scope: Scope | LifeSpanScope,
        receive: Receive | LifeSpanReceive,
        send: Send | LifeSpanSend,
    ) -> None:
        if scope["type"] != ScopeType.HTTP:
            await super().__call__(scope, receive, send)
            return
        if PREFIX not in scope:
            scope = inner_scope(cast("Scope", scope), "")
        await self._guarded(cast("Scope", scope), cast("Receive", receive), cast("Send", send))

    def close_streams(self) -> None:
        """End all live pages, so that a server that shuts down need not wait for them."""
        self.desk.hub.close()

    def login_path(self, prefix: str = "") -> str:
        """The path that signs in whoever opens it; it holds the token."""
        return login_path(self.desk, prefix)


class DashboardRouter(Router):
    """The dashboard as part of a Litestar app."""

    desk: Desk

    def close_streams(self) -> None:
        """End all live pages, so that a server that shuts down need not wait for them."""
        self.desk.hub.close()

    def login_path(self) -> str:
        """The path that signs in whoever opens it; it holds the token."""
        return login_path(self.desk, self.path)


def dashboard_router(
    queue_provider: Callable[[], Watched],
    path: str = "/omniq",
    *,
    guards: Sequence[Guard] | None = None,
    auth: Auth = None,
    config: Callable[[], OmniQConfig] | OmniQConfig | None = None,
    include_in_schema: bool = False,
    opt: dict[str, Any] | None = None,
) -> DashboardRouter:
    """The dashboard's pages as a router of a Litestar app.

    `queue_provider` is asked at each request. With `guards` the host decides who comes in, and
    no token is asked for; else `auth` does, as in `DashboardApp`. `config` defaults to the
    queue's own.
    """
    who: Auth = auth
    if who is None and guards:
        who = _by_guards

    desk = Desk(queue_provider, who, config=config if callable(config) else lambda: config, nav=NAV)
    return _router(desk, path, guards=guards, include_in_schema=include_in_schema, opt=opt)


def login_path(desk: Desk, prefix: str) -> str:
    prefix = prefix.rstrip("/")
    if not desk.gate.by_token:
        return f"{prefix}/"
    return f"{prefix}/?token={quote(desk.gate.secret, safe='')}"


def _by_guards(request: _Request) -> Principal:
    """Whoever passed the host's guards; named as the host names its users, if it does."""
    user = request.scope.get("user")
    name = getattr(user, "username", None) or getattr(user, "name", None) or user or "visitor"
    return Principal(str(name)[:100])


def _router(
    desk: Desk,
    path: str,
    *,
    guards: Sequence[Guard] | None = None,
    include_in_schema: bool = False,
    opt: dict[str, Any] | None = None,
) -> DashboardRouter:
    async def provide_visit(request: _Request) -> Visit:
        return cast("Visit", request.scope["state"]["omniq_visit"])

    async def admit(request: _Request) -> Response[Any] | None:
        """Before every handler: the right host, a known visitor, or only what is open to all."""
        if desk.hosts and not host_allowed(request.headers.get("host", ""), desk.hosts):
            return Response("unknown host", status_code=421, media_type=MediaType.TEXT)
        handler = request.route_handler
        found = await desk.gate.admit(request)
        if isinstance(found, Response) and not handler.opt.get("omniq_open"):
            return found
        principal = found if isinstance(found, Principal) else None
        visit = Visit(desk, request, principal)
        request.scope["state"]["omniq_visit"] = visit
        given = visit.param("token")
        if given and desk.gate.token_is(given):
            return visit.go(visit.again(token=None), [login_cookie(visit)])
        if principal is None and not handler.opt.get("omniq_open"):
            return _closed(visit)
        return None

    router = DashboardRouter(
        path=path,
        route_handlers=list(VIEWS),
        before_request=admit,
        after_request=_as_it_is,
        dependencies={"visit": Provide(provide_visit)},
        exception_handlers={HTTPException: _failed, OmniQError: _failed, Exception: _failed},
        guards=guards,
        middleware=[DefineMiddleware(Guarded, headers=desk.headers)],
        include_in_schema=include_in_schema,
        opt={**(opt or {}), MARK: True},
        dto=None,
        return_dto=None,
        request_class=Request,
        response_class=Response,
        request_max_body_size=1_000_000,
    )
    router.desk = desk
    return router


def _closed(visit: Visit) -> Response[Any]:
    """The answer to a visitor who is not let in."""
    gate, request = visit.desk.gate, visit.request
    wanted = request.headers.get("accept", "")
    if gate.by_password:
        return Response(
            "sign in",
            status_code=401,
            media_type=MediaType.TEXT,
            headers={"www-authenticate": 'Basic realm="OmniQ", charset="UTF-8"'},
        )
    live = bool(visit.param("live")) or "datastar-request" in request.headers
    if live or request.method != "GET" or ("html" not in wanted and "*/*" not in wanted):
        return Response("sign in first", status_code=401, media_type=MediaType.TEXT)
    return login_page(visit, visit.again())


async def _as_it_is(response: Response[Any]) -> Response[Any]:
    """In place of a host's own hook, which may expect other responses."""
    return response


def _failed(request: _Request, error: Exception) -> Response[Any]:
    """An error as a page, or as text where there is no visit yet. Details go to the log."""
    if isinstance(error, HTTPException):
        status, text = error.status_code, error.detail
    elif isinstance(error, StorageError):
        status, text = 503, f"The place where tasks are kept does not answer: {error}"
        _log.warning("%s %s: %s", request.method, request.url.path, error)
    else:
        status, text = 500, "Something went wrong here; the log of this process says what."
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    visit = request.scope.get("state", {}).get("omniq_visit")
    if not isinstance(visit, Visit) or visit.principal is None:
        return Response(
            text if status < 500 else "error", status_code=status, media_type=MediaType.TEXT
        )
    return visit.told("That did not work", text, status)


def _bare(request: _Request, error: Exception) -> Response[Any]:
    """Errors outside of every route."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    return Response("error", status_code=status, media_type=MediaType.TEXT)
