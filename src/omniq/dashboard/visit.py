"""One request to the dashboard: where it is, who asks, and how a page is answered."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast
from urllib.parse import quote, urlencode

from datastar_py import ServerSentEventGenerator
from datastar_py.consts import ElementPatchMode
from datastar_py.litestar import DatastarResponse
from htpy import Renderable, a, div, p
from litestar import Request, Response, Router
from litestar.datastructures import Cookie
from litestar.enums import MediaType

from omniq.dashboard.auth import Principal
from omniq.dashboard.components.bits import Fields, empty
from omniq.dashboard.components.layout import Frame, document
from omniq.dashboard.components.notice import said, toast
from omniq.dashboard.desk import Desk
from omniq.dashboard.mount import FIELDS, PREFIX, SHORT
from omniq.dashboard.reads import Reads, Watched
from omniq.dashboard.security import same_origin
from omniq.dashboard.token import same

MARK = "omniq.dashboard"
POLL = 3.0
"""Seconds between two updates of a page that has no stream."""
LIVE = frozenset({"live", "once", "datastar", "notice"})
"""Query parameters that are not a page's own."""
Body = Callable[["Visit"], Awaitable[Sequence[Renderable]]]
"""What a page is: its regions, always as many in the same order, each with an id of its own."""


class Visit:
    """What a handler needs to know and the ways it can answer."""

    def __init__(
        self, desk: Desk, request: Request[Any, Any, Any], principal: Principal | None
    ) -> None:
        self.desk, self.request, self.principal = desk, request, principal
        self.prefix = mount_point(request)
        known = request.cookies.get(desk.gate.visitor_cookie, "")
        self._new = not known
        self._visitor = known or secrets.token_urlsafe(16)

    @property
    def queue(self) -> Watched:
        return self.desk.queue()

    @property
    def reads(self) -> Reads:
        return self.desk.reads()

    @property
    def may_act(self) -> bool:
        """Whether this visitor may change anything; asked by pages and enforced by handlers."""
        read_only = self.desk.config.dashboard.read_only
        return self.principal is not None and not (read_only or self.principal.read_only)

    def may(self, action: str) -> bool:
        """Whether this visitor may take this action."""
        return (
            self.may_act and self.principal is not None and action not in self.principal.forbidden
        )

    @property
    def live(self) -> str:
        """How this page learns what is new: "stream", "poll" or "off"."""
        chosen = self.desk.config.dashboard.live
        return "poll" if chosen == "stream" and self.request.scope.get(SHORT) else chosen

    @property
    def theme(self) -> str:
        chosen = self.request.cookies.get("omniq_theme", "auto")
        return chosen if chosen in ("light", "dark") else "auto"

    @property
    def form_token(self) -> str:
        return self.desk.gate.form_token(self.request, self._visitor)

    @property
    def fields(self) -> Fields:
        """What every form carries unseen."""
        theirs: Fields = cast("Any", self.request.scope).get(FIELDS, ())
        return (("_token", self.form_token), *theirs)

    def param(self, name: str) -> str:
        """A parameter of the query, "" where it is not given."""
        return str(self.request.query_params.get(name, "")).strip()

    def url(self, *parts: str, **query: str | None) -> str:
        """A link within the dashboard, parts and query quoted."""
        path = "/".join(quote(part, safe="") for part in parts)
        asked = {name.rstrip("_"): value for name, value in query.items() if value}
        return f"{self.prefix}/{path}" + (f"?{urlencode(asked)}" if asked else "")

    def again(self, **changes: str | None) -> str:
        """This very page with some parameters changed (None: taken away)."""
        kept = {k: v for k, v in self.request.query_params.items() if k not in LIVE}
        query = {k: v for k, v in {**kept, **changes}.items() if v}
        path = self.request.scope["path"].rstrip("/")
        if PREFIX in self.request.scope:
            path = self.prefix + path
        elif not path.startswith(self.prefix):
            path = self.request.scope.get("root_path", "").rstrip("/") + path
        if path == self.prefix:
            path += "/"  # mounts redirect to it otherwise
        return path + (f"?{urlencode(query)}" if query else "")

    async def page(self, title: str, body: Body, *, here: str = "", live: bool = True) -> Any:
        """Answer with the whole page, or, where its stream is asked for, with what changes."""
        if self.param("live"):
            if self.live == "stream" and not self.param("once"):
                return self._stream(body)
            return _short([str(region) for region in await body(self)])
        regions = await body(self)
        stream = self.again(live="1") if live and self.live != "off" else ""
        return self.html(str(document(self.frame(title, here, stream), regions)))

    def frame(self, title: str, here: str = "", stream: str = "") -> Frame:
        """What stands around every page."""
        return Frame(
            title=title,
            prefix=self.prefix,
            assets=self.url("static", self.desk.assets),
            nav=self.desk.nav if self.principal else (),
            here=here,
            stream=stream,
            every=POLL if self.live == "poll" else 0,
            theme=self.theme,
            fields=self.fields,
            notice=self.param("notice"),
            bundle=self.desk.bundle,
            read_only=self.principal is not None and not self.may_act,
            can_leave=self.desk.gate.by_token and self.principal is not None,
            again=self.again(),
            place=self.queue.describe() if self.principal else "",
        )

    def _stream(self, body: Body) -> Response[Any]:
        hub = self.desk.hub
        if hub.full:
            return Response(
                "too many live pages are open",
                status_code=503,
                media_type=MediaType.TEXT,
                headers={"retry-after": "5"},
            )

        return DatastarResponse(
            hub.stream(lambda: body(self)),
            headers={"cache-control": "no-store"},
        )

    def html(self, html: str, *, status: int = 200) -> Response[Any]:
        return Response(
            html,
            status_code=status,
            media_type=MediaType.HTML,
            headers={"cache-control": "no-store"},
            cookies=(
                [self.cookie(self.desk.gate.visitor_cookie, self._visitor)] if self._new else []
            ),
        )

    def cookie(self, name: str, value: str, *, life: int | None = None) -> Cookie:
        return Cookie(
            key=name,
            value=value,
            max_age=life,
            path=self.prefix or "/",
            httponly=True,
            samesite="strict",
            secure=self.request.scope["scheme"] == "https",
        )

    async def form(self) -> dict[str, str] | None:
        """The fields of a form of ours; None if it was not sent by one (CSRF)."""
        if not same_origin(self.request):
            return None
        fields = {k: str(v) for k, v in (await self.request.form()).items()}
        if self._new or not same(fields.get("_token", ""), self.form_token):
            return None
        return fields

    async def action_form(self, action: str) -> dict[str, str] | Response[Any]:
        """The fields of an action's form, or the refusal to send instead."""
        if not self.may_act:
            return await self.refused("This dashboard is read-only for you.")
        if not self.may(action):
            return await self.refused(f"You are not allowed to {action} tasks.")
        fields = await self.form()
        if fields is None:
            return await self.refused(
                "This request was not sent by a form of this dashboard. "
                "Reload the page and try again."
            )
        return fields

    def inside(self, path: str) -> str:
        """`path` if it leads into this dashboard, else its start: no redirect leads out."""
        ours = path == self.prefix or path.startswith(f"{self.prefix}/")
        safe = ours and not path.startswith("//") and not set(path) & set("\\\r\n")
        return path if safe else self.url()

    def go(self, url: str, cookies: Sequence[Cookie] = ()) -> Response[Any]:
        return Response(
            "",
            status_code=303,
            headers={"location": url, "cache-control": "no-store"},
            cookies=list(cookies),
            media_type=MediaType.TEXT,
        )

    async def missing(self, title: str, text: str) -> Response[Any]:
        return self.told(title, text, 404)

    async def refused(self, text: str) -> Response[Any]:
        return self.told("Refused", text, 403)

    def told(self, title: str, text: str, status: int) -> Response[Any]:
        """A page that says one thing; a toast for the module, bare text for its updates."""
        if self.param("live"):
            return Response(text, status_code=status, media_type=MediaType.TEXT)
        if self.request.headers.get("datastar-request"):
            return DatastarResponse(
                ServerSentEventGenerator.patch_elements(
                    said("warn", text), selector="#toasts", mode=ElementPatchMode.APPEND
                )
            )
        body = div("#told")[empty(text, p[a(href=self.url())["To the overview"]])]
        return self.html(str(document(self.frame(title), [body])), status=status)

    def done(self, notice: str, back: str) -> Response[Any]:
        """The end of an action: a toast for the module, a page with a notice for all others."""
        self.reads.forget()
        if self.request.headers.get("datastar-request"):
            return DatastarResponse(
                ServerSentEventGenerator.patch_elements(
                    toast(notice), selector="#toasts", mode=ElementPatchMode.APPEND
                )
            )
        mark = "&" if "?" in back else "?"
        return self.go(f"{back}{mark}notice={notice}")


def _short(regions: Sequence[str]) -> Response[Any]:
    """Everything that may have changed of a page, at once."""
    return Response(
        "".join(map(ServerSentEventGenerator.patch_elements, regions)),
        media_type="text/event-stream; charset=utf-8",
        headers={"cache-control": "no-store"},
    )


def mount_point(request: Request[Any, Any, Any]) -> str:
    """The path the dashboard stands at, as the browser sees it."""
    scope = request.scope
    given = scope.get(PREFIX)
    if given is not None:
        return str(given)
    depth = 0
    for layer in request.route_handler.ownership_layers:
        depth += sum(1 for part in getattr(layer, "path", "").split("/") if part)
        if isinstance(layer, Router) and MARK in (layer.opt or {}):
            break
    root = (scope.get("root_path") or "").rstrip("/")
    path = scope["path"]
    if root and path.startswith(root + "/"):
        path = path[len(root) :]
    parts = [part for part in path.split("/") if part][:depth]
    return root + "".join(f"/{part}" for part in parts)
