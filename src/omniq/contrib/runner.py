"""A process that does nothing but work on tasks, until it is told to stop or has done enough."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from functools import partial
from typing import Any, NoReturn

from msgspec import Struct
from msgspec.structs import replace

from omniq.contrib.host import Host, OwnLoop
from omniq.contrib.left import left_behind
from omniq.contrib.signals import StopSignals
from omniq.core import AsyncOmniQ
from omniq.errors import StorageError
from omniq.workers import Quota, WorkerPool

Say = Callable[[str], None]

HURRY = 3.0
"""Seconds a forced stop may take to give back what runs."""
LOOKING = 5.0
"""Seconds a batch may take to find out what it leaves behind."""
EMPTIED = "Nothing is left that could run now."
LEFT = 3
"""The status of a batch that leaves tasks behind because it does not know their functions."""


class Wanted(Struct, frozen=True, kw_only=True):
    """How a worker should differ from its queue's configuration; None: not at all.

    `queues` are those to serve, "*" is all of them, none: as configured; `without` are queues to leave out. `batch`: leave as soon as nothing is left that could run
    now. `max_tasks`: leave after so many.
    """

    queues: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    concurrency: int | None = None
    threads: int | None = None
    grace: float | None = None
    batch: bool = False
    max_tasks: int | None = None

    def worker(self, queue: AsyncOmniQ, quota: Quota | None = None) -> WorkerPool:
        """The worker for a queue; it stands alone, whatever the configuration says."""
        said = {
            "async_workers": self.concurrency,
            "thread_workers": self.threads,
            "queues": () if "*" in self.queues else self.queues or None,
            "grace": self.grace,
        }
        config = queue.config.worker
        if self.concurrency is not None and config.default in (None, "async"):
            config = replace(config, max_workers=None)
        if self.threads is not None and config.default == "thread":
            config = replace(config, max_workers=None)
        changes = {name: value for name, value in said.items() if value is not None}
        config = replace(config, **changes)
        return WorkerPool.configured(queue, config, without=self.without, quota=quota)

    def serves(self, queue: AsyncOmniQ, name: str) -> bool:
        """Whether that worker looks for tasks under this queue name."""
        names = () if "*" in self.queues else self.queues or queue.config.worker.queues
        return name not in self.without and (not names or name in names)


def run_worker(
    host: Host,
    wanted: Wanted,
    *,
    say: Say,
    until_stdin_ends: bool = False,
    stop: StopSignals | None = None,
) -> int:
    """Work until a signal; gives the exit status: 0 drained, 128 + signal if it was forced.

    A batch that leaves tasks behind whose functions are unknown here says which and gives `LEFT`.

    Takes the stop signals, which only works in the main thread; elsewhere give a `stop` that
    is told of them.
    """
    if not isinstance(host, OwnLoop):
        return asyncio.run(_run(host, wanted, say, stop or StopSignals(), until_stdin_ends))
    with ExitStack() as stack:
        if stop is None:
            stop = StopSignals(told=True)
            stack.enter_context(stop.taking())
        return host.run(partial(_run, host, wanted, say, stop, until_stdin_ends))


async def _run(
    host: Host, wanted: Wanted, say: Say, signals: StopSignals, until_stdin_ends: bool
) -> int:
    quota = Quota(wanted.max_tasks) if wanted.max_tasks is not None else None
    with signals as stop:
        if until_stdin_ends:
            threading.Thread(target=_watch_stdin, args=(stop,), daemon=True).start()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(host.running())
            workers = []
            for queue in host.queues:
                worker = await wanted.worker(queue, quota).start()
                stack.push_async_callback(worker.stop, 0)
                workers.append(worker)
                say(f"Working on {queue.describe()} with {worker.describe()}.")
            say("Ctrl-C lets running tasks end and leaves; twice leaves at once.")
            if (enough := await _until_over(workers, wanted, quota, stop)) is not None:
                say(enough)
            if stop.drain.is_set() or any(worker.running for worker in workers):
                grace = max(_grace(worker, stop) for worker in workers)
                say(f"Stopping: {_running(workers)} may go on for {grace:g} s; {_force(stop)}.")
            behind = host.queues if enough == EMPTIED else ()
            leaving = asyncio.create_task(_leave(workers, behind, wanted, stop, say))
            forced = asyncio.create_task(stop.force.wait())
            await asyncio.wait((leaving, forced), return_when=asyncio.FIRST_COMPLETED)
            if not leaving.done():
                await _leave_at_once(leaving, workers, stop, say)
            forced.cancel()
            left = await leaving
    say("Stopped.")
    return LEFT if left else 0


async def _until_over(
    workers: list[WorkerPool], wanted: Wanted, quota: Quota | None, stop: StopSignals
) -> str | None:
    """Wait for a signal (None), or for the work to be over, and say why it is."""
    ends: dict[asyncio.Task[Any], str | None] = {asyncio.create_task(stop.drain.wait()): None}
    if wanted.batch:
        emptied = _all(worker.emptied() for worker in workers)
        ends[asyncio.create_task(emptied)] = EMPTIED
    if quota is not None:
        number = "1 task" if quota.runs == 1 else f"{quota.runs} tasks"
        ends[asyncio.create_task(_spent(quota, workers))] = f"Ran {number}, as many as wanted."
    try:
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
        return None if stop.drain.is_set() else ends[done.pop()]
    finally:
        for each in ends:
            each.cancel()


async def _leave(
    workers: Sequence[WorkerPool],
    behind: Sequence[AsyncOmniQ],
    wanted: Wanted,
    stop: StopSignals,
    say: Say,
) -> list[str]:
    """Stop the workers, and only then see what is left behind: till then they might take it."""
    await _all(worker.stop(_grace(worker, stop)) for worker in workers)
    return await _left(behind, wanted, stop, say) if behind else []


async def _left(
    queues: Sequence[AsyncOmniQ], wanted: Wanted, stop: StopSignals, say: Say
) -> list[str]:
    """What is left behind for want of its function, said; the first signal ends the look."""
    looks = asyncio.gather(*(_look(queue, wanted, say) for queue in queues))
    told = asyncio.create_task(stop.drain.wait())
    await asyncio.wait((looks, told), return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not looks.done():
        say(f"Stopping: nothing more is said of what is left; {_force(stop)}.")
        looks.cancel()
        await asyncio.wait((looks,), timeout=1.0)
        return []
    left = [line for lines in looks.result() for line in lines]
    for line in left:
        say(line)
    return left


async def _look(queue: AsyncOmniQ, wanted: Wanted, say: Say) -> list[str]:
    try:
        async with asyncio.timeout(LOOKING):
            return await left_behind(queue, partial(wanted.serves, queue))
    except TimeoutError:
        why = f"looking took longer than {LOOKING:g} s"
    except StorageError as error:
        why = str(error)
    say(f"It cannot be told whether tasks wait for a function that is unknown here: {why}.")
    return []


async def _all(waits: Iterable[Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(*waits)


async def _spent(quota: Quota, workers: list[WorkerPool]) -> None:
    await quota.spent()
    await _all(worker.drained() for worker in workers)


def _grace(worker: WorkerPool, stop: StopSignals) -> float:
    grace = worker.grace or 0
    return grace if stop.within is None else min(grace, stop.within)


def _force(stop: StopSignals) -> str:
    return f"press Ctrl-C {'again' if stop.drain.is_set() else 'twice'} to force"


async def _leave_at_once(
    leaving: asyncio.Task[list[str]], workers: list[WorkerPool], stop: StopSignals, say: Say
) -> NoReturn:
    """Give back what runs, and go without waiting for threads that do not end."""
    leaving.cancel()
    await asyncio.wait([leaving], timeout=1.0)
    say(f"Leaving: {_running(workers)} given to other workers.")
    with suppress(TimeoutError):
        async with asyncio.timeout(HURRY):
            await asyncio.gather(*(worker.stop(0) for worker in workers), return_exceptions=True)
    status = 128 + (stop.received or signal.SIGTERM)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _running(workers: list[WorkerPool]) -> str:
    number = sum(worker.running for worker in workers)
    return "1 running task" if number == 1 else f"{number} running tasks"


def _watch_stdin(stop: StopSignals) -> None:
    """The parent holds the other end and never writes: the end of input is the parent's end."""
    # Past Python's own buffer: its lock, held by a waiting thread, would break the exit.
    while os.read(sys.stdin.fileno(), 1):
        pass
    stop.ask()
