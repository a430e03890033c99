"""Ends that no attempt saw: timeouts, cancels, expiry, workers that died.

An attempt tells Django itself how it ended. Whoever settles a task otherwise comes here, so that
each task that ends is told of by `task_finished`, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation

from omniq.contrib.django.backends.framework import (
    TaskResultDoesNotExist,
    task_backends,
    task_finished,
)
from omniq.contrib.django.backends.result import Reading, mark_of, opened, task_at
from omniq.contrib.django.workers.hygiene import clean
from omniq.core import AsyncOmniQ
from omniq.errors import OmniQError, TaskCancelled, TaskExpired, TaskFailed
from omniq.models.row import TaskRow
from omniq.models.status import Status
from omniq.models.units import Move
from omniq.queue import policy
from omniq.queue.engine import Engine, Loaded

_UNSEEN = (Status.FAILED, Status.CANCELLED, Status.EXPIRED)
_MANY = 10_000

_told: dict[tuple[str, int], None] = {}
"""Failures an attempt has told of, until they are settled; the oldest of too many are dropped."""


def note(row: TaskRow) -> None:
    """An attempt tells of this failure itself."""
    _told[row.id, row.epoch] = None
    if len(_told) > _MANY:
        _told.pop(next(iter(_told)), None)


def unseen(moves: Iterable[Move]) -> list[str]:
    """The ids of tasks that these have ended, and nobody has told of."""
    return [
        move.id
        for move in moves
        if move.to in _UNSEEN
        and move.fence is not None
        and _told.pop((move.id, move.fence.epoch), _MANY) is _MANY
    ]


def tell(row: TaskRow, engine: Engine) -> None:
    """Send `task_finished` for an ended row, if it is a task of Django's."""
    body = engine.body(row)
    try:
        task = task_at(row.name, trusted=False)
        if task is None:
            return
        alias = mark_of(body.metadata).get("backend", task.backend)
        result = opened(Reading(row, None, engine), alias)
        sender = type(task_backends[alias])
    except (SuspiciousOperation, ImproperlyConfigured, TaskResultDoesNotExist, OmniQError):
        return  # none of Django's, or of a backend this process does not have
    try:
        raise _error(row)
    except OmniQError:  # the framework logs what is being handled
        task_finished.send_robust(sender, task_result=result)


def _error(row: TaskRow) -> OmniQError:
    if row.status is Status.CANCELLED:
        return TaskCancelled("somebody cancelled it", task_id=row.id)
    if row.status is Status.EXPIRED:
        return TaskExpired("its ttl passed before a worker started it", task_id=row.id)
    last = policy.errors_of(row)[-1]
    return TaskFailed(
        row.id, type=last.type, remote_message=last.message, attempts=max(row.attempt, 1)
    )


class Endings:
    """Tells of what the workers of a queue settle; lives on the queue's loop."""

    def __init__(self, queue: AsyncOmniQ) -> None:
        self._queue = queue
        self._telling: set[asyncio.Task[None]] = set()

    def settled(self, moves: Iterable[Move]) -> None:
        """Receivers run in a thread, and nobody waits for them."""
        if ids := unseen(moves):
            telling = asyncio.create_task(self._tell(ids), name="omniq-endings")
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    async def over(self) -> None:
        """Wait until all has been told."""
        if self._telling:
            await asyncio.wait(self._telling)

    async def _tell(self, ids: list[str]) -> None:
        engine = self._queue.engine
        for row in await self._queue.stores.tasks.get_tasks(ids):
            call = clean(Loaded(tell, (row, engine), {}, False))
            await asyncio.to_thread(call.func, *call.args)
