"""Modes of a queue under test: tasks are run as they are enqueued, or only noted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from weakref import WeakKeyDictionary

from omniq._inline import Ran
from omniq._portal import portal
from omniq._records import Enqueued
from omniq.core import AsyncOmniQ
from omniq.errors import ConfigError, FunctionNotFound, ResultTimeout
from omniq.models.outcome import Snoozed, UnknownFunction
from omniq.models.row import TaskRow
from omniq.models.status import Status
from omniq.models.task import Task
from omniq.models.units import Insert
from omniq.sync import OmniQ
from omniq.testing.runner import Runner, plain_queue

_noted: WeakKeyDictionary[AsyncOmniQ, list[Enqueued]] = WeakKeyDictionary()


class Mode:
    """Stands in for a queue's worker and notes what is enqueued."""

    def __init__(self, queue: AsyncOmniQ, *, eager: bool, raise_errors: bool) -> None:
        self.eager, self.raise_errors = eager, raise_errors
        self.enqueued: list[Enqueued] = []
        self.away = 0
        """Above 0 a real worker runs, and all is left to it."""
        self._runner = Runner(queue)
        self._snoozed: set[str] = set()

    async def stored(self, tasks: Sequence[Task], inserts: Sequence[Insert]) -> None:
        for task, insert in zip(tasks, inserts, strict=True):
            self.enqueued.append(Enqueued(task, insert.row))
        if self.eager and not self.away:
            await self._carry_out({insert.row.id for insert in inserts})

    async def awaited(self, ids: Sequence[str]) -> None:
        """Whoever waits for a result would wait for ever, so what is ready is run."""
        if self.away or not (ids or self.eager):
            return
        while await self._runner.step() is not None:
            pass
        for row in await self._runner.rows(ids):
            if not (row.status.final or row.id in self._runner.running):
                raise ResultTimeout(_stuck(row), task_id=row.id)

    async def _carry_out(self, ids: set[str]) -> None:
        """Run until these have ended: also what is delayed, and retries, without a wait."""
        runner, seen = self._runner, set[tuple[str, Status, int]]()
        if not runner.running:
            runner.runs.clear()
        while True:
            open_rows = [row for row in await runner.rows(list(ids)) if not row.status.final]
            for row in open_rows:
                if row.status is Status.SCHEDULED and row.id not in self._snoozed:
                    await runner.hasten(row)
            before, seen = seen, {(row.id, row.status, row.epoch) for row in open_rows}
            if (ran := await runner.step()) is not None:
                self._look_at(ran, final=runner.runs[-1].status.final)
            elif running := [row.id for row in open_rows if row.id in runner.running]:
                await runner.running[running[0]].wait()  # another call in this loop runs it
            elif seen == before:
                return

    def _look_at(self, ran: Ran, *, final: bool) -> None:
        if isinstance(ran.outcome, UnknownFunction):
            raise ran.error or FunctionNotFound(ran.outcome.reason)
        if isinstance(ran.outcome, Snoozed):
            self._snoozed.add(ran.row.id)
        elif self.raise_errors and final and (error := ran.raised) is not None:
            raise error


@contextmanager
def eager(queue: AsyncOmniQ | OmniQ, *, raise_errors: bool = False) -> Iterator[list[Enqueued]]:
    """Run tasks as they are enqueued, before `enqueue` returns; gives the list of them.

    The rules are those of any worker: options, timeouts and retries count, errors are stored,
    and the result is read through the handle. Only nothing is waited for: delays pass at once,
    and so do those between retries; a task that snoozes is left. `raise_errors` raises what a
    task that failed for good had raised, out of `enqueue`.

    Coroutines run in the loop that enqueues. Plain functions run in the calling thread of a
    blocking queue, and in a thread beside the loop of an async one, where they may block.
    """
    with _mode(queue, eager=True, raise_errors=raise_errors) as mode:
        portal.desks += 1
        try:
            yield mode.enqueued
        finally:
            portal.desks -= 1


@contextmanager
def collecting(queue: AsyncOmniQ | OmniQ) -> Iterator[list[Enqueued]]:
    """Note what is enqueued and run nothing by itself; gives the list of it.

    Whoever waits for a result, or drains the queue, runs what is ready. The list stays for
    `assert_enqueued` when the block has ended.
    """
    with _mode(queue, eager=False, raise_errors=False) as mode:
        yield mode.enqueued


@contextmanager
def _mode(queue: AsyncOmniQ | OmniQ, *, eager: bool, raise_errors: bool) -> Iterator[Mode]:
    inner = plain_queue(queue)
    before = mode_of(inner)
    if before is None and inner._worker is not None:
        raise ConfigError(
            "a worker of this process runs already and would take the tasks: enter this mode "
            "before the app starts, or stop the worker first (`await queue.stop_worker()`)"
        )
    mode = Mode(inner, eager=eager, raise_errors=raise_errors)
    if before is not None:
        mode.enqueued = before.enqueued
    _noted[inner] = mode.enqueued
    inner.instead = mode
    try:
        yield mode
    finally:
        inner.instead = before


def mode_of(queue: AsyncOmniQ) -> Mode | None:
    """The mode the queue is in."""
    return queue.instead if isinstance(queue.instead, Mode) else None


def noted(queue: AsyncOmniQ | OmniQ) -> list[Enqueued]:
    """What was enqueued since the mode began, or while the last one lasted."""
    found = _noted.get(plain_queue(queue))
    if found is None:
        raise ConfigError(
            "nobody has noted what this queue was given: enqueue inside `with collecting(queue):` "
            "or `with eager(queue):`, or take the fixture omniq_queue"
        )
    return found


def _stuck(row: TaskRow) -> str:
    why = "its queue is paused"
    if row.status is Status.SCHEDULED:
        why = f"it is scheduled for {datetime.fromtimestamp(row.run_at / 1000, UTC)}"
    elif row.status is Status.WAITING:
        why = "a task it depends on has not ended"
    elif row.status is Status.RUNNING:
        why = "another worker has it"
    return (
        f"task {row.id} ({row.name}) has not ended and nobody works on this queue by itself: "
        f"{why}. `run_until_empty(queue)` runs it whenever it is due, and "
        "`worker_running(queue)` starts a real worker"
    )
