"""The durable places as torture finds them: with settings for every process, and a server."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..servers.server import Server

SERVED = {"postgres": "private_postgres", "redis": "private_redis", "nats": "private_nats"}
"""Which fixture starts the server of a place that has one."""
LOCAL = ("sqlite", "file")
DURABLE = (*LOCAL, *SERVED)


class Site(NamedTuple):
    """One place for one test."""

    name: str
    settings: dict[str, Any]
    """What AsyncOmniQ is told, as JSON can say it."""
    server: Server | None
