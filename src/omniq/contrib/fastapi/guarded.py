"""The dashboard behind FastAPI dependencies, which do not apply to what is mounted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request, Response, params
from starlette.types import Receive, Scope, Send

from omniq.contrib.starlette.mounting import Dashboard
from omniq.core import AsyncOmniQ

METHODS = ["GET", "HEAD", "POST"]


class GuardedDashboard(Dashboard):
    """Whoever passes the dependencies is let in; what they raise is answered as in any route."""

    def __init__(
        self, queue: AsyncOmniQ, dependencies: Sequence[params.Depends], overrides: Any
    ) -> None:
        super().__init__(queue, _named)
        self._router = APIRouter(
            dependencies=list(dependencies), dependency_overrides_provider=overrides
        )
        inside = super().__call__

        class Passed(Response):
            """The dashboard answers for itself."""

            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                await inside(scope, receive, send)

        async def pages() -> Response:
            return Passed()

        self._router.add_api_route("/{rest:path}", pages, methods=METHODS, include_in_schema=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._router({**scope}, receive, send)
        else:
            await super().__call__(scope, receive, send)


def _named(request: Request) -> str:
    """Whoever came this far; named as the app names its users, if it does."""
    user = request.scope.get("user")
    name = getattr(user, "display_name", None) or getattr(user, "username", None)
    return str(name or "visitor")[:100]
