"""SQLite and `fork`: at that moment no connection may be open or in use.

SQLite notes its locks per file in the memory of the process. A child inherits the notes while
the locks stay with the parent, so a connection it opens itself would trust locks nobody holds:
it may wait for ever, or write into a log that the parent removes. Hence every connection is
closed before a fork, and opened again at its next use.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Holder(Protocol):
    """Something with a connection, which it uses only while it holds `busy`."""

    busy: threading.RLock

    def let_go(self) -> None:
        """Close the connection; the next use opens it again."""


class _Holders:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: weakref.WeakSet[Holder] = weakref.WeakSet()
        self._stopped: list[Holder] = []

    def add(self, holder: Holder) -> None:
        with self._lock:
            self._known.add(holder)

    def stop(self) -> None:
        """Before a fork: wait until nobody uses SQLite, keep it so, and close everything."""
        self._lock.acquire()
        for holder in sorted(self._known, key=id):
            holder.busy.acquire()
            self._stopped.append(holder)
        for holder in self._stopped:
            holder.let_go()

    def go_on(self) -> None:
        """After it, in the parent."""
        stopped, self._stopped = self._stopped, []
        for holder in stopped:
            holder.busy.release()
        self._lock.release()

    def forget(self) -> None:
        """After it, in the child: those are the parent's."""
        self.__init__()  # type: ignore[misc]


_holders = _Holders()
hold = _holders.add

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_holders.stop,
        after_in_parent=_holders.go_on,
        after_in_child=_holders.forget,
    )
