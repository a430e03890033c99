"""The dashboard served alone."""

from __future__ import annotations

from collections.abc import Callable

import uvicorn

from omniq.dashboard.app import DashboardApp
from omniq.dashboard.auth import Auth
from omniq.dashboard.reads import Watched
from omniq.dashboard.security import LOOPBACK, is_loopback
from omniq.models import OmniQConfig


async def serve(
    queue: Watched,
    config: OmniQConfig | None = None,
    *,
    auth: Auth = None,
    tell: Callable[[str], None] | None = None,
) -> None:
    """Serve the dashboard of `queue` until the process is asked to stop.

    `tell` is given the address to open, token included. On a loopback address requests
    must be addressed to a loopback name: no other site can reach it through a name of its own.
    """
    settings = config or queue.config
    host, port = settings.dashboard.host, settings.dashboard.port
    hosts = (*LOOPBACK, host) if is_loopback(host) else ()
    app = DashboardApp(queue, config=settings, auth=auth, allowed_hosts=hosts)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            lifespan="off",
            timeout_graceful_shutdown=5,
        )
    )
    if tell is not None:
        shown = f"[{host}]" if ":" in host else host
        tell(f"http://{shown}:{port}{app.login_path()}")
    await server.serve()
