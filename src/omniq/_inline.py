"""Claimed tasks run here and now, one at a time, by the rules every worker keeps.

For whoever has no worker: tests, and frameworks that run tasks on a connection of their own. No
place is touched here. Ask it for a `claim`, carry out the row by `run` or `arun`, and apply the
move that comes of it; `after` says what a refused move means.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, NamedTuple, TypeVar, get_args

import msgspec

from omniq._records import TaskRun
from omniq.errors import TaskSignal
from omniq.ids import uuid7
from omniq.models.filters import Claim, Slot
from omniq.models.outcome import Failed, Outcome, Released, Succeeded
from omniq.models.row import Ms, TaskRow
from omniq.models.status import Status
from omniq.models.task import TaskBody, WorkerKind
from omniq.models.units import Applied, Move
from omniq.queue import policy
from omniq.queue.engine import Engine, Loaded
from omniq.workers.context import enter
from omniq.workers.run import Overdue, Run, describe, failure, timed_out

T = TypeVar("T")

MAX_RUNS = 10_000
"""Whoever has run so many tasks and is not done will never be."""
CHORES = 100
LEASE = 60.0
_LANES: tuple[str, ...] = get_args(WorkerKind)

Plain = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Makes a call somewhere, and waits for it: `asyncio.to_thread` does."""
Wait = Callable[[Coroutine[Any, Any, Any]], Any]
"""Runs a coroutine to its end: `asyncio.run` does."""


class Ran(NamedTuple):
    """One run: `move` settles it. `error` is what the task raised, as it was raised."""

    row: TaskRow
    outcome: Outcome
    move: Move
    error: BaseException | None = None

    @property
    def raised(self) -> BaseException | None:
        """What it failed with, if that was an error and no signal such as Retry."""
        if self.error is None and isinstance(self.outcome, Failed):
            return TimeoutError(self.outcome.error.message)
        return None if isinstance(self.error, TaskSignal) else self.error

    def told(self, now: Ms) -> TaskRun:
        """The run as it is told to tests."""
        row, move = self.row, self.move
        status = move.to or row.status
        if status is Status.READY and move.patch.get("run_at", 0) > now:
            status = Status.SCHEDULED
        return TaskRun(row.id, row.name, row.attempt, status, self.raised)


