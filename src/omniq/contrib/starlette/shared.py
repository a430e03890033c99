"""The extension of an app that configures none: made when it is first needed."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any

from starlette.applications import Starlette

from omniq.contrib.starlette.extension import OmniQExtension
from omniq.contrib.starlette.mounting import Auth, Dashboard


@cache
def default() -> OmniQExtension:
    """The one of this process, with the settings of the environment."""
    return OmniQExtension()


def lifespan(app: Starlette) -> AbstractAsyncContextManager[dict[str, Any]]:
    """`Starlette(lifespan=omniq.lifespan)`: the queue runs with the app."""
    return default().lifespan(app)


def lifespan_context(app: Starlette) -> AbstractAsyncContextManager[dict[str, Any]]:
    """Inside a lifespan of one's own: `async with omniq.lifespan_context(app):`."""
    return default().lifespan(app)


def init_app(app: Starlette) -> None:
    """Run with an app that is made already."""
    default().init_app(app)


def dashboard(auth: Auth = None) -> Dashboard:
    """The dashboard as an ASGI app: `app.mount("/ops", omniq.dashboard())`."""
    return default().dashboard(auth)
