"""The dashboard under a path of any ASGI host."""

from __future__ import annotations

from typing import Any, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

PREFIX = "omniq.prefix"
"""The path the dashboard stands at, as the browser sees it. The keys of a scope, set by a host
that knows better than the dashboard could find out:"""
PRINCIPAL = "omniq.principal"
"""Who asks, if the host has already decided that."""
FIELDS = "omniq.fields"
"""What every form must carry for the host's own checks: pairs of name and value."""
SHORT = "omniq.short"
"""The host cannot hold an answer open: pages ask again instead."""
_HOST_KEYS = ("path_params", "endpoint", "router", "route", "route_handler", "litestar_app")


def mounted(app: ASGIApp, prefix: str = "") -> ASGIApp:
    """`app`, which answers at "/", as an ASGI app that a host mounts at `prefix`.

    Hosts differ in what they leave in `path` and `root_path`; this takes every variant known
    of Starlette, FastAPI, Litestar and Django, so that links are right in all of them. It
    answers no lifespan: hosts send none to what is mounted.
    """
    prefix = f"/{prefix.strip('/')}" if prefix.strip("/") else ""

    async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP:
            await app(inner_scope(scope, prefix), receive, send)

    return asgi


def inner_scope(scope: Scope, prefix: str) -> Scope:
    """A copy of `scope` as the dashboard's own app should see it."""
    inner = cast("dict[str, Any]", dict(scope))
    inner["state"] = dict(scope.get("state") or {})  # Litestar writes into scopes it is given
    for key in _HOST_KEYS:
        inner.pop(key, None)
    root = (scope.get("root_path") or "").rstrip("/")
    path = _below(root, scope["path"])
    if prefix and not root.endswith(prefix):  # Litestar's mount leaves root_path alone
        root += prefix
        if path == prefix or path.startswith(prefix + "/"):
            path = path[len(prefix) :]
    inner.update(root_path="", path=path or "/", raw_path=(path or "/").encode())
    inner[PREFIX] = root
    return cast("Scope", inner)


def _below(root: str, path: str) -> str:
    """`path` without `root`, or without the end of `root` a proxy left in it."""
    parts = root.split("/")
    for start in range(len(parts) - 1):
        end = "/" + "/".join(parts[start + 1 :])
        if path == end or path.startswith(end + "/"):
            return path[len(end) :]
    return path
