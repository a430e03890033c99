"""A Django project as a worker process sees it: the queues of its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import Context
from typing import Any

from django.apps import apps

from omniq._portal import portal
from omniq.contrib.django.conf import overlaid
from omniq.contrib.django.runtime import native
from omniq.contrib.django.workers.homes import homes
from omniq.contrib.host import refuse_unshared
from omniq.contrib.role import acting_as
from omniq.core import AsyncOmniQ
from omniq.errors import ConfigError


class DjangoHost:
    """What `manage.py omniq_worker` and `omniq worker` need of a project that is set up.

    The worker lives where everything else of OmniQ does in this process, on the loop thread:
    so tasks use the queue that the worker has open, and none is opened twice. `app` is the
    project's ASGI or WSGI application, if it was found by that; `name` picks the queue of one
    backend in TASKS.
    """

    def __init__(self, app: object = None, name: str | None = None) -> None:
        if not apps.is_installed("omniq.contrib.django"):
            raise ConfigError(
                "this Django project has no queue: add 'omniq.contrib.django' to INSTALLED_APPS"
            )
        self.queues: list[AsyncOmniQ] = []
        for home in homes(name):
            with overlaid(home):
                self.queues.append(native())
        self._to_open = [each for each in self.queues if each._session is None]
        for queue in self._to_open:  # the others this very process fills, as a test does
            refuse_unshared(queue)

    def run(self, work: Callable[[], Coroutine[Any, Any, int]]) -> int:
        """Await `work()` on the loop thread, in a context without anything of the caller's."""
        return Context().run(portal.run, work)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the queues which this process has not opened already."""
        with acting_as("worker"):
            async with AsyncExitStack() as stack:
                for queue in self._to_open:
                    await stack.enter_async_context(queue)
                yield
