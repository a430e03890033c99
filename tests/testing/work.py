"""Functions that tests enqueue."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import omniq
from omniq import Retry, Snooze

tries: list[str] = []
who: ContextVar[str] = ContextVar("who", default="nobody")
local = threading.local()


@omniq.task("work.add")
def add(x: int, y: int = 1) -> int:
    return x + y


@omniq.task("work.double")
async def double(x: int) -> int:
    return 2 * x


class Broken(Exception):
    """What tasks raise here."""


async def breaks(text: str = "no") -> None:
    raise Broken(text)


def breaks_plainly() -> None:
    raise Broken("plainly")


async def third_time(name: str) -> int:
    """Fails twice."""
    tries.append(name)
    if tries.count(name) < 3:
        raise Broken(f"try {tries.count(name)}")
    return tries.count(name)


async def asks_again(name: str) -> str:
    tries.append(name)
    if tries.count(name) < 2:
        raise Retry(delay=3600)
    return "done"


async def snoozes() -> None:
    raise Snooze(60)


async def marks(name: str) -> None:
    tries.append(name)


def marks_plainly(name: str) -> None:
    tries.append(name)


def thread() -> int:
    return threading.get_ident()


def sees() -> tuple[str, str]:
    """What a plain function sees of its caller."""
    seen = who.get(), getattr(local, "value", "nothing")
    who.set("the task")
    return seen


async def attempt() -> int:
    return omniq.current().attempt


async def progresses() -> None:
    omniq.current().set_progress({"done": 1, "total": 2})


async def outer() -> list[int]:
    """Enqueues on the queue opened last, and waits."""
    inner = await double.enqueue(1)
    return [await inner.result(), await (await double.enqueue(await inner.result())).result()]
