"""A small app that tests serve in processes of their own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from litestar import Litestar, post
from litestar.di import NamedDependency
from litestar.params import FromQuery

import omniq
from omniq import AsyncOmniQ, AsyncTaskHandle
from omniq.contrib.litestar import OmniQPlugin
from omniq.dashboard import live

live.LIFE = 3600.0  # a server that waited for its pages would do so for ever


@omniq.task("shop.pid")
def pid() -> list[int]:
    """Where tasks run, and how often that process has entered the app's lifespan."""
    return [os.getpid(), opened]


@omniq.task("shop.slow")
async def slow(seconds: float, mark: str) -> None:
    """Say that it has started, then that it has ended, as files."""
    Path(f"{mark}.started").touch()
    await asyncio.sleep(seconds)
    Path(f"{mark}.ended").touch()


opened = 0


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    global opened
    opened += 1
    yield
    Path(f"closed.{os.getpid()}").touch()


@post("/slow")
async def start(
    queue: NamedDependency[AsyncOmniQ], seconds: FromQuery[float], mark: FromQuery[str]
) -> AsyncTaskHandle[None]:
    return await queue.enqueue(slow, (seconds, mark))


def make(**options: Any) -> Litestar:
    return Litestar([start], plugins=[OmniQPlugin(**options)], lifespan=[lifespan])


app = make() if "SHOP_PLACEMENT" not in os.environ else None
if app is None:
    app = make(placement=os.environ["SHOP_PLACEMENT"])
memory_app = make(storage_type="memory")
