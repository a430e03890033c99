"""Waking: at once within the process, by a look at `data_version` across processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path

from omniq.errors import OmniQError
from omniq.storage.hub import Hub, HubEar
from omniq.storage.sqlite.fork import hold

FAST, SLOW = 0.003, 0.005
"""Seconds between two looks: while others write, and while they do not.

A look costs some 20 microseconds with its timer: half a percent of a processor for a start
within 5 ms on an idle worker.
"""
BUSY = 0.012
"""The same while this process writes: then a look costs a question to the writing connection, and
whoever claims sees at every trip what others wrote."""


class Post:
    """The ears of one database in this process, whatever the number of storages on it."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.commits = 0
        """Transactions of this process, by which to tell them from those of others."""

    def signal(self, topics: set[str]) -> None:
        """Say what was committed. From any thread."""
        self.commits += 1
        self.hub.signal(topics)


_posts: dict[Path, Post] = {}
_lock = threading.Lock()


def post_of(path: Path) -> Post:
    """The one post of a database in this process."""
    with _lock:
        return _posts.setdefault(path, Post())


def _forget() -> None:
    global _lock  # the one inherited may be held by a thread that is gone
    _lock = threading.Lock()
    _posts.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class Watch:
    """Notices commits of other processes, as long as somebody waits.

    The look (`PRAGMA data_version` on a connection of its own) costs a few microseconds and
    is done in the loop itself. It cannot tell our own commits from others'; where there were
    some, the writing connection, to which its own are no news, is asked.
    """

    def __init__(self, path: Path, post: Post, others_wrote: Callable[[], Awaitable[bool]]) -> None:
        self._post = post
        self._others_wrote = others_wrote
        self._path = path
        self._closed = False
        self.busy = threading.RLock()
        self._connect()
        hold(self)
        self._seen = self._look()
        self._commits = post.commits
        self._waiting = 0
        self._pause = FAST
        self._timer: asyncio.TimerHandle | None = None
        self._question: asyncio.Task[None] | None = None

    def enter(self) -> None:
        """Somebody begins to wait."""
        self._waiting += 1
        if self._timer is None and not self._closed:
            self._again(asyncio.get_running_loop(), 0)

    def leave(self) -> None:
        """Somebody waits no more."""
        self._waiting -= 1
        if not self._waiting:
            self._stop()

    def close(self) -> None:
        """Stop looking."""
        self._stop()
        if self._question is not None:
            self._question.cancel()
        with self.busy:
            self._closed = True
            self._finalizer()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self, loop: asyncio.AbstractEventLoop, pause: float) -> None:
        self._timer = loop.call_later(pause, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        version, commits = self._look(), self._post.commits
        own, self._commits = commits != self._commits, commits
        changed, self._seen = version != self._seen, version
        if changed and own:
            self._pause = BUSY
        else:
            self._pause = FAST if changed else min(self._pause * 1.2, SLOW)
        if changed and not own:
            self._post.hub.alert()
        elif changed and (self._question is None or self._question.done()):
            self._question = loop.create_task(self._ask())
        self._again(loop, self._pause)

    async def _ask(self) -> None:
        with contextlib.suppress(OmniQError):  # who waits will meet the trouble itself
            if await self._others_wrote():
                self._pause = FAST
                self._post.hub.alert()

    def _look(self) -> int:
        with self.busy:
            try:
                if not self._finalizer.alive and not self._closed:
                    self._connect()
                return int(self._connection.execute("PRAGMA data_version").fetchone()[0])
            except sqlite3.Error:  # busy or broken: let who waits look for itself
                return -1

    def _connect(self) -> None:
        self._connection = sqlite3.connect(
            self._path, timeout=0, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        self._finalizer = weakref.finalize(self, self._connection.close)
        # At exit it would close the connection under the feet of a loop in another thread.
        self._finalizer.atexit = False

    def let_go(self) -> None:
        """A fork comes: the next look is made by a new connection, to which all is news."""
        self._seen = -1
        self._finalizer()


class WatchingEar(HubEar):
    """An ear of the hub that has the watch look for other processes while it waits."""

    def __init__(self, post: Post, watch: Watch) -> None:
        super().__init__(post.hub)
        self._watch = watch

    async def wait(self, timeout: float | None = None) -> set[str]:
        self._watch.enter()
        try:
            return await super().wait(timeout)
        finally:
            self._watch.leave()
