"""The worker process of placement "server": a child of `litestar run`."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from omniq.contrib.litestar.placement import mark_started, unmark
from omniq.errors import ConfigError

_log = logging.getLogger("omniq.litestar")

SLACK = 5.0
"""Seconds a worker gets to end, beyond its grace."""
STEADY = 30.0
"""After so many seconds of life a worker that ends is started again at once."""


@contextmanager
def worker_process(key: str, *, grace: float) -> Iterator[None]:
    """One worker process for as long as the block lasts; it is started again if it dies.

    It drains when the block ends, and also when this process vanishes: its standard input is
    a pipe that closes with us.
    """
    keeper = _Keeper([*_litestar(), "workers", "run", "--name", key, "--until-stdin-ends"])
    mark_started(key)
    before = _end_by_exception()
    keeper.start()
    try:
        yield
    finally:
        keeper.stop(grace + SLACK)
        if before is not None:
            signal.signal(signal.SIGTERM, before)
        unmark(key)


def _litestar() -> list[str]:
    """The command line of the app that is being run, so that the child finds the same one."""
    import click
    from litestar.cli._utils import LitestarEnv

    context = click.get_current_context(silent=True)
    env = context.find_object(LitestarEnv) if context is not None else None
    if env is None:
        raise ConfigError(
            "OmniQPlugin(placement='server') starts its worker from `litestar run` and cannot "
            "from here; write placement='asgi', or placement='external' and run "
            "`litestar workers run` beside the server"
        )
    command = [sys.executable, "-m", "litestar"]
    return [*command, "--app", env.app_path, "--app-dir", str(env.cwd)]


def _end_by_exception() -> Any:
    """Turn a SIGTERM that would end the process on the spot into SystemExit.

    uvicorn raises the signal that stopped it once more when it is done, which would leave the
    worker behind. Handlers that somebody set are not touched.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return None

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    return signal.signal(signal.SIGTERM, leave)


class _Keeper:
    """Holds the child: a thread waits for its end and starts the next one."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, name="omniq-keeper", daemon=True)

    def start(self) -> None:
        self._spawn()
        self._thread.start()

    def _spawn(self) -> None:
        with self._lock:
            if self._stopping.is_set():
                return
            # A session of its own: Ctrl-C in the terminal reaches us alone, and once.
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                start_new_session=os.name != "nt",
                env={**os.environ, "LITESTAR_QUIET_CONSOLE": "1"},
            )

    def _keep(self) -> None:
        pause = 1.0
        while (child := self._child) is not None:
            born = monotonic()
            code = child.wait()
            if self._stopping.is_set():
                return
            pause = 1.0 if monotonic() - born > STEADY else min(pause * 2, STEADY)
            _log.error("the worker process ended with status %s; starting it again", code)
            if self._stopping.wait(pause):
                return
            self._spawn()

    def stop(self, patience: float) -> None:
        self._stopping.set()
        with self._lock:
            child = self._child
        if child is None:
            return
        child.terminate()
        try:
            child.wait(patience)
        except subprocess.TimeoutExpired:
            _log.error("the worker process did not drain within %s s; ending it", patience)
            child.kill()
            child.wait()
        if child.stdin is not None:
            child.stdin.close()
