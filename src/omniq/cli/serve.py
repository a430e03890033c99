"""Serve an ASGI app with uvicorn in a loop of ours."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import click
import uvicorn

from omniq.cli import ui
from omniq.contrib.signals import StopSignals

_TAKEN = (errno.EADDRINUSE, errno.EACCES, errno.EPERM)
"""What is wrong with a port, and not with a host."""


class _Server(uvicorn.Server):
    """A server that leaves signals to `serving`."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen_on(host: str, port: int | None, *, default: int) -> socket.socket:
    """A bound socket. `port` None: the default one, or a free one if somebody has it."""
    wanted = default if port is None else port
    try:
        return _bound(host, wanted)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno not in _TAKEN:
            raise click.ClickException(
                f"cannot serve on {host!r}: {error.strerror or error}; choose another --host, "
                "such as 127.0.0.1"
            ) from error
        if port is None:
            return _bound(host, 0)
        raise click.ClickException(
            f"cannot serve on {host}:{wanted}: {error.strerror or error}; "
            "choose another --port, or 0 for a free one"
        ) from error


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def address_of(bound: socket.socket) -> str:
    """The URL people open to get to this socket."""
    host, port = bound.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


@asynccontextmanager
async def serving(
    app: Any, bound: socket.socket, *, stopping: Callable[[], None]
) -> AsyncIterator[StopSignals]:
    """Serve `app` inside this block; it has started when the block begins.

    `stopping` is called at the block's end: what it does should end endless responses.

    The first SIGINT or SIGTERM is `drain`, on which the block should end: then the app is
    shut down in order. The second one cuts that short.
    """
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="on", timeout_graceful_shutdown=5
    )
    server = _Server(config)
    with StopSignals() as stop:
        task = asyncio.create_task(server.serve(sockets=[bound]), name="omniq-serve")
        try:
            await _started(server, task)
            yield stop
        finally:
            stopping()
            server.should_exit = True
            force = asyncio.create_task(stop.force.wait())
            await asyncio.wait([task, force], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                # Tasks that run are taken over by the next worker, which sees that we are gone.
                ui.note("Leaving at once.")
                sys.stdout.flush()
                os._exit(128 + (stop.received or signal.SIGTERM))
            force.cancel()
            await task


async def _started(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    while not server.started:
        if task.done():
            await task
            raise click.ClickException("the app did not start; its error is above")
        await asyncio.sleep(0.01)
