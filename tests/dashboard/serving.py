"""Serves a dashboard as its own process: `python -m tests.dashboard.serving KIND DIR`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from litestar import Litestar

from omniq.dashboard import DashboardApp, dashboard_router, live
from tests.dashboard.kit import a_queue


def app_of(kind: str, base_dir: Path) -> Any:
    queue = a_queue(base_dir)
    if kind == "alone":
        return DashboardApp(queue)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with queue:
            yield
        (base_dir / "closed").touch()

    return Litestar([dashboard_router(lambda: queue)], lifespan=[lifespan], logging_config=None)


if __name__ == "__main__":
    _, kind, base_dir = sys.argv
    live.LIFE = 3600.0  # a server that waited for its pages would do so for ever
    uvicorn.run(app_of(kind, Path(base_dir)), port=0, log_level="info")
