"""What the rooms of this adapter know of each other's plugin."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from litestar import Litestar
from litestar.config.app import AppConfig
from litestar.plugins import CLIPlugin, InitPlugin

from omniq.core import AsyncOmniQ

Lifespan = Callable[[Litestar], AbstractAsyncContextManager[None]]


class QueuePlugin(InitPlugin, CLIPlugin):
    """A plugin that brings a queue: how workers and commands find an app's queues."""

    key: str
    queue: AsyncOmniQ


class Innermost(InitPlugin):
    """Enters a lifespan after those of all plugins that the app lists, and leaves it first.

    Litestar leaves in reverse order: so what tasks use is still open while the worker drains,
    wherever the plugin stands in the app's list. It has to be added while plugins are asked.
    """

    def __init__(self, lifespan: Lifespan) -> None:
        self._lifespan = lifespan

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        app_config.lifespan.append(self._lifespan)
        return app_config
