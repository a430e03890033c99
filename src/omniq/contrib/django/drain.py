"""Working off the queue here and now, in the calling thread and on its connections.

With `OMNIQ["DATABASE"]` the claim, the run and its end all happen in the transaction that is
open here, as the enqueue did: inside Django's TestCase nobody else could see the task at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

from asgiref.sync import async_to_sync
from django.db import Error as DatabaseError
from django.db import connections
from django.utils import timezone

from omniq._inline import MAX_RUNS, Inline, endless
from omniq._records import Drained, TaskRun
from omniq.contrib.django.compat import package
from omniq.contrib.django.conf import django_settings, overlaid
from omniq.contrib.django.runtime import blocking, native
from omniq.contrib.django.workers.homes import homes
from omniq.contrib.django.workers.hygiene import clean
from omniq.core import AsyncOmniQ
from omniq.models.filters import Batch, Claim, TaskFilter
from omniq.models.row import Ms, TaskRow
from omniq.models.status import Status
from omniq.models.units import Applied, Move
from omniq.queue import policy
from omniq.queue.engine import Engine

T = TypeVar("T")

PAGE = 200

_log = logging.getLogger("omniq.django")


class Desk(Protocol):
    """Where tasks are taken from and brought back to."""

    @property
    def engine(self) -> Engine: ...
    def queues(self) -> list[str]: ...
    def find(self, filter: TaskFilter) -> list[TaskRow]: ...
    def rows(self, ids: list[str]) -> list[TaskRow]: ...
    def claim(self, claim: Claim) -> Batch: ...
    def apply(self, move: Move) -> Applied: ...


def desk() -> Desk:
    """The one that holds here."""
    return _Native() if django_settings().database is None else _InTransaction()


class _InTransaction:
    """On Django's connection, in the transaction that is open."""

    def __init__(self) -> None:
        from omniq.contrib.django.database import within

        here = within()
        self.engine, self._place = here.engine, here.place

    def queues(self) -> list[str]:
        return [doc.key for doc in self._place.get_docs("queue")]

    def find(self, filter: TaskFilter) -> list[TaskRow]:
        rows, cursor = [], None
        while True:
            page = self._place.find_tasks(filter, limit=PAGE, cursor=cursor)
            rows += page.rows
            if (cursor := page.cursor) is None:
                return rows

    def rows(self, ids: list[str]) -> list[TaskRow]:
        return self._place.get_tasks(ids)

    def claim(self, claim: Claim) -> Batch:
        return self._place.claim(claim)

    def apply(self, move: Move) -> Applied:
        return self._place.apply([move]).outcome[0]


class _Native:
    """On the loop thread, with the store that settings name. Tasks run in this thread all the same."""

    def __init__(self) -> None:
        self._ask(lambda queue: queue.open())
        # Connections here are the caller's, who looks at what a task has done to them.
        self.engine = native().engine.without(clean)

    def _ask(self, what: Callable[[AsyncOmniQ], Coroutine[Any, Any, T]]) -> T:
        return blocking()._run(lambda: what(native()))

    def queues(self) -> list[str]:
        docs = self._ask(lambda queue: queue.stores.tasks.get_docs("queue"))
        return [doc.key for doc in docs]

    def find(self, filter: TaskFilter) -> list[TaskRow]:
        async def all_pages(queue: AsyncOmniQ) -> list[TaskRow]:
            rows, cursor = [], None
            while True:
                page = await queue.stores.tasks.find_tasks(filter, limit=PAGE, cursor=cursor)
                rows += page.rows
                if (cursor := page.cursor) is None:
                    return rows

        return self._ask(all_pages)

    def rows(self, ids: list[str]) -> list[TaskRow]:
        return self._ask(lambda queue: queue.stores.tasks.get_tasks(ids))

    def claim(self, claim: Claim) -> Batch:
        return self._ask(lambda queue: queue.stores.tasks.claim(claim))

    def apply(self, move: Move) -> Applied:
        async def applied(queue: AsyncOmniQ) -> Applied:
            outcome = (await queue.stores.apply([move])).outcome[0]
            if outcome is not Applied.REFUSED:
                AsyncOmniQ.settled(queue, [move])  # the rest is told in the caller's thread
            return outcome

        return self._ask(applied)


