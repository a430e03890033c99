"""The embedded worker: a process that serves requests works on tasks too, if settings ask for it.

It starts with the first request. That is the one moment which every server has in common, and
which never comes to the parent of an autoreloader, to the master of a prefork server or to a
management command. It drains when the process ends; signals are left to the server.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from concurrent.futures import Future
from math import inf
from time import monotonic

from django.core.exceptions import ImproperlyConfigured

from omniq._portal import portal
from omniq._threads import gevent_patched
from omniq.contrib.announce import complain
from omniq.contrib.django.conf import django_settings, overlaid, under_test
from omniq.contrib.django.runtime import blocking, native
from omniq.contrib.django.workers.homes import homes
from omniq.errors import OmniQError
from omniq.sync import OmniQ

AGAIN = 30.0
"""Seconds after which a request tries once more what failed before."""
UNDER_GEVENT = (
    "EMBEDDED_WORKER has no effect in this process: gevent has turned its threads into greenlets, "
    "so tasks would run on the event loop itself, where Django refuses its database. "
    "Run `manage.py omniq_worker` beside the server."
)

_log = logging.getLogger("omniq.django")


class _Embedded:
    """The one of this process."""

    def __init__(self) -> None:
        self.next_try = 0.0
        self.queues: list[OmniQ] = []
        """Those whose worker was started."""


_now = _Embedded()
_hooked = False


def on_request(*, sender: object, **_: object) -> None:
    """Start the worker in the background, once. Receives `request_started`."""
    if monotonic() < _now.next_try:
        return
    _now.next_try = monotonic() + AGAIN
    try:
        if not django_settings().embedded_worker or not _serves(sender):
            return
        if gevent_patched():
            _now.next_try = inf
            complain(_log, UNDER_GEVENT)
        elif blocking() not in _now.queues:
            portal.submit(start).add_done_callback(_tell)
    except (ImproperlyConfigured, OmniQError) as error:
        complain(_log, f"the embedded worker cannot start: {error}")


def _serves(handler: object) -> bool:
    """Whether a server asks: not a test's client, nor the live server of a test."""
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler

    return (
        not under_test()
        and isinstance(handler, type)
        and issubclass(handler, WSGIHandler | ASGIHandler)
    )


async def start() -> None:
    """Start a worker for every queue that settings describe; for the loop thread.

    The end of the process will drain them.
    """
    _drain_at_exit()
    for home in homes():
        with overlaid(home):
            queue = blocking()
            worker = await native().start_worker()
        _now.queues.append(queue)
        _log.info("this process works on %s: %s", queue._async.describe(), worker.describe())


async def stop(grace: float | None = None) -> None:
    """Drain them within `grace` seconds (None: as configured); for the loop thread."""
    queues, _now.queues = _now.queues, []
    await asyncio.gather(*(queue._async.stop_worker(grace) for queue in queues))


def _tell(started: Future[None]) -> None:
    if not started.cancelled() and (error := started.exception()) is not None:
        complain(
            _log,
            "the embedded worker did not start; a request in "
            f"{AGAIN:.0f} s or later tries again: {error}",
            error,
        )


def _drain() -> None:
    if not _now.queues or not portal.running:
        return
    # The reloader's parent waits a quarter of a second only before it kills.
    grace = 0.0 if os.environ.get("RUN_MAIN") == "true" else None
    try:
        portal.run(stop, grace)
    except Exception:
        _log.warning("the embedded worker did not drain", exc_info=True)


def _drain_at_exit() -> None:
    """Before threads can no longer be started and executors take no calls: tasks need both.

    `atexit` is too late for that; it is for a Python without the hook that the standard
    library's executors use.
    """
    global _hooked
    if not _hooked:
        _hooked = True
        getattr(threading, "_register_atexit", atexit.register)(_drain)


os.register_at_fork(after_in_child=_now.__init__)  # type: ignore[misc]
