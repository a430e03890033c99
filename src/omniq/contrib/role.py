"""What a process that enters a web app's lifespan is: a web server, or a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Role = Literal["web", "worker"]

_role: ContextVar[Role] = ContextVar("omniq_role", default="web")


def role() -> Role:
    """An adapter starts no embedded worker where this is "worker": the process is one."""
    return _role.get()


@contextmanager
def acting_as(wanted: Role) -> Iterator[None]:
    """Enter an app's lifespan inside this block, in the same task, to be seen as `wanted`."""
    token = _role.set(wanted)
    try:
        yield
    finally:
        _role.reset(token)
