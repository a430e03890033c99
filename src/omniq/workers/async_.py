"""The async lane: coroutines on the event loop; plain functions go to threads beside it."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
from types import CoroutineType
from typing import Any, ClassVar

from omniq.models.outcome import Cancelled, Outcome, Released, Succeeded
from omniq.models.task import WorkerKind
from omniq.queue.engine import Loaded
from omniq.workers.base import Codec, Done, Lane
from omniq.workers.context import enter
from omniq.workers.crew import Crew
from omniq.workers.run import Overdue, Reason, Run, failure, timed_out


class AsyncLane(Lane):
    """One asyncio task per run. A plain function never blocks the loop: a thread runs it."""

    kind: ClassVar[WorkerKind] = "async"

    def __init__(self, slots: int, codec: Codec) -> None:
        super().__init__(slots, codec)
        self._crew: Crew | None = None
        self._abandoned: set[Run] = set()
        """Runs that were settled while their thread goes on."""

    def start(self, done: Done) -> None:
        super().start(done)
        self._loop = asyncio.get_running_loop()

    def submit(self, run: Run) -> None:
        self.busy += 1
        run.handle = self._loop.create_task(self._run(run))

    def interrupt(self, run: Run, reason: Reason) -> None:
        run.interrupted = run.interrupted or reason
        run.context.cancelled = True
        if (
            run.started
        ):  # else it looks by itself: a task cancelled before its first step never runs
            run.handle.cancel()

    async def close(self) -> None:
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    async def _run(self, run: Run) -> None:
        run.started = time.monotonic()
        row, body = run.row, run.body
        outcome: Outcome
        try:
            if run.interrupted:
                raise asyncio.CancelledError
            enter(run.context)
            call = self.codec.load(row, body.payload)
            if call.is_async and body.timeout is None:
                value = call.func(*call.args, **call.kwargs)
                if type(value) is CoroutineType or inspect.isawaitable(value):
                    value = await value  # else a plain function stood around it
            else:
                value = await self._bounded(run, call, body.timeout)
            outcome = Succeeded(self.codec.dump(row, value))
        except Overdue:
            outcome = timed_out(run)
        except asyncio.CancelledError as error:
            outcome = _interrupted(run, error)
        except BaseException as error:  # SystemExit of a task must not end its worker
            outcome = failure(error, run)
        if run not in self._abandoned:
            self.busy -= 1
        self._done(run, outcome)

    async def _bounded(self, run: Run, call: Loaded, timeout: float | None) -> Any:
        try:
            async with asyncio.timeout(timeout) as limit:
                if call.is_async:
                    value = call.func(*call.args, **call.kwargs)
                    return await value if inspect.isawaitable(value) else value
                value = await self._call_there(run, call)
                return await value if inspect.iscoroutine(value) else value
        except TimeoutError:
            if limit.expired():
                raise Overdue from None
            raise

    async def _call_there(self, run: Run, call: Loaded) -> Any:
        """In a thread. One that is given up keeps its slot until it ends."""
        if self._crew is None:
            self._crew = Crew(self.slots, name="omniq-async-lane")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        context = contextvars.copy_context()

        def work() -> tuple[Any, BaseException | None]:
            try:
                return context.run(call.func, *call.args, **call.kwargs), None
            except BaseException as error:
                return None, error

        def tell(answer: tuple[Any, BaseException | None]) -> None:
            value, error = answer
            if future.done():
                if inspect.iscoroutine(value):
                    value.close()
                self._abandoned.discard(run)
                self.busy -= 1
                self._done(run, Released())
            elif error is None:
                future.set_result(value)
            elif isinstance(error, StopIteration):  # a future refuses to carry one
                future.set_exception(RuntimeError(f"the task raised StopIteration: {error}"))
            else:
                future.set_exception(error)

        self._crew.submit(work, tell)
        try:
            return await future
        finally:
            if future.cancelled():
                self._abandoned.add(run)


def _interrupted(run: Run, error: asyncio.CancelledError) -> Outcome:
    if run.interrupted == "cancel":
        return Cancelled()
    task = asyncio.current_task()
    if run.interrupted is None and task is not None and not task.cancelling():
        return failure(error, run)  # the task's own code raised it, nobody stopped the run
    return Released()
