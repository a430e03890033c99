"""What adapters of other frameworks ask of the dashboard, in plain values."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any, cast

from litestar import Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Scope

from omniq.dashboard.app import DashboardApp, DashboardRouter
from omniq.dashboard.auth import Principal
from omniq.dashboard.mount import inner_scope
from omniq.dashboard.security import same_origin

SAFE = ("GET", "HEAD", "OPTIONS")


class Answered(Response[bytes]):
    """A response that a host's own `auth` made, as the dashboard sends it.

    Bytes and headers stay as they are: repeated headers too, nothing is encoded again.
    """

    def __init__(self, body: bytes, status: int, headers: Sequence[tuple[str, str]]) -> None:
        super().__init__(body, status_code=status)
        self._raw = list(headers)

    def to_asgi_response(self, *args: Any, **kwargs: Any) -> ASGIResponse:
        head = bool(kwargs.get("is_head_response"))
        return ASGIResponse(
            body=b"" if head else self.content,
            headers=self._raw,
            is_head_response=head,
            status_code=self.status_code,
        )


async def admitted(
    app: DashboardApp | DashboardRouter, scope: MutableMapping[str, Any]
) -> Principal | int:
    """Who asks at another place of the host than the dashboard, or the status to refuse with.

    Besides what opens the dashboard, its token is taken as `Authorization: Bearer ...`. What
    changes something must not come from a page of another site.
    """
    request: Request[Any, Any, Any] = Request(inner_scope(cast("Scope", scope), ""))
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    gate = app.desk.gate
    if kind.lower() == "bearer" and gate.token_is(token):
        return Principal("token")
    found = await gate.admit(request)
    if isinstance(found, Response):
        status = found.status_code or 200
        return status if status >= 400 else 401
    if found is None:
        return 401
    if request.method not in SAFE and not same_origin(request):
        return 403
    return found
