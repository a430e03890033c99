"""The async lane: coroutines on the event loop; plain functions go to threads beside it."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import Any, ClassVar

from omniq.models.outcome import Cancelled, Outcome, Released, Succeeded
from omniq.models.task import WorkerKind
from omniq.queue.engine import Loaded
from omniq.workers.base import Lane
from omniq.workers.context import enter
from omniq.workers.crew import Crew
from omniq.workers.run import Reason, Run, failure, timed_out


class AsyncLane(Lane):
    """One asyncio task per run. A plain function never blocks the loop: a thread runs it."""

    kind: ClassVar[WorkerKind] = "async"

    _crew: Crew | None = None

    def submit(self, run: Run) -> None:
        self.busy += 1
        run.handle = asyncio.create_task(self._run(run))

    def interrupt(self, run: Run, reason: Reason) -> None:
        run.interrupted = run.interrupted or reason
        run.context.cancelled = True
        run.handle.cancel()

    async def close(self) -> None:
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    async def _run(self, run: Run) -> None:
        run.started = time.monotonic()
        row, body = run.row, run.body
        try:
            enter(run.context)
            call = self.codec.load(row, body.payload)
            if call.is_async and body.timeout is None:
                value = await call.func(*call.args, **call.kwargs)
            else:
                value = await self._bounded(call, body.timeout)
            outcome: Outcome = Succeeded(self.codec.dump(row, value))
        except _Overdue:
            outcome = timed_out(run)
        except asyncio.CancelledError as error:
            outcome = _interrupted(run, error)
        except BaseException as error:  # SystemExit of a task must not end its worker
            outcome = failure(error, run)
        self.busy -= 1
        self._done(run, outcome)

    async def _bounded(self, call: Loaded, timeout: float | None) -> Any:
        try:
            async with asyncio.timeout(timeout) as limit:
                return await self._call(call)
        except TimeoutError:
            if limit.expired():
                raise _Overdue from None
            raise

    async def _call(self, call: Loaded) -> Any:
        if call.is_async:
            return await call.func(*call.args, **call.kwargs)
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
                return
            if error is None:
                future.set_result(value)
            elif isinstance(error, StopIteration):  # a future refuses to carry one
                future.set_exception(RuntimeError(f"the task raised StopIteration: {error}"))
            else:
                future.set_exception(error)

        self._crew.submit(work, tell)
        return await future


class _Overdue(BaseException):
    """The timeout ran out; not the same as a TimeoutError of the task's own."""


def _interrupted(run: Run, error: asyncio.CancelledError) -> Outcome:
    if run.interrupted == "cancel":
        return Cancelled()
    task = asyncio.current_task()
    if run.interrupted is None and task is not None and not task.cancelling():
        return failure(error, run)  # the task's own code raised it, nobody stopped the run
    return Released()
