"""Live pages: one bounded stream per page, all driven by one ear on the queue."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from time import monotonic
from types import FrameType
from typing import Any

from datastar_py.sse import DatastarEvent, ServerSentEventGenerator
from htpy import Renderable

from omniq.dashboard.reads import FRESH, Watched
from omniq.errors import OmniQError

LIFE = 45.0
"""Seconds a stream lasts; the browser opens the next one. Servers that end only when their
last request has ended are thus never held up for longer."""
PACE = 0.34
"""Seconds between two updates at least."""
REST = 10
"""A page rests this many times as long as it took to draw: a viewer costs a tenth of
a core at most, however much happens."""
IDLE = 5.0
"""Seconds between two updates at most: ages and the minute move on by themselves."""
STREAMS = 100
"""Streams at once; more are asked to come back."""
REFUSE = 10.0
"""Seconds after a close in which no stream is opened."""
TOPICS = ("tasks", "events", "docs:worker", "docs:metric")
_log = logging.getLogger("omniq.dashboard")

Regions = Callable[[], Awaitable[Iterable[Renderable]]]
"""Renders a page's regions, always the same number in the same order, each with an id."""


class Hub:
    """Wakes every open stream when something changed, and ends them all when the app closes."""

    def __init__(self, queue: Callable[[], Watched]) -> None:
        self._queue = queue
        self.streams = 0
        self._changed: asyncio.Event | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed_at = -REFUSE

    @property
    def closing(self) -> bool:
        return monotonic() - self._closed_at < REFUSE

    @property
    def full(self) -> bool:
        return self.streams >= STREAMS or self.closing

    def close(self) -> None:
        """End all streams now; from any thread, also from a signal handler."""
        self._closed_at = monotonic()
        if self._loop is not None and not self._loop.is_closed():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = asyncio.Event()

    async def _watch(self) -> None:
        """Turn signals into wakes: at most one per PACE, one more when the caches are stale."""
        pause = IDLE
        while True:
            try:
                queue = self._queue()
                await queue.open()
                async with queue.listen(TOPICS) as ear:
                    while True:
                        heard = await ear.wait(pause)
                        self._wake()
                        pause = FRESH + 0.05 if heard else IDLE
                        await asyncio.sleep(PACE)
            except OmniQError as error:
                _log.warning("the dashboard hears nothing from its queue: %s", error)
                await asyncio.sleep(IDLE)

    async def stream(self, regions: Regions) -> AsyncIterator[DatastarEvent]:
        """What changed of a page, until LIFE has passed, the viewer left or the app closes."""
        self._enter()
        sent: dict[int, str] = {}
        until = monotonic() + LIFE
        try:
            while True:
                changed, began = self._changed, monotonic()
                for place, region in enumerate(await regions()):
                    html = str(region)
                    if sent.get(place) != html:
                        sent[place] = html
                        yield ServerSentEventGenerator.patch_elements(html)
                now = monotonic()
                rest = REST * (now - began)
                if changed is None or not await self._wait(changed, until - now, rest):
                    return
        except OmniQError as error:
            _log.warning("a live page ended: %s", error)  # the browser tries again, ever slower
        finally:
            self._leave()

    async def _wait(self, changed: asyncio.Event, left: float, rest: float) -> bool:
        """Until something changed and the page has rested; False: time is up, or the app closes."""
        now = monotonic()
        end, rested = now + left, now + rest
        while not self.closing and now < end and not (changed.is_set() and now >= rested):
            waker = self._changed if changed.is_set() else changed
            if waker is None:
                return False
            with suppress(TimeoutError):
                await asyncio.wait_for(waker.wait(), (rested if changed.is_set() else end) - now)
            now = monotonic()
        return not self.closing and now < end

    def _enter(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # a queue is used from one loop at a time
            self._loop, self._watcher, self.streams = loop, None, 0
            self._changed = asyncio.Event()
        self.streams += 1
        if self._watcher is None or self._watcher.done():
            self._watcher = loop.create_task(self._watch(), name="omniq-dashboard")
            chain_signals(self)

    def _leave(self) -> None:
        self.streams -= 1
        if self.streams <= 0 and self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None


_hubs: weakref.WeakSet[Hub] = weakref.WeakSet()


class _Chained:
    """A signal handler that ends streams and then does what the one before it did."""

    def __init__(self, before: Callable[[int, FrameType | None], Any]) -> None:
        self._before = before

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        close_streams()
        return self._before(number, frame)


def close_streams() -> None:
    """End the streams of every dashboard of this process; from any thread."""
    for hub in list(_hubs):
        hub.close()


def chain_signals(hub: Hub) -> None:
    """End the hub's streams on SIGTERM and SIGINT, before the host's own handler runs.

    Servers wait for open requests before they shut down, so without this an open dashboard
    holds them up. Handlers are chained, never replaced; where Python handles no signal (another
    thread, or the default action, which ends the process at once) nothing is done.
    """
    _hubs.add(hub)
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        before = signal.getsignal(number)
        if callable(before) and not isinstance(before, (_Chained, signal.Handlers)):
            with suppress(ValueError):
                signal.signal(number, _Chained(before))
