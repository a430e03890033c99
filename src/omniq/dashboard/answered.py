"""A response that a host's own `auth` made, as the dashboard sends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar import Response
from litestar.response.base import ASGIResponse


class Answered(Response[bytes]):
    """Bytes and headers as they are: repeated headers stay, nothing is encoded again."""

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
