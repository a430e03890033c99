"""Working off a queue by hand, or by a real worker for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar, overload

from omniq._portal import portal
from omniq._records import Drained
from omniq.clock import ManualClock
from omniq.core import AsyncOmniQ
from omniq.models.row import Ms
from omniq.sync import OmniQ
from omniq.testing.modes import mode_of
from omniq.testing.runner import Runner, plain_queue
from omniq.workers import WorkerPool

T = TypeVar("T")


@overload
def drain(
    queue: AsyncOmniQ,
    *,
    limit: int | None = None,
    until: datetime | timedelta | None = None,
    raise_errors: bool = False,
) -> Coroutine[Any, Any, Drained]: ...
@overload
def drain(
    queue: OmniQ,
    *,
    limit: int | None = None,
    until: datetime | timedelta | None = None,
    raise_errors: bool = False,
) -> Drained: ...
def drain(
    queue: AsyncOmniQ | OmniQ,
    *,
    limit: int | None = None,
    until: datetime | timedelta | None = None,
    raise_errors: bool = False,
) -> Any:
    """Run every task that is ready, and what it releases or enqueues, here and one by one.

    Await it for an AsyncOmniQ; for an OmniQ it blocks, and plain functions run in the calling
    thread. Tasks that are due later, retries among them, stay: `until`, a time or a length of
    time from now, runs those due by then, in their order. A queue with a ManualClock travels
    in time for that and stands at `until` in the end; with another clock they run early.

    `limit` is how many runs there may be. Failures are stored as ever; `raise_errors` raises
    the first one besides, as the task raised it, and leaves the rest for another drain.
    """
    return _either(queue, partial(_drain, limit=limit, until=until, raise_errors=raise_errors))


@overload
def run_until_empty(
    queue: AsyncOmniQ, *, raise_errors: bool = False
) -> Coroutine[Any, Any, Drained]: ...
@overload
def run_until_empty(queue: OmniQ, *, raise_errors: bool = False) -> Drained: ...
def run_until_empty(queue: AsyncOmniQ | OmniQ, *, raise_errors: bool = False) -> Any:
    """Run every task there is, whenever it is due, retries included, until none can run.

    A ManualClock travels to each task's time. `raise_errors` raises the first failure for good.
    """
    return _either(queue, partial(_drain, until=timedelta.max, raise_errors=raise_errors))


@overload
def worker_running(queue: AsyncOmniQ) -> AbstractAsyncContextManager[WorkerPool]: ...
@overload
def worker_running(queue: OmniQ) -> AbstractContextManager[None]: ...
def worker_running(queue: AsyncOmniQ | OmniQ) -> Any:
    """A real worker for as long as the block lasts; it drains when the block ends.

    `async with` for an AsyncOmniQ, `with` for an OmniQ. Inside `eager` or `collecting`, too,
    tasks are run by it; what was enqueued is still noted.
    """
    if isinstance(queue, OmniQ):
        return _blocking_worker(queue)
    return _worker(plain_queue(queue))


def _either(
    queue: AsyncOmniQ | OmniQ, work: Callable[[AsyncOmniQ], Coroutine[Any, Any, Drained]]
) -> Any:
    if not isinstance(queue, OmniQ):
        return work(plain_queue(queue))
    portal.desks += 1
    try:
        return queue._run(work, queue._async)
    finally:
        portal.desks -= 1


async def _drain(
    queue: AsyncOmniQ,
    *,
    limit: int | None = None,
    until: datetime | timedelta | None = None,
    raise_errors: bool = False,
) -> Drained:
    await queue.open()
    runner, forever = Runner(queue), until == timedelta.max
    end = None if forever or until is None else _stamp(until, queue.engine.clock.now())
    while limit is None or len(runner.runs) < limit:
        ran = await runner.step()
        if ran is not None:
            error = ran.raised
            over = runner.runs[-1].status.final or not forever
            if raise_errors and error is not None and over:
                raise error
        elif until is None or not await runner.travel(end):
            clock = queue.engine.clock
            if end is not None and isinstance(clock, ManualClock):
                clock.advance(max(end - clock.now(), 0) / 1000)
            break
    return Drained(tuple(runner.runs))


def _stamp(until: datetime | timedelta, now: Ms) -> Ms:
    if isinstance(until, timedelta):
        return now + round(until.total_seconds() * 1000)
    if until.tzinfo is None:
        raise ValueError(f"until={until!r} has no time zone: write datetime(..., tzinfo=UTC)")
    return round(until.timestamp() * 1000)


@asynccontextmanager
async def _worker(queue: AsyncOmniQ) -> AsyncIterator[WorkerPool]:
    mode = mode_of(queue)
    if mode is not None:
        mode.away += 1
    try:
        async with WorkerPool.configured(queue, queue.config.worker) as worker:
            yield worker
    finally:
        if mode is not None:
            mode.away -= 1


@contextmanager
def _blocking_worker(queue: OmniQ) -> Iterator[None]:
    with queue._within(_worker(queue._async)):
        yield
