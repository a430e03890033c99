"""A process that does nothing but work on tasks, until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import NoReturn

from msgspec import Struct
from msgspec.structs import replace

from omniq.contrib.host import Host
from omniq.contrib.signals import StopSignals
from omniq.core import AsyncOmniQ
from omniq.workers import WorkerPool

Say = Callable[[str], None]

HURRY = 3.0
"""Seconds a forced stop may take to give back what runs."""


class Wanted(Struct, frozen=True, kw_only=True):
    """How a worker should differ from its queue's configuration; None: not at all."""

    queues: tuple[str, ...] = ()
    concurrency: int | None = None
    threads: int | None = None
    grace: float | None = None

    def worker(self, queue: AsyncOmniQ) -> WorkerPool:
        """The worker for a queue; it stands alone, whatever the configuration says."""
        said = {
            "async_workers": self.concurrency,
            "thread_workers": self.threads,
            "queues": self.queues or None,
            "grace": self.grace,
        }
        config = queue.config.worker
        if self.concurrency is not None and config.default in (None, "async"):
            config = replace(config, max_workers=None)
        if self.threads is not None and config.default == "thread":
            config = replace(config, max_workers=None)
        changes = {name: value for name, value in said.items() if value is not None}
        return WorkerPool.configured(queue, replace(config, **changes))


def run_worker(host: Host, wanted: Wanted, *, say: Say, until_stdin_ends: bool = False) -> int:
    """Work until a signal; gives the exit status: 0 drained, 128 + signal if it was forced."""
    return asyncio.run(_run(host, wanted, say, until_stdin_ends))


async def _run(host: Host, wanted: Wanted, say: Say, until_stdin_ends: bool) -> int:
    with StopSignals() as stop:
        if until_stdin_ends:
            threading.Thread(target=_watch_stdin, args=(stop,), daemon=True).start()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(host.running())
            workers = []
            for queue in host.queues:
                worker = await wanted.worker(queue).start()
                stack.push_async_callback(worker.stop, 0)
                workers.append(worker)
                say(f"Working on {queue.describe()} with {worker.describe()}.")
            say("Ctrl-C lets running tasks end and leaves; twice leaves at once.")
            await stop.drain.wait()
            grace = max(worker.grace or 0 for worker in workers)
            say(f"Stopping: {_running(workers)} may go on for {grace:g} s.")
            draining = asyncio.create_task(_drain(workers))
            forced = asyncio.create_task(stop.force.wait())
            await asyncio.wait((draining, forced), return_when=asyncio.FIRST_COMPLETED)
            if not draining.done():
                await _leave_at_once(draining, workers, stop, say)
            forced.cancel()
            await draining
    say("Stopped.")
    return 0


async def _drain(workers: list[WorkerPool]) -> None:
    await asyncio.gather(*(worker.stop() for worker in workers))


async def _leave_at_once(
    draining: asyncio.Task[None], workers: list[WorkerPool], stop: StopSignals, say: Say
) -> NoReturn:
    """Give back what runs, and go without waiting for threads that do not end."""
    draining.cancel()
    await asyncio.wait([draining], timeout=1.0)
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
