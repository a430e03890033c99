"""A Litestar app as a worker process sees it: its queues, and its lifespan around them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from omniq.contrib.host import refuse_unshared
from omniq.contrib.litestar.base import QueuePlugin
from omniq.contrib.role import acting_as
from omniq.errors import ConfigError, OmniQError, did_you_mean

if TYPE_CHECKING:
    from litestar import Litestar


class LitestarHost:
    """What `litestar workers` and `omniq worker` need of an app.

    `name` picks one of several plugins by its key.
    """

    def __init__(self, app: Litestar, name: str | None = None) -> None:
        plugins = [each for each in app.plugins if isinstance(each, QueuePlugin)]
        if not plugins:
            raise ConfigError(
                "this Litestar app has no queue: add OmniQPlugin() to its plugins "
                "(from omniq.contrib.litestar import OmniQPlugin)"
            )
        keys = [each.key for each in plugins]
        if name is not None and name not in keys:
            raise ConfigError(
                f"no OmniQPlugin of this app has the key {name!r}{did_you_mean(name, keys)}"
            )
        self.app = app
        self.queues = [each.queue for each in plugins if name in (None, each.key)]
        for queue in self.queues:
            refuse_unshared(queue)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Enter the app's lifespan once, so that what its tasks use exists.

        Enter and leave in one task: what an app opens may refuse to be closed in another.
        """
        with acting_as("worker"):
            async with AsyncExitStack() as stack:
                try:
                    await stack.enter_async_context(self.app.lifespan())
                except BaseExceptionGroup as group:  # Litestar's event emitter wraps what failed
                    ours, others = group.split(OmniQError)
                    if ours is None or others is not None or len(ours.exceptions) > 1:
                        raise
                    raise ours.exceptions[0] from None
                yield
