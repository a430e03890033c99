"""The thread lane: blocking functions in threads of their own; coroutines get a loop there."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from typing import Any, ClassVar

from omniq.models.outcome import Cancelled, Outcome, Released, Succeeded
from omniq.models.task import WorkerKind
from omniq.workers.base import Codec, Done, Lane
from omniq.workers.context import enter
from omniq.workers.crew import Crew
from omniq.workers.run import Reason, Run, failure, timed_out


class ThreadLane(Lane):
    """A thread cannot be killed: one that ignores its timeout keeps its slot until it ends.

    Its task is settled at once all the same, and what it returns later is dropped.
    """

    kind: ClassVar[WorkerKind] = "thread"

    def __init__(self, slots: int, codec: Codec) -> None:
        super().__init__(slots, codec)
        self._crew: Crew | None = None
        self._loops = _ThreadLoops()

    def start(self, done: Done) -> None:
        super().start(done)
        self._crew = Crew(self.slots, name="omniq-thread-lane", leaving=self._loops.leave)

    def submit(self, run: Run) -> None:
        assert self._crew is not None
        self.busy += 1
        context = contextvars.copy_context()
        self._crew.submit(
            lambda: context.run(self._execute, run), lambda outcome: self._ended(run, outcome)
        )
        if run.body.timeout is not None:
            loop = asyncio.get_running_loop()
            run.timer = loop.call_later(run.body.timeout, self._overdue, run)

    def interrupt(self, run: Run, reason: Reason) -> None:
        run.interrupted = run.interrupted or reason
        run.context.cancelled = True
        self._loops.cancel(run)

    async def close(self) -> None:
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def _ended(self, run: Run, outcome: Outcome) -> None:
        self.busy -= 1
        if run.timer is not None:
            run.timer.cancel()
        self._done(run, outcome)

    def _overdue(self, run: Run) -> None:
        run.context.cancelled = True
        self._loops.cancel(run)
        self._done(run, timed_out(run))

    def _execute(self, run: Run) -> Outcome:
        early = run.interrupted
        if run.settled or early:
            return Cancelled() if early == "cancel" else Released()
        run.started = time.monotonic()
        try:
            enter(run.context)
            call = self.codec.load(run.row, run.body.payload)
            value = call.func(*call.args, **call.kwargs)
            if inspect.iscoroutine(value):
                value = self._loops.run(run, value)
            return Succeeded(self.codec.dump(run.row, value))
        except asyncio.CancelledError as error:
            if run.interrupted == "cancel":
                return Cancelled()
            return Released() if run.interrupted else failure(error, run)
        except BaseException as error:  # SystemExit of a task must not end its thread
            if run.interrupted == "cancel" and run.context.cancelled:
                return Cancelled()
            return failure(error, run)


class _ThreadLoops:
    """One event loop per thread for coroutine tasks, and how to interrupt what runs in it."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._tasks: dict[Run, tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = {}

    def run(self, run: Run, coroutine: Any) -> Any:
        loop = getattr(self._local, "loop", None)
        if loop is None:
            loop = self._local.loop = asyncio.new_event_loop()
        task = loop.create_task(coroutine)
        with self._lock:
            # By run, not by id: an attempt that is over may still clean up beside the next.
            self._tasks[run] = (loop, task)
            if run.settled or run.interrupted:  # meanwhile, when there was nothing to cancel
                task.cancel()
        try:
            return loop.run_until_complete(task)
        finally:
            with self._lock:
                del self._tasks[run]

    def leave(self) -> None:
        """This thread ends: its loop with it."""
        loop = getattr(self._local, "loop", None)
        if loop is not None:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    def cancel(self, run: Run) -> None:
        with self._lock:
            if found := self._tasks.get(run):
                loop, task = found
                loop.call_soon_threadsafe(task.cancel)
