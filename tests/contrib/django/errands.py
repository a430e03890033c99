"""Tasks of every temper, for the worker command."""

from __future__ import annotations

import random
from typing import Any

from omniq import task
from omniq.contrib.django import queue
from omniq.contrib.django.backends import framework


def add(a: int, b: int) -> int:
    return a + b


async def add_async(a: int, b: int) -> int:
    return a + b


@task(retries=0)
def fail() -> None:
    raise ValueError("this one never works")


@task(retries=0)
def leave() -> None:
    raise SystemExit(3)


@task(retries=0)
def interrupt() -> None:
    raise KeyboardInterrupt


@task(retries=0)
async def interrupt_async() -> None:
    raise KeyboardInterrupt


@task(retries=0)
def unsendable() -> Any:
    return (n for n in range(3))


@task(retries=0)
def nested() -> None:
    raise ValueError(ValueError("in another"), random.Random())


def spread(n: int) -> None:
    """Enqueues half as many of itself, again and again."""
    for _ in range(2):
        if n > 1:
            queue.enqueue(spread, (n // 2,))


@framework.task
def double(n: int) -> int:
    return n * 2


@framework.task(takes_context=True)
def attempt(context: Any) -> int:
    number: int = context.attempt
    return number


@framework.task
def not_json() -> Any:
    return {1, 2, 3}
