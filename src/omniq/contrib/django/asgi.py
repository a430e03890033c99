"""An ASGI application with a lifespan, which Django's own has not.

In `asgi.py` of a project:

    from omniq.contrib.django.asgi import get_asgi_application

    application = get_asgi_application()
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from django.core.asgi import get_asgi_application as django_application

from omniq.contrib.django.conf import django_settings
from omniq.contrib.django.runtime import aclose, on_loop
from omniq.contrib.django.workers import serving

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]


def get_asgi_application() -> Application:
    """Django's application, and the embedded worker for as long as the server lives.

    A worker that cannot start keeps the server from starting. Open pages of the dashboard do
    not hold up its end.
    """
    django = django_application()

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await django(scope, receive, send)

    application.__wrapped__ = django  # type: ignore[attr-defined]  # `omniq worker` knows it so
    return application


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    try:
        if django_settings().embedded_worker:
            await on_loop(serving.start)
    except Exception as error:
        await send({"type": "lifespan.startup.failed", "message": f"OmniQ: {error}"})
        return
    _chain_signals()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    _close_streams()
    try:
        await on_loop(serving.stop)
        await aclose()
    except Exception as error:
        await send({"type": "lifespan.shutdown.failed", "message": f"OmniQ: {error}"})
        return
    await send({"type": "lifespan.shutdown.complete"})


def _close_streams() -> None:
    """End the dashboard's live pages, if it was ever looked at."""
    live = sys.modules.get("omniq.dashboard.live")
    if live is not None:
        live.close_streams()


class _Chained:
    """A signal handler that ends streams and then does what the one before it did.

    Servers wait for open requests before they send the end of the lifespan.
    """

    def __init__(self, before: Callable[[int, FrameType | None], Any]) -> None:
        self._before = before

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        _close_streams()
        return self._before(number, frame)


def _chain_signals() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        if callable(before) and not isinstance(before, _Chained | signal.Handlers):
            with suppress(ValueError):
                signal.signal(number, _Chained(before))
