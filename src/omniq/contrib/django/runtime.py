"""The queue of this process: one, opened at first use, on the one loop thread.

A tasks backend whose OPTIONS overlay the settings has one of its own, see `conf.overlaid`.
Django's threads, event loops and forked children come and go; what is open belongs to the loop
thread, and everybody asks there. After a fork the child opens its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from omniq._portal import portal
from omniq.config import load_config
from omniq.contrib.django.compat import package
from omniq.contrib.django.conf import (
    Overlay,
    django_settings,
    forget_settings,
    overlaid,
    overlay,
)
from omniq.contrib.django.workers.hygiene import clean
from omniq.core import AsyncOmniQ
from omniq.decorator import unset_default
from omniq.errors import SyncInAsync
from omniq.models.units import Move
from omniq.storage.base import BaseTaskQueue
from omniq.sync import OmniQ

if TYPE_CHECKING:
    from omniq.contrib.django.backends.endings import Endings

T = TypeVar("T")


class _Runtime:
    """What this process holds: a queue, and the place it was made for, by the settings' key."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.queues: dict[str, tuple[OmniQ, object]] = {}
        self.kept_in: Callable[[], BaseTaskQueue] | None = None


_now = _Runtime()


def blocking() -> OmniQ:
    """The queue for callers without an event loop. It is made here, and opens at first use."""
    key, place = django_settings().key, _place()
    queue, made_for = _now.queues.get(key, (None, None))
    if queue is not None and made_for == place:
        return queue
    with _now.lock:
        old, made_for = _now.queues.get(key, (None, None))
        if old is not None and made_for == place:
            return old
        over = overlay()
        queue = OmniQ._of(make(), lambda _: _made_under(over))
        _now.queues[key] = queue, place
    if old is not None:
        _close(old)
    return queue


def _made_under(over: Overlay) -> AsyncOmniQ:
    with overlaid(over):
        return make()


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


class _Native(AsyncOmniQ):
    """Functions that enqueue themselves do it by `queue` and `aqueue`, not here.

    What its workers settle is told to Django's tasks framework, if there is one.
    """

    _endings: Endings | None = None

    async def _open(self) -> None:
        await super()._open()
        unset_default(self)

    def settled(self, moves: list[Move]) -> None:
        super().settled(moves)
        if package() is not None:
            if self._endings is None:
                from omniq.contrib.django.backends.endings import Endings

                self._endings = Endings(self)
            self._endings.settled(moves)

    async def stop_worker(self, grace: float | None = None) -> None:
        await super().stop_worker(grace)
        if self._endings is not None:
            await self._endings.over()


def refuse_async(what: str, instead: str, hint: str = "") -> None:
    """Raise `SyncInAsync` where an event loop runs that `what` would block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise SyncInAsync(
        f"`{what}` would block the event loop that is running here: in async code write "
        f"`{instead}`{hint}"
    )


def make() -> AsyncOmniQ:
    """A queue as the settings say, unopened; it embeds no worker by itself."""
    settings = django_settings()
    if settings.database is None:
        kept_in = None if _now.kept_in is None else _now.kept_in()
        queue = _Native(settings.omniq, task_queue=kept_in)
    else:
        from omniq.contrib.django.database import native_storage

        config = load_config(settings.omniq)
        place = native_storage(settings.database, config.durability)
        queue = _Native(config, task_queue=place)
    queue.embedded = False
    queue.around.append(clean)
    if package() is not None:
        from omniq.contrib.django.backends.attempt import adopt

        adopt()  # or a worker that has loaded no task yet would not know one
    return queue


@contextmanager
def keeping_in(place: Callable[[], BaseTaskQueue]) -> Iterator[None]:
    """Inside, a store that settings name is replaced by what `place()` gives: for tests."""
    before, _now.kept_in = _now.kept_in, place
    reset()
    try:
        yield
    finally:
        _now.kept_in = before
        reset()


def reset() -> None:
    """Close the queue, if there is one, and read the settings anew at the next use."""
    queues = _take()
    forget_settings()
    for queue in queues:
        _close(queue)


async def aclose() -> None:
    """Close what is open; the next use opens it anew."""
    for queue in _take():
        if queue._generation == portal.generation and portal.running:
            portal.release(queue._async)
            await on_loop(queue._async.close)


def _take() -> list[OmniQ]:
    with _now.lock:
        queues, _now.queues = _now.queues, {}
    return [queue for queue, _ in queues.values()]


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
