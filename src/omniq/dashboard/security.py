"""What every answer carries and every request must show."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from litestar import Request
from litestar.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def content_policy(bundle: str | None) -> str:
    """The Content-Security-Policy of every page.

    The official Datastar bundle builds functions from attributes, so a page that uses it must
    allow 'unsafe-eval'; OmniQ's own module needs nothing but 'self'.
    """
    scripts = "'self'"
    if bundle:
        parts = urlsplit(bundle)
        origin = f" {parts.scheme}://{parts.netloc}" if parts.netloc else ""
        scripts = f"'self'{origin} 'unsafe-eval'"
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def security_headers(bundle: str | None) -> dict[str, str]:
    return {
        "content-security-policy": content_policy(bundle),
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "x-frame-options": "DENY",
        "cross-origin-opener-policy": "same-origin",
    }


class Guarded:
    """Litestar middleware: sets the headers on every answer, errors included."""

    def __init__(self, app: ASGIApp, headers: Callable[[], dict[str, str]]) -> None:
        self._app, self._headers = app, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = {name.encode(): value.encode() for name, value in self._headers().items()}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(k, v) for k, v in message["headers"] if k.lower() not in ours]
                message["headers"] = [*kept, *ours.items()]
            await send(message)

        await self._app(scope, receive, sending)


def same_origin(request: Request[Any, Any, Any]) -> bool:
    """Whether this request was made by a page of ours, as far as the browser says.

    Browsers set `Sec-Fetch-Site` themselves; older ones send `Origin`. A client that sends
    neither is no browser, so nobody's cookies are abused; the form token is asked for anyway.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host", "")


def host_allowed(header: str, allowed: Collection[str]) -> bool:
    """Whether the Host header names one of `allowed`, whatever the port (DNS rebinding)."""
    name = re.sub(r":\d+\Z", "", header.strip().lower())
    return name in allowed


def is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
