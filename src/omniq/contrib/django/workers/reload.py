"""A worker that starts anew when code changes, by Django's own autoreloader.

As under `runserver` there are two processes. The parent starts the child again each time it
leaves because of a change, and if it does not come up again, waits for the next change. In the
child the main thread watches the files, and so the worker has another one; the main thread
passes stop signals on to it. Before the child leaves, tasks that run may end, or are given back
without losing an attempt.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from django.utils import autoreload

from omniq.contrib.signals import STOP, StopSignals

CHANGED = 3
"""The status with which Django's child asks to be started again."""
PATIENCE = 3.0
"""Seconds that running tasks get before a reload: somebody sits there and waits."""

EVERY = 1.0
"""Seconds between two looks at the files."""

Work = Callable[[StopSignals], int]


def run_reloading(work: Work) -> int:
    """Call `work` in the child, and look after the child in the parent; gives the status."""
    if os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) == "true":
        return _Child(work).run()
    return _parent()


class _Change(BaseException):
    """A stop signal came while files were watched."""


class _Child:
    def __init__(self, work: Work) -> None:
        self._stop = StopSignals(told=True)
        self._work = work
        self._status = 1
        self._watching = False
        self._reloader = autoreload.get_reloader()

    def run(self) -> int:
        worker = threading.Thread(
            target=autoreload.check_errors(self._run), name="django-main-thread", daemon=True
        )
        for each in STOP:
            signal.signal(each, self._on_signal)
        worker.start()
        changed = False
        try:
            self._watching = True
            while self._stop.received is None and not self._reloader.should_stop:
                self._reloader.run(worker)
        except _Change:
            pass
        except SystemExit as leaving:
            changed = leaving.code == CHANGED
        self._watching = False
        self._stop.ask(within=PATIENCE if changed else None)
        worker.join()
        return CHANGED if changed and self._stop.received is None else self._status

    def _run(self) -> None:
        self._status = self._work(self._stop)
        self._reloader.stop()  # it has left by itself: nobody needs to watch any more

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._stop.tell(number)
        if self._watching:
            self._watching = False
            raise _Change


def _parent() -> int:
    command = autoreload.get_child_arguments()
    environment = {**os.environ, autoreload.DJANGO_AUTORELOAD_ENV: "true"}
    told: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        told.append(number)
        if child is not None and not _told_by_terminal(number):
            child.send_signal(number)

    child: subprocess.Popen[Any] | None = None
    reloaded = False
    with _handling(on_signal):
        while True:
            seen = _files()
            child = subprocess.Popen(command, env=environment, close_fds=False)
            status = child.wait()
            if told or status not in (CHANGED, 1 if reloaded else CHANGED):
                return 0 if status == CHANGED else status if status >= 0 else 128 - status
            if status != CHANGED:
                sys.stderr.write("The worker did not come up; nothing runs until a file changes.\n")
                while not told and _files() == seen:
                    time.sleep(EVERY)
                if told:
                    return status
            reloaded = True


def _files() -> dict[Path, float]:
    """The files of the program and when each was changed last."""
    return dict(autoreload.StatReloader().snapshot_files())


@contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {each: signal.signal(each, handler) for each in STOP}
    try:
        yield
    finally:
        for each, old in before.items():
            signal.signal(each, old)


def _told_by_terminal(number: int) -> bool:
    """Whether the child has this signal already: a terminal sends its own to both."""
    if number == signal.SIGTERM:
        return False
    try:
        with Path("/dev/tty").open("rb") as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except (OSError, AttributeError):
        return os.name == "nt"
