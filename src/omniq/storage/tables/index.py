"""Ordered indexes over the tables that forget lazily."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush, merge
from itertools import chain, islice
from typing import Final, Generic, TypeVar

E = TypeVar("E", bound=tuple[object, ...])

_GONE: Final = 512
"""Stale entries at the head of the row that are kept until they are cut off together."""


class LazyHeap(Generic[E]):
    """Entries in order, some of which may be out of date: `lives` says which still count.

    Nothing is ever searched for and taken out, so a change of a row costs one entry at most.
    Stale entries go when they come first, and all at once when there are many. What is added
    is put in its place only when somebody looks: most comes in order and is appended to a
    sorted list, the rest goes into a heap beside it.
    """

    __slots__ = ("_at", "_heap", "_limit", "_lives", "_new", "_sorted")

    def __init__(self, lives: Callable[[E], bool]) -> None:
        self._lives = lives
        self._sorted: list[E] = []
        self._at = 0
        """Where it begins: what stands before is stale."""
        self._heap: list[E] = []
        self._new: list[E] = []
        self._limit = 1024

    def __len__(self) -> int:
        return len(self._sorted) - self._at + len(self._heap) + len(self._new)

    def add(self, entry: E) -> None:
        """Add an entry."""
        self._new.append(entry)
        if len(self._new) > self._limit:
            self._settle()

    def is_first(self, entry: E) -> bool:
        """Whether no entry comes before this one."""
        self._settle()
        heads = chain(self._heap[:1], self._sorted[self._at : self._at + 1])
        return all(head >= entry for head in heads)

    def walk(self, lives: Callable[[E], bool] | None = None) -> Iterator[E]:
        """Living entries in order, without taking them out.

        A stricter `lives` may be given if what it refuses can never live again.
        """
        lives = lives or self._lives
        self._settle()
        self._forget(lives)
        entries: Iterable[E] = islice(self._sorted, self._at, None)
        if self._heap:
            entries = merge(entries, _in_order(self._heap))
        last: E | None = None
        for entry in entries:
            if entry != last and lives(entry):
                last = entry
                yield entry

    def first(self) -> E | None:
        """The first living entry."""
        return next(self.walk(), None)

    def _forget(self, lives: Callable[[E], bool]) -> None:
        """Let go of what is stale and comes first."""
        heap, ordered = self._heap, self._sorted
        while heap and not lives(heap[0]):
            heappop(heap)
        at, end = self._at, len(ordered)
        while at < end and not lives(ordered[at]):
            at += 1
        if at > _GONE or at == end:
            del ordered[:at]
            at = 0
        self._at = at

    def _settle(self) -> None:
        new, ordered = self._new, self._sorted
        if not new:
            return
        new.sort()
        late = bisect_left(new, ordered[-1]) if ordered else 0
        if 8 * late < len(self._heap):
            for entry in new[:late]:
                heappush(self._heap, entry)
        elif late:
            self._heap += new[:late]
            heapify(self._heap)
        ordered += new[late:]
        new.clear()
        if len(self) > self._limit:
            entries = chain(islice(ordered, self._at, None), self._heap)
            # A dict keeps the order, so that there is little left to sort.
            self._sorted = sorted(dict.fromkeys(filter(self._lives, entries)))
            self._at, self._heap = 0, []
            self._limit = 1024 + 4 * len(self._sorted)


def _in_order(heap: list[E]) -> Iterator[E]:
    """The entries of a heap, without taking them out."""
    # The next smallest is always a child of one already given, so a second, small heap of
    # positions suffices.
    size = len(heap)
    front = [(heap[0], 0)]
    while front:
        entry, at = heappop(front)
        child = 2 * at + 1
        if child < size:
            heappush(front, (heap[child], child))
            child += 1
            if child < size:
                heappush(front, (heap[child], child))
        yield entry
