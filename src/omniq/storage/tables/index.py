"""Ordered indexes over the tables that forget lazily."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

E = TypeVar("E", bound=tuple[object, ...])


class LazyHeap(Generic[E]):
    """A heap whose entries may be out of date: `lives` says which still count.

    Nothing is ever searched for and taken out, so a change of a row costs one entry at most.
    Stale entries go when they come to the top, and all at once when there are many. What is
    added is put in its place only when somebody looks.
    """

    __slots__ = ("_entries", "_limit", "_lives", "_new")

    def __init__(self, lives: Callable[[E], bool]) -> None:
        self._lives = lives
        self._entries: list[E] = []
        self._new: list[E] = []
        self._limit = 1024

    def __len__(self) -> int:
        return len(self._entries) + len(self._new)

    def add(self, entry: E) -> None:
        """Add an entry."""
        self._new.append(entry)
        if len(self._new) > self._limit:
            self._settle()

    def is_first(self, entry: E) -> bool:
        """Whether no entry comes before this one."""
        self._settle()
        return self._entries[0] >= entry

    def walk(self, lives: Callable[[E], bool] | None = None) -> Iterator[E]:
        """Living entries in order, without taking them out.

        A stricter `lives` may be given if what it refuses can never live again.
        """
        lives = lives or self._lives
        self._settle()
        entries = self._entries
        while entries and not lives(entries[0]):
            heappop(entries)
        if not entries:
            return
        # The next smallest is always a child of one already given, so a second, small heap
        # of positions suffices.
        size = len(entries)
        front = [(entries[0], 0)]
        last: E | None = None
        while front:
            entry, at = heappop(front)
            child = 2 * at + 1
            if child < size:
                heappush(front, (entries[child], child))
                child += 1
                if child < size:
                    heappush(front, (entries[child], child))
            if entry != last and (at == 0 or lives(entry)):
                last = entry
                yield entry

    def first(self) -> E | None:
        """The first living entry."""
        return next(self.walk(), None)

    def _settle(self) -> None:
        entries, new = self._entries, self._new
        if not new:
            return
        if 8 * len(new) < len(entries):
            for entry in new:
                heappush(entries, entry)
        else:
            entries += new
            heapify(entries)
        new.clear()
        if len(entries) > self._limit:
            entries[:] = {entry for entry in entries if self._lives(entry)}
            heapify(entries)
            self._limit = 1024 + 4 * len(entries)
