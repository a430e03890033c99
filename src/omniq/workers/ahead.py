"""Claimed tasks that wait for a slot: what a lane would run out of while a trip is under way.

A worker that settles, claims and only then runs stands idle for as long as every trip takes.
Here it claims a little more than it has slots for: as many tasks as its lane ends while a trip
takes, at most once over its slots. Long tasks are never claimed ahead, since others could run
them; and whatever waits longer than `PATIENCE` goes back in line.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable

from omniq.workers.base import Lane
from omniq.workers.run import Run

PATIENCE = 0.1
"""Seconds a claimed task may wait for a slot before it is given back."""
_SLOW = 1000.0
"""Seconds a task is taken to last until some two hundred of its lane have shown otherwise."""
_SHARE = 1 / 16
"""What the newest value counts in a running mean."""


class Ahead:
    """The tasks that wait in one worker. `wanted` False: none ever does. `lease` is in seconds."""

    def __init__(self, lanes: Iterable[Lane], *, wanted: bool, lease: float = math.inf) -> None:
        self._wanted = wanted
        self._sure = lease / 2
        """How long a task can have waited and surely still be ours, if this process stood still."""
        self._waiting: dict[Lane, deque[tuple[float, Run]]] = {lane: deque() for lane in lanes}
        self._lasts = dict.fromkeys(self._waiting, _SLOW)
        self._trip = 0.0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def room(self, lane: Lane) -> int:
        """How many tasks may be claimed for a lane now."""
        if not self._wanted:
            return lane.free
        ends = int(lane.slots * min(self._trip / self._lasts[lane], 1.0))
        # Not more than all slots at once: half would be run, and half be under way, by turns.
        return min(max(lane.free + ends - len(self._waiting[lane]), 0), lane.slots)

    def travelled(self, seconds: float) -> None:
        """A trip took so long."""
        self._trip += (seconds - self._trip) * _SHARE

    def ran(self, lane: Lane, seconds: float) -> None:
        """A task of a lane took so long."""
        self._lasts[lane] += (seconds - self._lasts[lane]) * _SHARE

    def wait(self, lane: Lane, run: Run) -> None:
        """Keep a run until `lane` has a slot for it."""
        self._waiting[lane].append((time.monotonic(), run))

    def drop(self, lane: Lane, run: Run) -> bool:
        """Take out a run that shall not begin; whether it waited."""
        waiting = self._waiting[lane]
        kept = [each for each in waiting if each[1] is not run]
        found = len(kept) < len(waiting)
        if found:
            self._waiting[lane] = deque(kept)
        return found

    def next(self, lane: Lane) -> Run | None:
        """The run that has waited longest, if a slot is free for it."""
        waiting = self._waiting[lane]
        if not waiting:
            return None
        after = time.monotonic() - self._sure
        while waiting and lane.free and waiting[0][0] > after:
            _, run = waiting.popleft()
            if not run.settled:
                return run
        return None

    def until(self) -> float | None:
        """When the next one has waited too long, by `time.monotonic()`."""
        first = [waiting[0][0] for waiting in self._waiting.values() if waiting]
        return min(first) + min(PATIENCE, self._sure) if first else None

    def impatient(self, *, all: bool = False) -> list[Run]:
        """Take out what has waited too long, or everything."""
        gone: list[Run] = []
        before = time.monotonic() - min(PATIENCE, self._sure)
        for lane, waiting in self._waiting.items():
            if waiting and waiting[0][0] <= before:
                self._lasts[lane] = _SLOW
            while waiting and (all or waiting[0][0] <= before):
                gone.append(waiting.popleft()[1])
        return [run for run in gone if not run.settled]
