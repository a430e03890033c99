"""Tasks that the dashboard's tests run."""

from __future__ import annotations

import asyncio
from typing import Any

import omniq
from omniq import task


@task("shop:add")
async def add(x: int, y: int) -> int:
    return x + y


@task("shop:echo", queue="echoes")
async def echo(value: Any, **more: Any) -> Any:
    return value


@task("shop:fail", retries=0)
async def fail(text: str) -> None:
    raise ValueError(text)


@task("shop:hold", retries=0)
async def hold() -> str:
    """Tells its progress and then waits to be cancelled."""
    context = omniq.current()
    context.set_progress({"done": 3, "total": 10})
    await asyncio.sleep(600)
    return "never"
