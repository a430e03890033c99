"""The only place that knows aiosqlite: one connection on a thread of its own.

A call is one function that runs whole in that thread: one hop, whatever it does in there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from omniq._exit import end_connections_at_exit
from omniq.errors import OmniQError, StorageClosed, StorageError, StorageUnavailable
from omniq.storage.sqlite.fork import hold

T = TypeVar("T")

BUSY_TIMEOUT = 30.0
"""Seconds a writer waits for its turn."""


class Connection:
    """A sqlite3 connection and its thread. It may be used from any loop of its process."""

    def __init__(
        self,
        path: Path,
        prepare: Callable[[sqlite3.Connection], None],
        release: Callable[[], None] | None = None,
    ) -> None:
        self._path = path
        self._prepare = prepare
        self._release = release or _nothing
        self._link: _Link | None = None
        self._pid = 0

    async def open(self) -> None:
        """Start the thread, connect, and prepare the connection there."""
        link = _Link(self._connect, self._release)
        self._pid = os.getpid()
        try:
            await link
        except sqlite3.Error as error:
            raise explain(error, self._path) from error
        self._link = link
        _open.add(link)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run `function(connection, *args)` in the thread; sqlite3's errors become ours.

        It runs to its end even if the caller is cancelled meanwhile.
        """
        link = self._link
        if link is None:
            raise StorageClosed(f"the storage at {self._path} is not open")
        if self._pid != os.getpid():
            raise StorageError(
                f"the storage at {self._path} was opened before this process was forked, and "
                "SQLite connections must not cross a fork: open a twin() of it here"
            )
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        path = self._path

        def job() -> None:
            try:
                with link.busy:
                    value = function(link.raw, *args)
            except sqlite3.Error as error:
                _tell(loop, answer.set_exception, answer, explain(error, path))
            except BaseException as error:
                _tell(loop, answer.set_exception, answer, error)
            else:
                _tell(loop, answer.set_result, answer, value)

        link.submit(job)
        return await answer

    async def close(self) -> None:
        """Finish what was asked, close, and let the thread end. Again: no effect."""
        link, self._link = self._link, None
        if link is None or self._pid != os.getpid():
            return
        _open.discard(link)
        loop = asyncio.get_running_loop()
        closed: asyncio.Future[None] = loop.create_future()
        link.end(lambda: _tell(loop, closed.set_result, closed, None))
        await closed

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=BUSY_TIMEOUT,
            isolation_level=None,  # transactions are begun by us, never behind our back
            cached_statements=512,
            check_same_thread=False,
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection


class _Link(aiosqlite.Connection):
    """aiosqlite's thread and queue, fit for programs that end without `close()`."""

    def __init__(
        self, connector: Callable[[], sqlite3.Connection], release: Callable[[], None]
    ) -> None:
        super().__init__(self._connect_first, 64)
        self._connect_again = connector
        self._release = release
        self._raw: sqlite3.Connection | None = None
        # aiosqlite's thread would keep a program alive that never closes its queue.
        self._thread.daemon = True
        self._pid = os.getpid()
        self.busy = threading.RLock()
        hold(self)

    @property
    def raw(self) -> sqlite3.Connection:
        """The connection, made again if a fork has closed it. To be used within `busy`."""
        if self._raw is None:
            self._raw = self._connect_again()
        return self._raw

    def let_go(self) -> None:
        """Close the connection, but not the thread."""
        raw, self._raw = self._raw, None
        with contextlib.suppress(sqlite3.Error):
            self._release()
            if raw is not None:
                raw.close()

    def _connect_first(self) -> sqlite3.Connection:
        with self.busy:
            return self.raw

    def submit(self, job: Callable[[], None]) -> None:
        # Past `_execute`: that answers through a loop which may be closed by then, and the
        # thread would end with a traceback on stderr. A job of ours answers for itself.
        self._tx.put_nowait((None, job))

    def end(self, then: Callable[[], None]) -> None:
        """Close in the thread, behind everything submitted before, and stop it."""
        self._connection, self._running = None, False

        def close() -> object:
            with self.busy:
                self.let_go()
            then()
            return aiosqlite.core._STOP_RUNNING_SENTINEL

        self._tx.put_nowait((None, close))

    def stop(self) -> None:
        # aiosqlite calls it when connecting failed; its own would answer to the loop.
        self.end(_nothing)

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def __del__(self) -> None:
        # aiosqlite's own would warn and touch the loop; a queue nobody holds just closes.
        if self._connection is not None and self._pid == os.getpid():
            self.end(_nothing)


_open: weakref.WeakSet[_Link] = weakref.WeakSet()


@end_connections_at_exit
def _close_all() -> None:
    """A program may end without `close()`: what it left open is closed in order."""
    links = [link for link in _open if link._pid == os.getpid()]
    for link in links:
        link.end(_nothing)
    for link in links:
        link.join(5)


def _nothing() -> None:
    pass


def _tell(
    loop: asyncio.AbstractEventLoop,
    answer: Callable[[Any], None],
    future: asyncio.Future[Any],
    value: Any,
) -> None:
    def settle() -> None:
        if not future.done():  # its caller may have been cancelled
            answer(value)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(settle)


_LATER = {
    "SQLITE_BUSY": "another process has been writing for longer than 30 s",
    "SQLITE_LOCKED": "another connection holds a lock",
    "SQLITE_FULL": "the disk is full; make room, nothing acknowledged is lost",
    "SQLITE_IOERR": "reading or writing the disk failed",
    "SQLITE_CANTOPEN": "the file cannot be opened",
    "SQLITE_PROTOCOL": "too many processes opened it at once",
}
_NEVER = {
    "SQLITE_READONLY": "the file or its directory is read-only",
    "SQLITE_CORRUPT": "the database is damaged; restore it from a copy",
    "SQLITE_NOTADB": "the file is not an SQLite database",
    "SQLITE_PERM": "the file's permissions forbid it",
    "SQLITE_TOOBIG": "a value is larger than SQLite takes",
}


def explain(error: sqlite3.Error, path: Path) -> OmniQError:
    """An error of ours that says what, why and whether to try again."""
    name = getattr(error, "sqlite_errorname", "")
    for reasons, kind in ((_LATER, StorageUnavailable), (_NEVER, StorageError)):
        for start, reason in reasons.items():
            if name.startswith(start):
                return kind(f"SQLite at {path}: {reason} ({error})")
    return StorageError(f"SQLite at {path}: {error}")
