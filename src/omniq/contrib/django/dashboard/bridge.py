"""An ASGI app behind a Django view: request to scope, run on the loop thread, and back.

Django's own middleware (sessions, CSRF, CSP, gzip ...) thus holds for it as for any view. Every
answer is read whole, but a stream under ASGI: that one is passed on piece by piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import quote

from asgiref.typing import ASGIReceiveEvent, ASGISendEvent
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from omniq._portal import portal
from omniq.contrib.django.runtime import on_loop

App = Callable[[Any, Any, Any], Any]

_NOT_OURS = frozenset(
    ("connection", "content-length", "date", "keep-alive", "server", "transfer-encoding")
)
"""Headers of an answer that are the server's to say."""


class Exchange:
    """One request to an ASGI app. Every coroutine of it runs on the loop thread."""

    def __init__(self, app: App, scope: Mapping[str, Any], body: bytes) -> None:
        self._app, self._scope, self._body = app, scope, body
        self._asked = False
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.content = b""
        """The whole answer, unless it streams."""

    async def begin(self, may_stream: bool) -> bool:
        """Run the app until its answer is whole, or known to be a stream (True)."""
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._begun, self._over = asyncio.Event(), asyncio.Event()
        self._run = asyncio.create_task(self._serve(), name="omniq-dashboard-request")
        self._run.add_done_callback(self._ended)
        try:
            await self._begun.wait()
            if not self.status:
                await self._run  # raises what went wrong
                raise RuntimeError("the app gave no answer")
            if may_stream and self._streams():
                return True
            pieces = []
            while (piece := await self.read()) is not None:
                pieces.append(piece)
            self.content = b"".join(pieces)
            return False
        except BaseException:
            await self.close()
            raise

    async def read(self) -> bytes | None:
        """The next piece; None at the end."""
        if self._pieces.empty() and self._run.done():
            return None
        return await self._pieces.get()

    async def close(self) -> None:
        """Nobody reads on: the app is told, and ended."""
        self._over.set()
        self._run.cancel()
        await asyncio.gather(self._run, return_exceptions=True)

    def _streams(self) -> bool:
        found = dict(self.headers)
        return found.get("content-type", "").startswith("text/event-stream") and (
            "content-length" not in found
        )

    async def _serve(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    def _ended(self, run: asyncio.Task[None]) -> None:
        self._begun.set()
        if not self._pieces.full():
            self._pieces.put_nowait(None)
        if not run.cancelled():
            run.exception()  # told by `begin`; of a stream that broke only its end is seen

    async def _receive(self) -> ASGIReceiveEvent:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self._over.wait()  # frameworks listen for this beside their own answer
        return {"type": "http.disconnect"}

    async def _send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = [
                (name.decode("latin-1").lower(), value.decode("latin-1"))
                for name, value in message["headers"]
            ]
            self._begun.set()
        elif message["type"] == "http.response.body":
            if message["body"]:
                await self._pieces.put(message["body"])
            if not message.get("more_body"):
                self._over.set()


class _Pieces:
    """A stream's pieces for the event loop of an ASGI server."""

    def __init__(self, exchange: Exchange, begun: Callable[[], None]) -> None:
        self._exchange, self._begun = exchange, begun
        self._closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._read()

    async def _read(self) -> AsyncIterator[bytes]:
        self._begun()
        try:
            while (piece := await on_loop(self._exchange.read)) is not None:
                yield piece
        finally:
            self.close()

    def close(self) -> None:
        """Called by Django when the response is done with, however it ended. Does not wait."""
        if not self._closed:
            self._closed = True
            portal.submit(self._exchange.close)


def pass_on(
    request: HttpRequest,
    app: App,
    rest: str,
    *,
    begun: Callable[[], None] = lambda: None,
    **said: Any,
) -> HttpResponseBase:
    """What `app` answers at `rest`. `said` are further keys of its scope.

    Called in a thread without an event loop. `begun` is called in the server's event loop when
    a stream begins.
    """
    exchange = Exchange(app, scope_of(request, rest) | said, _body(request))
    if portal.run(exchange.begin, can_stream(request)):
        response: HttpResponseBase = StreamingHttpResponse(_Pieces(exchange, begun))
        response.headers["Content-Encoding"] = "identity"  # gzip would hold events back
    else:
        response = HttpResponse(b"" if request.method == "HEAD" else exchange.content)
    response.status_code = exchange.status
    del response.headers["Content-Type"]
    for name, value in exchange.headers:
        if name == "set-cookie":
            response.cookies.load(value)
        elif name not in _NOT_OURS:
            response.headers[name.title()] = value
    return keep_policy(response)


def can_stream(request: HttpRequest) -> bool:
    """Whether an answer may go on: under WSGI it would hold a thread, or the whole process."""
    return isinstance(request, ASGIRequest) and request.method == "GET"


def keep_policy(response: HttpResponseBase) -> HttpResponseBase:
    """Our own content policy stands alone: Django's would be a second, looser one."""
    response._csp_config = {}  # type: ignore[attr-defined]
    response._csp_ro_config = {}  # type: ignore[attr-defined]
    return response


def mount_point(request: HttpRequest, rest: str) -> str:
    """The path the app's own paths begin behind, as the browser sees it.

    It is the part of the path in front of what the URL pattern left over, so prefixes of a
    proxy, of nested `include`s and of languages are all in it.
    """
    before = request.path_info.removesuffix(rest) if rest else request.path_info
    script: str = request.META.get("SCRIPT_NAME") or ""
    return quote(script.rstrip("/") + before.rstrip("/"), safe="/:@!$&'()*+,;=~-._")


def scope_of(request: HttpRequest, rest: str) -> dict[str, Any]:
    """The request as an ASGI app below this view sees it."""
    headers = [
        (name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in request.headers.items()
        if name.lower() not in ("host", "transfer-encoding")
    ]
    # What Django believes, which may be what a trusted proxy says.
    headers.append((b"host", request.get_host().encode("latin-1", "replace")))
    path = f"/{rest}"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET" if request.method == "HEAD" else request.method,
        "scheme": request.scheme,
        "path": path,
        "raw_path": path.encode(errors="replace"),
        "query_string": request.META.get("QUERY_STRING", "").encode("latin-1", "replace"),
        "root_path": "",
        "headers": headers,
        "client": (request.META.get("REMOTE_ADDR", ""), 0),
        "server": (request.META.get("SERVER_NAME", ""), None),
        "state": {},
    }


def _body(request: HttpRequest) -> bytes:
    return request.body if request.method in ("POST", "PUT", "PATCH") else b""
