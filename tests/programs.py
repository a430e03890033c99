"""Real processes for tests: started, listened to, and ended by their own id."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Self

from tests.servers.server import free_port as free_port

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0
"""Seconds to wait for what should take one: only a machine that hangs gets there."""


class Program:
    """A process whose output is kept as it comes; on leaving the block it is gone."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        paths: Sequence[Path] = (),
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=cwd,
            env=environment(paths) | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    @property
    def output(self) -> str:
        """Everything it has said so far, standard error included."""
        with self._news:
            return "".join(self._lines)

    def says(self, pattern: str) -> re.Match[str]:
        """Wait until its output holds the pattern; an AssertionError with the output if not."""
        until = monotonic() + PATIENCE
        with self._news:
            while True:
                found = re.search(pattern, "".join(self._lines))
                if found is not None:
                    return found
                left = until - monotonic()
                assert (
                    left > 0 and not self._ended
                ), f"never said {pattern!r}, but:\n{''.join(self._lines)}"
                self._news.wait(left)

    def heard(self, pattern: str, seconds: float) -> bool:
        """Whether it says that within so many seconds."""
        with self._news:
            self._news.wait_for(lambda: self._has(pattern) or self._ended, seconds)
            return self._has(pattern)

    def _has(self, pattern: str) -> bool:
        return re.search(pattern, "".join(self._lines)) is not None

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self) -> int:
        """Wait for its end and give its status; negative: the signal that ended it."""
        status = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):  # its children too, or they would hold its output open
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Server(Program):
    """uvicorn with an app, on a free port; `url` once it serves."""

    def __init__(
        self,
        app: str,
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        paths: Sequence[Path] = (),
    ) -> None:
        command = ["-m", "uvicorn", app, "--port", "0"]
        super().__init__(command, cwd=cwd, env=env, paths=[cwd, *paths])

    @property
    def url(self) -> str:
        return self.says(r"running on (http://\S+)")[1]


def run(
    command: Sequence[str | Path], *, cwd: Path, paths: Sequence[Path] = (), **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with what it says on both channels apart."""
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=environment(paths) | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def environment(paths: Sequence[Path]) -> dict[str, str]:
    """This process's environment without settings, and with folders to find modules in."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMNIQ_", "LITESTAR_"))}
    found = os.pathsep.join(map(str, paths))
    return clean | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": found, "COLUMNS": "200"}
