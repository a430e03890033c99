"""Forgetting many tasks in few trips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from omniq._portal import portal
from omniq.clock import SYSTEM_CLOCK
from omniq.contrib.django.conf import django_settings
from omniq.contrib.django.runtime import native
from omniq.models.row import TaskRow
from omniq.models.units import Applied, Move, Receipt, Unit
from omniq.queue.batcher import batches

SWEEP = 1000


class Place(Protocol):
    """Where the tasks are kept, without waiting."""

    def apply(self, units: Sequence[Unit]) -> Receipt: ...
    def sweep(self, limit: int) -> int: ...


def forget(rows: Iterable[TaskRow]) -> int:
    """Take these ended tasks away; gives how many it were.

    One that somebody has replayed meanwhile stays.
    """
    place, done, now = _place(), 0, SYSTEM_CLOCK.now()
    moves = (Move(id=row.id, expect=(row.status,), patch={"keep_until": now}) for row in rows)
    for batch in batches(moves):
        done += place.apply(batch).outcome.count(Applied.APPLIED)
    while place.sweep(SWEEP) >= SWEEP:
        pass
    return done


def _place() -> Place:
    if django_settings().database is None:
        return _Native()
    from omniq.contrib.django.database import within

    return within().place


class _Native:
    """The places of the native queue."""

    def __init__(self) -> None:
        self._queue = native()
        portal.run(self._queue.open)

    def apply(self, units: Sequence[Unit]) -> Receipt:
        return portal.run(self._queue.stores.apply, units)

    def sweep(self, limit: int) -> int:
        return portal.run(self._queue.stores.sweep, limit)
