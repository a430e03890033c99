"""The queue of this process: one, opened at first use, on the one loop thread.

Django's threads, event loops and forked children come and go; what is open belongs to the loop
thread, and everybody asks there. After a fork the child opens its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from omniq._portal import portal
from omniq.contrib.django.conf import django_settings, forget_settings
from omniq.contrib.django.hygiene import clean
from omniq.core import AsyncOmniQ
from omniq.sync import OmniQ

T = TypeVar("T")


class _Runtime:
    """What this process holds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.queue: OmniQ | None = None
        self.place: object = None


_now = _Runtime()


def blocking() -> OmniQ:
    """The queue for callers without an event loop. It is made here, and opens at first use."""
    place = _place()
    if _now.queue is not None and place == _now.place:
        return _now.queue
    with _now.lock:
        old = None
        if _now.queue is None or place != _now.place:
            old, _now.queue = _now.queue, OmniQ._of(make(), lambda _: make())
            _now.place = place
        queue = _now.queue
    if old is not None:
        _close(old)
    return queue


def native() -> AsyncOmniQ:
    """Its async side, to be used on the loop thread alone: see `on_loop`."""
    queue = blocking()
    queue._keep()
    return queue._async


async def on_loop(function: Callable[..., Coroutine[Any, Any, T]], *args: Any, **named: Any) -> T:
    """Await `function(*args)` on the loop thread, from whatever event loop runs here."""
    if portal.is_here():
        return await function(*args, **named)
    return await asyncio.wrap_future(portal.submit(function, *args, **named))


def make() -> AsyncOmniQ:
    """A queue as the settings say, unopened; it embeds no worker by itself."""
    settings = django_settings()
    if settings.database is None:
        queue = AsyncOmniQ(settings.omniq)
    else:
        from omniq.contrib.django.database import native_storage

        queue = AsyncOmniQ(settings.omniq, task_queue=native_storage(settings.database))
    queue.embedded = False
    queue.around.append(clean)
    return queue


def reset() -> None:
    """Close the queue, if there is one, and read the settings anew at the next use."""
    with _now.lock:
        queue, _now.queue, _now.place = _now.queue, None, None
    forget_settings()
    if queue is not None:
        _close(queue)


def _place() -> object:
    """What must not change under an open queue: test runners rename databases."""
    alias = django_settings().database
    if alias is None:
        return None
    from django.db import connections

    return connections.settings[alias]["NAME"]


def _close(queue: OmniQ) -> None:
    if queue._generation != portal.generation or not portal.running:
        return  # the parent's, or never opened
    closing = portal.submit(queue._async.close)
    portal.release(queue._async)
    if not portal.is_here():
        closing.result()


def _forget_lock() -> None:
    _now.lock = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_forget_lock)
