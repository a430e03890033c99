"""What tests of the NATS storage do beside it: another client, a log, a wire that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import nats
from nats.aio.client import Client

from omniq.storage.nats.address import read_address
from omniq.storage.nats.log import NATSLog
from tests.servers.nats import Nats, find
from tests.servers.server import LOOPBACK, ask

T = TypeVar("T")


def new_namespace() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@contextmanager
def opened(url: str, namespace: str) -> Iterator[NATSLog]:
    """A log, open for a while."""
    log = NATSLog(read_address(url, {}), namespace)
    log.open()
    try:
        yield log
    finally:
        log.close()


async def by_operator(url: str, do: Callable[[Client], Awaitable[T]]) -> T:
    """What somebody does with the server's own client."""
    client = await nats.connect(url.split(","))
    try:
        return await do(client)
    finally:
        await client.close()


def operate(url: str, do: Callable[[Client], Awaitable[T]]) -> T:
    """The same where no loop runs."""
    return asyncio.run(by_operator(url, do))


class Ruled(Nats):
    """A server that lets in whom its configuration says."""

    def __init__(self, folder: Path, rules: str) -> None:
        super().__init__(folder)
        self.rules = rules

    @property
    def where(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def prepare(self) -> None:
        super().prepare()
        (self.folder / "rules.conf").write_text(self.rules)

    def command(self) -> list[str | Path]:
        keep = ["-js", "-sd", self.folder / "data", "-c", self.folder / "rules.conf"]
        return [find(), "-a", LOOPBACK, "-p", str(self.port), *keep]

    def ready(self) -> bool:
        return ask(self.port, b"", b"INFO")


class Wire:
    """A way to a server that can be cut in the middle of an answer."""

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._door = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.swallow: bytes | None = None
        """The next request that holds these bytes is passed on; its answer never comes."""
        self.cuts = 0
        who = f"{self._to.username}:{self._to.password}@" if self._to.username else ""
        self.url = f"nats://{who}127.0.0.1:{self._door.getsockname()[1]}"

    def __enter__(self) -> Wire:
        self._start(self._welcome)
        return self

    def __exit__(self, *_: object) -> None:
        self._shut(self._door)
        self.cut()

    def cut(self) -> None:
        """Cut all connections there are."""
        ends, self._open = self._open, []
        for end in ends:
            self._shut(end)

    def _welcome(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._connect(self._door.accept()[0])

    def _connect(self, near: socket.socket) -> None:
        assert self._to.hostname is not None
        assert self._to.port is not None
        try:
            far = socket.create_connection((self._to.hostname, self._to.port))
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # there may be another one
            self._shut(near)
            return
        self._open += [near, far]
        heard = threading.Event()
        self._start(self._forth, near, far, heard)
        self._start(self._back, far, near, heard)

    def _forth(self, near: socket.socket, far: socket.socket, heard: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                if self.swallow is not None and self.swallow in data:
                    self.swallow = None
                    self.cuts += 1
                    near.shutdown(socket.SHUT_WR)  # nothing goes back from here on
                    heard.clear()  # of what was asked before
                    far.sendall(data)
                    far.sendall(b"PING\r\n")
                    heard.wait(60)
                    break
                far.sendall(data)
        self._shut(near)
        self._shut(far)

    def _back(self, far: socket.socket, near: socket.socket, heard: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := far.recv(65536):
                if b"PONG" in data:
                    heard.set()
                with contextlib.suppress(BrokenPipeError):
                    near.sendall(data)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        threading.Thread(target=target, args=args, daemon=True).start()

    @staticmethod
    def _shut(end: socket.socket) -> None:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
