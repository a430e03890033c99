"""The queue as a dependency of routes, and of tasks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import cache
from typing import Annotated, Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from omniq.contrib.fastapi.plan import QUEUE
from omniq.contrib.starlette.lookup import MAIN, find_queue
from omniq.core import AsyncOmniQ
from omniq.errors import ConfigError

QueueDependency = Callable[[HTTPConnection], Coroutine[Any, Any, AsyncOmniQ]]


async def get_queue(conn: HTTPConnection) -> AsyncOmniQ:
    """The app's queue, for `Depends(get_queue)` in routes, WebSockets and mounted apps.

    A task gets the queue of the app it runs in. Replace it in tests as any dependency:
    `app.dependency_overrides[get_queue] = lambda: other`.
    """
    return find_queue(conn)


setattr(get_queue, QUEUE, MAIN)

QueueDep = Annotated[AsyncOmniQ, Depends(get_queue)]
"""`async def route(queue: QueueDep)`."""


@cache
def queue_dependency(name: str) -> QueueDependency:
    """The same for a queue with a name: `Annotated[AsyncOmniQ, Depends(queue_dependency("x"))]`.

    One name always gives the same object, so that `dependency_overrides` find it.
    """
    if not str(name).isidentifier():
        raise ConfigError(
            f"queue_dependency({name!r}): the name of an OmniQExtension(name=...) is wanted, "
            "such as queue_dependency('emails')"
        )
    if name == MAIN:
        return get_queue

    async def get_named_queue(conn: HTTPConnection) -> AsyncOmniQ:
        return find_queue(conn, name)

    setattr(get_named_queue, QUEUE, name)
    return get_named_queue