class Drain:
    """Runs what is ready in every queue that settings describe, one task at a time."""

    def __init__(self, *, limit: int | None, raise_errors: bool) -> None:
        self._limit, self._raise = limit, raise_errors
        self._runs: list[TaskRun] = []

    def work(self, until: datetime | timedelta | None) -> Drained:
        """Go on until nothing is left that is ready, or due by `until`."""
        forever = until == timedelta.max
        end = None if until is None or forever else stamp(until)
        going = True
        while going:
            going = False
            for home in homes():
                with overlaid(home):
                    going |= self._work_here(desk(), end, ahead=until is not None, forever=forever)
        return Drained(tuple(self._runs))

    def _work_here(self, here: Desk, end: Ms | None, *, ahead: bool, forever: bool) -> bool:
        """Work at one desk; whether anything was run."""
        before, inline = len(self._runs), Inline(here.engine)
        while self._limit is None or len(self._runs) < self._limit:
            if (row := self._next(here, inline)) is not None:
                self._run(here, inline, row, forever)
            elif not ahead or not _hasten(here, end):
                break
        return len(self._runs) > before

    def _next(self, here: Desk, inline: Inline) -> TaskRow | None:
        while True:
            ready = here.find(TaskFilter(statuses=(Status.READY,), oldest_first=True))
            batch = here.claim(inline.claim(here.queues(), ready))
            for row in batch.chores:
                _apply(here, inline, row, inline.chore(row))
            if batch.tasks:
                return batch.tasks[0]
            if not batch.chores:  # they may have released something
                return None

    def _run(self, here: Desk, inline: Inline, row: TaskRow, forever: bool) -> None:
        if len(self._runs) >= MAX_RUNS:
            _apply(here, inline, row, inline.give_back(row))
            raise endless(row, len(self._runs))
        try:
            with _as_in_a_worker() as broken:
                ran = inline.run(row, wait=_wait)
                if isinstance(ran.error, DatabaseError):
                    broken()
        except BaseException:
            _apply(here, inline, row, inline.give_back(row))
            raise
        _apply(here, inline, row, ran.move)
        told = ran.told(here.engine.clock.now())
        self._runs.append(told)
        if self._raise and told.error is not None and (told.status.final or not forever):
            raise told.error


def stamp(until: datetime | timedelta) -> Ms:
    """A time, or a length of time from now; a naive one is in the current time zone."""
    if isinstance(until, timedelta):
        until = timezone.now() + until
    if timezone.is_naive(until):
        until = timezone.make_aware(until)
    return round(until.timestamp() * 1000)


def _hasten(here: Desk, end: Ms | None) -> bool:
    """Make the next scheduled task ready now; False: there is none by `end`."""
    rows = here.find(TaskFilter(statuses=(Status.SCHEDULED,)))
    row = min(rows, key=lambda row: (row.run_at, row.id), default=None)
    if row is None or (end is not None and row.run_at > end):
        return False
    here.apply(policy.replay(row, here.engine.clock.now()))
    return True


def _apply(here: Desk, inline: Inline, row: TaskRow, move: Move | None) -> None:
    while move is not None:
        applied, done = here.apply(move), move
        move = inline.after(row, move, applied)
        if applied is not Applied.REFUSED and package() is not None:
            from omniq.contrib.django.backends.endings import tell, unseen

            for ended in here.rows(unseen([done])):
                tell(ended, here.engine)


def _wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it; what it asks of the ORM comes back to this thread and its transaction."""

    async def awaited() -> T:
        return await coroutine

    return async_to_sync(awaited)()


@contextmanager
def _as_in_a_worker() -> Iterator[Callable[[], None]]:
    """Inside a test's transaction a task finds what it would outside of one.

    What it asks for at the commit happens when it has ended, and an error of the database, told
    by calling what this gives, takes back what the task did and leaves the transaction usable.
    """
    open_here: list[Any] = list(connections.all(initialized_only=True))
    open_here = [each for each in open_here if each.in_atomic_block]
    points = [(each, each.savepoint(), len(each.run_on_commit)) for each in open_here]
    broken: list[bool] = []
    yield partial(broken.append, True)
    for connection, point, _ in points:
        if broken:
            connection.needs_rollback = False  # set by the error, and refuses the rollback, too
            connection.savepoint_rollback(point)
        else:
            connection.savepoint_commit(point)
    for connection, _, asked_before in points:
        if broken:
            del connection.run_on_commit[asked_before:]
        _commit(connection, asked_before)


def _commit(connection: Any, asked_before: int) -> None:
    while len(connection.run_on_commit) > asked_before:
        # Taken out of the list: `captureOnCommitCallbacks` around would run them once more.
        _, function, robust = connection.run_on_commit.pop(asked_before)
        try:
            function()
        except Exception:
            if not robust:
                raise
            _log.exception("what was to be done at the commit failed")
