"""Ordered indexes over the tables that forget lazily."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

E = TypeVar("E", bound=tuple[object, ...])


class LazyHeap(Generic[E]):
    """A heap whose entries may be out of date: `lives` says which still count.

    Nothing is ever searched for and taken out, so a change of a row costs one push at most.
    Stale entries go when they come to the top, and all at once when they outnumber the rest.
    """

    __slots__ = ("_entries", "_limit", "_lives")

    def __init__(self, lives: Callable[[E], bool]) -> None:
        self._lives = lives
        self._entries: list[E] = []
        self._limit = 64

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, entry: E) -> bool:
        """Add an entry; whether it is now the first one."""
        entries = self._entries
        heappush(entries, entry)
        if len(entries) > self._limit:
            entries[:] = {e for e in entries if self._lives(e)}
            heapify(entries)
            self._limit = 64 + 2 * len(entries)
        return entries[0] is entry

    def walk(self, lives: Callable[[E], bool] | None = None) -> Iterator[E]:
        """Living entries in order, without taking them out.

        A stricter `lives` may be given if what it refuses can never live again.
        """
        lives = lives or self._lives
        entries = self._entries
        while entries and not lives(entries[0]):
            heappop(entries)
        if not entries:
            return
        # The next smallest is always a child of one already given, so a second, small heap
        # of positions suffices.
        front = [(entries[0], 0)]
        last: E | None = None
        while front:
            entry, at = heappop(front)
            for child in (2 * at + 1, 2 * at + 2):
                if child < len(entries):
                    heappush(front, (entries[child], child))
            if entry != last and (at == 0 or lives(entry)):
                last = entry
                yield entry

    def first(self) -> E | None:
        """The first living entry."""
        return next(self.walk(), None)
