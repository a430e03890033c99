"""Tasks of Django's framework."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from omniq import Retry
from omniq.contrib.django.backends.framework import TaskContext, task

SEEN: list[Any] = []
HANGING, LET_GO = threading.Event(), threading.Event()


@task
def add(a: int, b: int) -> int:
    return a + b


@task
async def add_async(a: int, b: int) -> int:
    await asyncio.sleep(0)
    return a + b


@task(retries=0)
def boom(message: str) -> None:
    raise ValueError(message)


@task(retries=2, retry_delay=0)
def third_time(reached: int) -> int:
    SEEN.append(reached)
    if len(SEEN) < 3:
        raise LookupError(f"attempt {len(SEEN)}")
    return len(SEEN)


@task(retries=2, retry_delay=0)
async def third_time_async(reached: int) -> int:
    return third_time.func(reached)


@task(takes_context=True)
def whoami(context: TaskContext, *extra: Any) -> list[Any]:
    return [context.task_result.id, context.attempt, context.task_result.status, *extra]


@task(takes_context=True)
async def whoami_async(context: TaskContext) -> list[Any]:
    return [context.task_result.id, context.attempt]


@task
def give_a_function() -> Any:
    return lambda: None


@task
def give_bytes() -> Any:
    return {"data": (b"abc", 1)}


@task(retries=0)
def leave() -> None:
    raise SystemExit(3)


@task(retries=0)
def interrupt() -> None:
    raise KeyboardInterrupt


@task(
    retries=5,
    retry_delay=0.5,
    retry_on=(LookupError,),
    never_retry=KeyError,
    timeout=30,
    ttl=60,
    result_ttl=3600,
    tags=["a", "b"],
    worker="async",
    unique="only-one",
    metadata={"tenant": "x"},
)
def everything() -> str:
    return "ran"


@task(timeout=0.2, retries=0)
async def sleeps(seconds: float) -> None:
    await asyncio.sleep(seconds)


@task(timeout=600, retries=0)
async def hangs() -> None:
    HANGING.set()
    await asyncio.Event().wait()


@task(timeout=600, retries=0)
def hangs_in_a_thread() -> None:
    HANGING.set()
    LET_GO.wait(100)


@task
def again() -> None:
    raise Retry(delay=3600)


def no_task() -> None:
    """A plain function."""


renamed = task(no_task)