class Inline:
    """An owner of claims that runs them in the caller's own thread or loop.

    Lanes are of no account here: whatever lane a task asks for, it is run. What stands around
    calls (`queue.around`), retries, timeouts, events and results are as with any worker.
    """

    def __init__(self, engine: Engine, *, owner: str | None = None) -> None:
        self.engine, self.owner = engine, owner or uuid7()

    def claim(
        self, queues: Iterable[str], ready: Iterable[TaskRow] = (), *, chores: int = CHORES
    ) -> Claim:
        """A claim of one task. Lines of `ready` rows go first, the best row's line leading:
        so tasks of several queues and lanes are run in the order they would be in one.
        """
        best = sorted(ready, key=lambda row: (-row.priority, row.run_at, row.id))
        lines = [(row.queue, row.lane) for row in best]
        lines += [(queue, lane) for queue in queues for lane in _LANES]
        return Claim(
            owner=self.owner,
            request=uuid7(),
            slots=tuple(Slot(queue, lane, 1) for queue, lane in dict.fromkeys(lines)),
            limit=1,
            lease=round(LEASE * 1000),
            chores=chores,
        )

    def run(self, row: TaskRow, *, wait: Wait = asyncio.run) -> Ran:
        """Carry out a claimed row in this thread; `wait` runs it if it is a coroutine."""
        if isinstance(run := self._opened(row), Ran):
            return run
        error: BaseException | None = None
        try:
            outcome = self._run(run, wait)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            outcome, error = failure(raised, run), raised
        return self._ran(run, outcome, error)

    async def arun(self, row: TaskRow, *, plain: Plain = asyncio.to_thread) -> Ran:
        """Carry out a claimed row in this loop; `plain` calls it if it is a plain function.

        A caller who is cancelled meanwhile has to `give_back` the row.
        """
        if isinstance(run := self._opened(row), Ran):
            return run
        # In a task of its own: what it does to context variables stays with it.
        outcome, error = await asyncio.create_task(self._arun(run, plain))
        return self._ran(run, outcome, error)

    def give_back(self, row: TaskRow) -> Move:
        """The move of a row whose run was broken off; it costs no attempt."""
        return self.engine.settle(row, self.engine.body(row), Released())

    def chore(self, row: TaskRow) -> Move:
        """The move of a row that was handed out as a chore: expired, stranded, lost."""
        try:
            body = self.engine.body(row)
        except msgspec.MsgspecError as error:
            return self._bury(row, error)
        engine = self.engine
        return policy.settle_chore(row, body, engine.clock.now(), engine.rules)

    def after(self, row: TaskRow, move: Move, applied: Applied) -> Move | None:
        """What is to be applied next: a row somebody cancelled does not go back in line."""
        if applied is Applied.REFUSED and move.to is Status.READY:
            return policy.cancelled(row, self.engine.clock.now(), self.engine.rules)
        return None

    # -- one run -------------------------------------------------------------------------

    def _opened(self, row: TaskRow) -> Run | Ran:
        try:
            body: TaskBody = self.engine.body(row)
        except msgspec.MsgspecError as error:
            return Ran(row, Failed(describe(error, row)), self._bury(row, error), error)
        run = Run(row, body, lambda context: None)
        run.started = time.monotonic()
        return run

    def _run(self, run: Run, wait: Wait) -> Outcome:
        def call() -> Any:
            loaded = self._loaded(run)
            value = loaded.func(*loaded.args, **loaded.kwargs)
            return wait(_within(value, run.body.timeout)) if inspect.iscoroutine(value) else value

        try:
            value = contextvars.copy_context().run(call)
        except Overdue:
            return timed_out(run)
        return self._ended(run, value)

    async def _arun(self, run: Run, plain: Plain) -> tuple[Outcome, BaseException | None]:
        try:
            loaded = self._loaded(run)
            if loaded.is_async:
                value = loaded.func(*loaded.args, **loaded.kwargs)
            else:
                value, error = await _within(plain(lambda: _called(loaded)), run.body.timeout)
                if error is not None:
                    raise error
            if inspect.isawaitable(value):
                value = await _within(value, run.body.timeout)
            return self._ended(run, value), None
        except Overdue:
            return timed_out(run), None
        except BaseException as error:  # raised out of this task, some would end the loop
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                raise
            return failure(error, run), error

    def _loaded(self, run: Run) -> Loaded:
        enter(run.context)
        return self.engine.load(run.row, run.body.payload)

    def _ended(self, run: Run, value: Any) -> Outcome:
        timeout = run.body.timeout
        if timeout is not None and time.monotonic() - run.started > timeout:
            return timed_out(run)  # nothing could interrupt it, but the rule holds
        return Succeeded(self.engine.dump(run.row, value))

    def _ran(self, run: Run, outcome: Outcome, error: BaseException | None) -> Ran:
        move = self.engine.settle(run.row, run.body, outcome)
        if run.context.progress is not None:
            patch = {**move.patch, "progress": run.context.progress}
            move = msgspec.structs.replace(move, patch=patch)
        return Ran(run.row, outcome, move, error)

    def _bury(self, row: TaskRow, error: Exception) -> Move:
        engine = self.engine
        return policy.bury(row, describe(error, row), engine.clock.now(), engine.rules)


def endless(row: TaskRow, runs: int) -> AssertionError:
    """What to say after `MAX_RUNS`; `row` is the last that came up."""
    return AssertionError(
        f"{runs:,} tasks were run and there are more: does {row.name} enqueue itself, or ask "
        "for another try each time? Bound it with drain(limit=...)"
    )


def _called(loaded: Loaded) -> tuple[Any, BaseException | None]:
    """What a plain function gives; its error as a value, for futures refuse to carry some."""
    try:
        return loaded.func(*loaded.args, **loaded.kwargs), None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return None, error


async def _within(value: Awaitable[T], timeout: float | None) -> T:
    try:
        async with asyncio.timeout(timeout) as limit:
            return await value
    except TimeoutError:
        if limit.expired():
            raise Overdue from None
        raise
