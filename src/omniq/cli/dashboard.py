"""`omniq dashboard`: the dashboard alone, as a small web server."""

from __future__ import annotations

import asyncio
import socket

from omniq.cli import ui
from omniq.cli.load import default_host, load
from omniq.cli.serve import address_of, listen_on, serving
from omniq.contrib.host import missing
from omniq.core import AsyncOmniQ
from omniq.dashboard import DashboardApp
from omniq.dashboard.security import LOOPBACK, is_loopback


def serve(target: str | None, *, host: str | None, port: int | None, name: str | None) -> None:
    """Serve until stopped. It looks at the queue and acts on it, and runs no task."""
    queue = (load(target, name) if target else default_host()).queues[0]
    queue.embedded = False
    settings = queue.config.dashboard
    bound = listen_on(host or settings.host, port, default=settings.port)
    for place, setting in missing(queue).items():  # it may well be started before the app is
        ui.warn(f"no queue is kept at {place} yet, so an empty one is made: is {setting} right?")
    asyncio.run(_serve(queue, bound))


async def _serve(queue: AsyncOmniQ, bound: socket.socket) -> None:
    host = bound.getsockname()[0]
    # On a loopback address, answer only to its own names: no web site can then reach the
    # dashboard through a name that it points here.
    hosts = (*LOOPBACK, host) if is_loopback(host) else ()
    dashboard = DashboardApp(queue, allowed_hosts=hosts)
    async with queue, serving(dashboard, bound, stopping=dashboard.close_streams) as stop:
        ui.say(f"{ui.strong('Dashboard')}  {ui.link(address_of(bound) + dashboard.login_path())}")
        ui.say(f"{ui.strong('Queue')}      {queue.describe()}")
        await stop.drain.wait()
