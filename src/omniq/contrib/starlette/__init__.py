"""Starlette: `Starlette(lifespan=omniq.lifespan)`, with `from omniq.contrib import starlette as omniq`.

FastAPI has its own room above this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from starlette.requests import HTTPConnection
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "starlette":
        raise
    raise ModuleNotFoundError(
        "omniq.contrib.starlette needs starlette: pip install 'omniq-tasks[starlette]'",
        name=error.name,
    ) from error

from omniq.contrib.starlette.extension import OmniQExtension
from omniq.contrib.starlette.lookup import MAIN, find_queue
from omniq.contrib.starlette.shared import (
    dashboard,
    default,
    init_app,
    lifespan,
    lifespan_context,
)
from omniq.core import AsyncOmniQ
from omniq.decorator import task

if TYPE_CHECKING:
    queue: AsyncOmniQ

__all__ = [
    "OmniQExtension",
    "dashboard",
    "get_queue",
    "init_app",
    "lifespan",
    "lifespan_context",
    "queue",
    "task",
]


def get_queue(conn: HTTPConnection, name: str = MAIN) -> AsyncOmniQ:
    """The queue of the app a request or a WebSocket came to.

    Mounted apps find the queue of the app around them. Raises NotStarted, which says what to
    write.
    """
    return find_queue(conn, name)


def __getattr__(name: str) -> Any:
    if name == "queue":
        return default().queue
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
