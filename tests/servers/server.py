"""A server program: started, killed, stopped and started again on the same port and data."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Self

LEASH = Path(__file__).with_name("leash.py")
PATIENCE = 60.0
"""Seconds for what should take one: only a machine that hangs gets there."""
LOOPBACK = "127.0.0.1"

# A server ends with the thread that started it (see leash.py), so that must be one that stays.
_STARTER = ThreadPoolExecutor(1, thread_name_prefix="servers")


class Server(ABC):
    """One server of ours. `url` is what a user would write; a block ends it."""

    name: ClassVar[str]
    polite: ClassVar[signal.Signals] = signal.SIGTERM
    """What ends it in good order."""
    abrupt: ClassVar[signal.Signals] = signal.SIGKILL
    """What ends it and its children at once, when nobody needs it any more."""

    def __init__(self, folder: Path) -> None:
        """`folder` is its own: data and log; it need not be there yet."""
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str: ...

    @abstractmethod
    def command(self) -> list[str | Path]:
        """The program, by its full path, and its arguments."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it would serve now; an OSError means no."""

    def prepare(self) -> None:
        """What must be there before the first start."""
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def uid(self) -> int:
        """Whom it runs as."""
        return os.geteuid()

    # ---- its life

    def start(self) -> Self:
        """Start it and wait until it serves. Again after an end: same port, same data."""
        if self.process is None:
            self.prepare()
        until = time.monotonic() + PATIENCE
        while not self._serves(until):
            # It ended at once. A killed PostgreSQL's children may still hold its memory, or
            # somebody took the port between our look and its bind.
            if time.monotonic() > until:
                raise AssertionError(f"{self.name} does not start:\n{self.log()[-4000:]}")
            time.sleep(0.05)
        return self

    def _serves(self, until: float) -> bool:
        """Start it once; False if it ended before it served."""
        process = self.process = _STARTER.submit(self._spawn).result()
        while process.poll() is None:
            with suppress(OSError):
                if self.ready():
                    return True
            if time.monotonic() > until:
                process.kill()
                process.wait()
                raise AssertionError(f"{self.name} never served:\n{self.log()[-4000:]}")
            time.sleep(0.01)  # nothing tells when a port begins to be listened at
        return False

    def _spawn(self) -> subprocess.Popen[bytes]:
        leash = [sys.executable, "-I", "-S", str(LEASH), os.getpid(), self.uid, int(self.abrupt)]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [*map(str, leash), *map(str, self.command())],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt at the terminal is ours to pass on
            )

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.name} was not started"
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL, as if somebody pulled the plug of this program; its files stay.

        With all it started: a killed PostgreSQL's backends answer for a moment longer.
        """
        if self.process is None or self.process.poll() is not None:
            return
        os.kill(self.pid, signal.SIGSTOP)  # from here on it starts no others
        children = _children(self.pid)
        self._end(signal.SIGKILL)
        _kill(children)

    def stop(self) -> None:
        """End it in good order; by force if it does not."""
        self._end(self.polite)

    def _end(self, number: signal.Signals) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def pause(self) -> None:
        """Stop it in the middle of whatever it does: connections stay, answers do not come."""
        os.kill(self.pid, signal.SIGSTOP)  # from here on it starts no others
        pids = [self.pid, *_children(self.pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        _until(lambda: all(_state(pid) in _STILL for pid in pids), f"some of {pids} do not stop")

    def resume(self) -> None:
        """Let it go on."""
        for pid in [*_children(self.pid), self.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def log(self) -> str:
        """Everything it said."""
        return (self.folder / "log").read_text(errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.resume()
            self._end(self.abrupt)  # nobody will want its files
        give_back(self.port)
        shutil.rmtree(self.folder, ignore_errors=True)


def _children(pid: int) -> list[int]:
    """The processes a server started for itself."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True)
    pairs = [tuple(map(int, line.split())) for line in listed.stdout.splitlines()]
    return [child for child, parent in pairs if parent == pid]


def _kill(pids: list[int]) -> None:
    """Kill processes that nobody waits for, and see them gone, with their sockets."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _until(lambda: all(_state(pid) in _ENDED for pid in pids), f"some of {pids} outlived SIGKILL")


_ENDED = ("", "Z")
"""Gone, or ended and not waited for."""
_STILL = (*_ENDED, "T")


def _state(pid: int) -> str:
    """What `ps` calls the state of a process."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return listed.stdout.strip()[:1]


def _until(true: Callable[[], bool], why: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, why
        time.sleep(0.001)


def free_port() -> int:
    """A port nobody listens at, below those the system gives to outgoing connections.

    From among those, a client that tries to reach a killed server could be given the server's
    own port, and then talk to itself while the server cannot come back.

    It is kept from other tests, of other processes too, until it is given back: they would take
    it while its server is not there yet, or was killed.
    """
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        mark = socket.socket(type=socket.SOCK_DGRAM)  # no server of ours listens at these
        try:
            mark.bind((LOOPBACK, port))
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((LOOPBACK, port))
        except OSError:
            mark.close()
            continue
        _marks[port] = mark
        return port


def give_back(port: int) -> None:
    """Let others have a port."""
    if (mark := _marks.pop(port, None)) is not None:
        mark.close()


@atexit.register
def _give_all_back() -> None:
    for port in list(_marks):
        give_back(port)


_marks: dict[int, socket.socket] = {}


def ask(port: int, send: bytes, wanted: bytes, *, seconds: float = 1.0) -> bool:
    """Whether a server at this port answers with these bytes."""
    with socket.create_connection((LOOPBACK, port), seconds) as wire:
        wire.settimeout(seconds)
        wire.sendall(send)
        answer = b""
        while wanted not in answer:
            more = wire.recv(65_536)
            if not more:
                return False
            answer += more
        return True
