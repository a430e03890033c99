"""What is no page: health, the browser's files, and everything that is not there."""

from __future__ import annotations

from typing import Any

from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.enums import MediaType
from litestar.params import FromPath

from omniq.dashboard.assets import ASSETS, VERSION
from omniq.dashboard.visit import Visit
from omniq.errors import OmniQError

FOREVER = "public, max-age=31536000, immutable"


class ServiceViews(Controller):
    @get("/health", name="omniq:health", opt={"omniq_open": True})
    async def health(self, visit: NamedDependency[Visit]) -> Response[Any]:
        """200 while the place where tasks are kept answers, else 503; no details for strangers."""
        try:
            workers = len(await visit.reads.workers())
        except OmniQError as error:
            told = {"status": "unavailable"}
            if visit.principal:
                told["error"] = type(error).__name__
            return _json(told, 503)
        answer: dict[str, Any] = {"status": "ok"}
        if visit.principal:
            answer.update(workers=workers, place=visit.queue.describe())
        return _json(answer, 200)

    @get(
        "/static/{version:str}/{name:str}",
        name="omniq:static",
        opt={"omniq_open": True, "exclude_from_auth": True},
    )
    async def static(self, version: FromPath[str], name: FromPath[str]) -> Response[Any]:
        """A file of the browser's side; kept for ever, since its path names its version."""
        if name not in ASSETS:
            return Response("not here", status_code=404, media_type=MediaType.TEXT)
        content, kind = ASSETS[name]
        cache = FOREVER if version == VERSION else "no-cache"
        return Response(content, media_type=kind, headers={"cache-control": cache})

    @get("/{rest:path}", name="omniq:missing")
    async def nowhere(self, visit: NamedDependency[Visit], rest: FromPath[str]) -> Response[Any]:
        return await visit.missing("Not found", "There is no such page.")


def _json(value: dict[str, Any], status: int) -> Response[Any]:
    return Response(
        value,
        status_code=status,
        media_type=MediaType.JSON,
        headers={"cache-control": "no-store"},
    )
