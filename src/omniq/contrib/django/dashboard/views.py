"""The dashboard as Django views: who may come in, and the way through the bridge."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.shortcuts import render
from django.views.decorators.http import require_safe

from omniq.contrib.django.dashboard.access import login_url, visitor
from omniq.contrib.django.dashboard.bridge import can_stream, keep_policy, mount_point, pass_on
from omniq.contrib.django.runtime import native
from omniq.errors import OmniQError

if TYPE_CHECKING:
    from omniq.core import AsyncOmniQ
    from omniq.dashboard import DashboardApp

MAX_BODY = 1_000_000
_log = logging.getLogger("omniq.dashboard")
_served: tuple[AsyncOmniQ, DashboardApp] | None = None


def dashboard(request: HttpRequest, rest: str = "", **parents: Any) -> HttpResponseBase:
    """Every page of the dashboard. A plain view: under ASGI Django gives it a thread."""
    prefix = mount_point(request, rest)
    who = visitor(request)
    if isinstance(who, HttpResponseBase):
        return who
    if who is None and rest != "health":
        return _closed(request, prefix)
    if request.content_type == "multipart/form-data":
        return _plain("nothing here takes files", 415)
    if request.method not in ("GET", "HEAD") and len(request.body) > MAX_BODY:
        return _plain("this is more than any form here sends", 413)
    try:
        app = dashboard_app()
    except (OmniQError, ImproperlyConfigured) as error:
        _log.warning("the dashboard has no queue: %s", error)
        if who is None:
            return _plain("unavailable", 503)
        return _told(request, prefix, "There is no dashboard here", str(error), 503)
    if not app.desk.config.dashboard.enabled:
        raise Http404("the dashboard is off: OMNIQ['DASHBOARD_ENABLED']")

    from omniq.dashboard.live import chain_signals
    from omniq.dashboard.mount import FIELDS, PREFIX, PRINCIPAL, SHORT

    fields = (("csrfmiddlewaretoken", get_token(request)),) if who else ()
    said = {PREFIX: prefix, PRINCIPAL: who, FIELDS: fields, SHORT: not can_stream(request)}
    return pass_on(request, app, rest, begun=lambda: chain_signals(app.desk.hub), **said)


@require_safe
def asset(request: HttpRequest, version: str, name: str, **parents: Any) -> HttpResponseBase:
    """A file of the browser's side. It asks for no session, so that caches may keep it."""
    from omniq.dashboard.assets import ASSETS, VERSION
    from omniq.dashboard.pages.service import FOREVER
    from omniq.dashboard.security import security_headers

    if name not in ASSETS:
        raise Http404(f"the dashboard has no file {name}")
    content, kind = ASSETS[name]
    cache = FOREVER if version == VERSION else "no-cache"
    headers = {"Cache-Control": cache, **security_headers(None)}
    return keep_policy(HttpResponse(content, content_type=kind, headers=headers))


def dashboard_app() -> DashboardApp:
    """The dashboard over this process's queue as it is now; made when it is first wanted."""
    global _served
    queue = native()
    if _served is None or _served[0] is not queue:
        from msgspec.structs import replace

        from omniq.dashboard import DashboardApp
        from omniq.dashboard.mount import PRINCIPAL
        from omniq.dashboard.token import derive

        # Form tokens of all processes and machines agree as Django's own do.
        token = derive(settings.SECRET_KEY, "django")
        config = replace(queue.config, dashboard=replace(queue.config.dashboard, token=token))

        def admit(asked: Any) -> Any:
            return asked.scope.get(PRINCIPAL)

        app = DashboardApp(queue, config=config, auth=admit)
        _served = queue, app
    return _served[1]


def _closed(request: HttpRequest, prefix: str) -> HttpResponseBase:
    """The answer to somebody who may not come in."""
    page = request.method in ("GET", "HEAD") and not (
        "live" in request.GET or "datastar-request" in request.headers
    )
    if not page:
        return _plain("sign in first", 401)
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return redirect_to_login(request.get_full_path(), login_url())
    return _told(
        request,
        prefix,
        "Not for you",
        f"You are signed in as {user.get_username()}, who may not look at tasks.",
        403,
        hint="Staff may who have the permission “Can view task”; superusers always may.",
        login=redirect_to_login(request.get_full_path(), login_url()).url,
    )


def _told(
    request: HttpRequest, prefix: str, title: str, text: str, status: int, **more: str
) -> HttpResponseBase:
    """A page that says one thing."""
    from omniq.dashboard.assets import VERSION
    from omniq.dashboard.security import security_headers

    said = {"title": title, "text": text, "assets": f"{prefix}/static/{VERSION}", **more}
    response = render(request, "omniq/told.html", said, status=status)
    for name, value in security_headers(None).items():
        response.headers[name] = value
    response.headers["Cache-Control"] = "no-store"
    return keep_policy(response)


def _plain(text: str, status: int) -> HttpResponse:
    return HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
