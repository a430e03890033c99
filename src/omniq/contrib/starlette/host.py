"""A Starlette or FastAPI app as a worker process sees it: its queues, its lifespan around them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from types import FunctionType, MethodType, ModuleType
from typing import Any

from starlette.applications import Starlette

from omniq.contrib.host import refuse_unshared
from omniq.contrib.role import acting_as
from omniq.contrib.starlette.extension import OmniQExtension
from omniq.contrib.starlette.lookup import MAIN, Named, started_in
from omniq.core import AsyncOmniQ
from omniq.errors import ConfigError, did_you_mean

ROOMS = ("omniq.contrib.fastapi", "omniq.contrib.starlette")
"""The modules an app may have its extension from, the one that says more first."""


class StarletteHost:
    """What `omniq worker` needs of an app. `name` picks one of several queues."""

    def __init__(self, app: Starlette, name: str | None = None) -> None:
        self.app, self._name = app, name
        self._queues = self._picked(_known(app))

    @property
    def queues(self) -> Sequence[AsyncOmniQ]:
        """The app's queues: once it runs, those it has really started."""
        return self._queues

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Enter the app's lifespan once, so that what its tasks use exists.

        Enter and leave in one task: what an app opens may refuse to be closed in another.
        """
        with acting_as("worker"):
            async with self.app.router.lifespan_context(self.app):
                started = list(dict.fromkeys(started_in(self.app)))
                if not started:
                    raise ConfigError(
                        "this app runs, but has started no queue: write lifespan=omniq.lifespan "
                        "where it is made, or omniq.init_app(app), or `async with "
                        "omniq.lifespan_context(app):` in its lifespan"
                    )
                self._queues = self._picked(started)
                yield

    def _picked(self, found: Sequence[Named]) -> list[AsyncOmniQ]:
        names = [each.name for each in found]
        if self._name is not None and self._name not in names:
            raise ConfigError(
                f"this app has no queue named {self._name!r}{did_you_mean(self._name, names)} "
                f"(there is {', '.join(names)})"
            )
        queues = [each.queue for each in found if self._name in (None, each.name)]
        for queue in queues:
            refuse_unshared(queue)
        return list(dict.fromkeys(queues))


def _known(app: Starlette) -> Sequence[OmniQExtension]:
    """The app's extensions before it runs.

    One that its lifespan hides too well cannot be seen from outside: then it is all that were
    made, and if none was, the one of the module-level functions.
    """
    made = list(dict.fromkeys(_used_by(app.router.lifespan_context)))
    made = made or list(OmniQExtension.alive)
    if not made:
        made = [_default(next(each for each in ROOMS if each in sys.modules))]
    return sorted(made, key=lambda each: each.name != MAIN)


def _used_by(code: Any, depth: int = 12) -> Iterator[OmniQExtension]:
    """The extensions a lifespan speaks of: its own object, what it wraps, names it uses."""
    if isinstance(code, OmniQExtension):
        yield code
    elif isinstance(code, MethodType):
        yield from _used_by(code.__self__, depth)
    elif isinstance(code, ModuleType):
        if code.__name__ in ROOMS:
            yield _default(code.__name__)
    elif isinstance(code, FunctionType) and depth:
        if _ours(code):
            yield _default(code.__module__.removesuffix(".shared"))
            return
        for name in code.__code__.co_names:
            named = code.__globals__.get(name)
            if isinstance(named, OmniQExtension | ModuleType) or _ours(named):
                yield from _used_by(named, 1)
        for each in (getattr(code, "__wrapped__", None), *_cells(code)):
            yield from _used_by(each, depth - 1)


def _ours(code: Any) -> bool:
    """Whether it is one of the module-level functions."""
    return isinstance(code, FunctionType) and code.__module__.removesuffix(".shared") in ROOMS


def _cells(code: FunctionType) -> Iterator[Any]:
    for cell in code.__closure__ or ():
        with suppress(ValueError):  # not assigned
            yield cell.cell_contents


def _default(room: str) -> OmniQExtension:
    made: OmniQExtension = import_module(room).default()
    return made
