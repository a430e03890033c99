"""FastAPI: `FastAPI(lifespan=omniq.lifespan)`, with `from omniq.contrib import fastapi as omniq`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from omniq.contrib.fastapi.depends import QueueDep, get_queue, queue_dependency
except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    if missing not in ("fastapi", "starlette"):
        raise
    raise ModuleNotFoundError(
        f"omniq.contrib.fastapi needs {missing}: pip install 'omniq-tasks[fastapi]'",
        name=error.name,
    ) from error

from omniq.contrib.fastapi.extension import OmniQExtension
from omniq.contrib.fastapi.shared import (
    dashboard,
    default,
    init_app,
    lifespan,
    lifespan_context,
)
from omniq.core import AsyncOmniQ
from omniq.decorator import task

if TYPE_CHECKING:
    from fastapi import APIRouter

    queue: AsyncOmniQ
    router: APIRouter

__all__ = [
    "OmniQExtension",
    "QueueDep",
    "dashboard",
    "get_queue",
    "init_app",
    "lifespan",
    "lifespan_context",
    "queue",
    "queue_dependency",
    "router",
    "task",
]


def __getattr__(name: str) -> Any:
    if name in ("queue", "router"):
        return getattr(default(), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
