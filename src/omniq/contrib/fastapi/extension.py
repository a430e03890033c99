"""Starlette's extension with what FastAPI adds: dependencies in tasks, and a REST router."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from fastapi import APIRouter, params

from omniq.contrib.fastapi.guarded import GuardedDashboard
from omniq.contrib.fastapi.inject import Injector
from omniq.contrib.fastapi.rest import closed_by, opened, rest_router
from omniq.contrib.starlette import extension as starlette
from omniq.contrib.starlette.lookup import started_in
from omniq.contrib.starlette.mounting import Auth, Dashboard
from omniq.core import AsyncOmniQ
from omniq.errors import NotStarted, did_you_mean


class OmniQExtension(starlette.OmniQExtension):
    __doc__ = starlette.OmniQExtension.__doc__

    def _prepare(self) -> None:
        self._injector = Injector(_Outside(self))
        around = self.queue.around  # of a queue made elsewhere, perhaps for an app that is gone
        around[:] = [each for each in around if not isinstance(each, Injector)]
        around.append(self._injector)

    def _check(self) -> None:
        self._injector.check_known()

    @cached_property
    def router(self) -> APIRouter:
        """REST routes over the queue, which they start with the app: `app.include_router(...)`.

        At `/omniq/api`, closed as the dashboard is; its token is taken as a bearer's.
        """
        return self.make_router()

    def make_router(
        self, *, prefix: str | None = None, dependencies: Sequence[params.Depends] = ()
    ) -> APIRouter:
        """The same at another path, or let in by dependencies of the app's own instead:
        `omniq.make_router(dependencies=[Depends(admin)])`."""

        def read_only() -> bool:
            return self.queue.config.dashboard.read_only

        return rest_router(
            opened(read_only) if dependencies else closed_by(self._own, read_only),
            name=self.name,
            lifespan=self.lifespan,
            prefix=f"{self.dashboard_path}/api" if prefix is None else prefix,
            dependencies=dependencies,
        )

    def dashboard(
        self, auth: Auth = None, *, dependencies: Sequence[params.Depends] = ()
    ) -> Dashboard:
        """The dashboard as an ASGI app: `app.mount("/ops", omniq.dashboard())`.

        `auth` as for the extension, whose own is the default; or `dependencies` of the app's
        own, which raise where somebody must not come in. After this call the extension mounts
        none itself, unless it was made with dashboard=True.
        """
        if not dependencies:
            return super().dashboard(auth)
        made = GuardedDashboard(self.queue, dependencies, _Outside(self))
        self._handed_out.append(made)
        return made


class _Outside:
    """What the extension's apps know, as its tasks ask for it."""

    def __init__(self, extension: OmniQExtension) -> None:
        self._extension = extension

    @property
    def overrides(self) -> Mapping[Any, Any]:
        found: dict[Any, Any] = {}
        for app in self._extension._apps:
            found |= getattr(app, "dependency_overrides", {})
        return found

    dependency_overrides = overrides

    def queue(self, name: str) -> AsyncOmniQ:
        if name == self._extension.name:
            return self._extension.queue
        here = {each.name: each for app in self._extension._apps for each in started_in(app)}
        if name not in here:
            raise NotStarted(
                f"the app of this task has started no queue named {name!r}"
                f"{did_you_mean(name, here)}"
            )
        return here[name].queue

    def home(self) -> asyncio.AbstractEventLoop | None:
        return self._extension._loop if self._extension._apps else None
