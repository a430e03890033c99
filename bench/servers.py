"""The places that are measured: each server is started once, by the tests' own means."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
from contextlib import ExitStack
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.servers.nats import Nats
from tests.servers.postgres import Postgres, Programs, new_folder
from tests.servers.server import Server
from tests.servers.valkey import Valkey

PLACES = ("memory", "sqlite", "file", "postgres", "redis", "nats")

_STARTED = ExitStack()
atexit.register(_STARTED.close)


def at(place: str, folder: Path) -> str:
    """The URL of a place: a new one in `folder`, or a server that all runs share.

    `OMNIQ_TEST_POSTGRES_URL` and the like name servers that are there already.
    """
    match place:
        case "memory":
            return "memory://"
        case "sqlite":
            return f"sqlite:///{folder}/omniq.db"
        case "file":
            return f"file://{folder}/tasks"
    return os.environ.get(f"OMNIQ_TEST_{place.upper()}_URL") or _server(place)


@cache
def _server(place: str) -> str:
    folder = _folder() / place
    match place:
        case "postgres":
            return _start(Postgres(Programs(_folder() / "programs"), folder))
        case "redis":
            return _start(Valkey(folder))
        case _:
            return _start(Nats(folder))


def _start(server: Server) -> str:
    return _STARTED.enter_context(server).url


@cache
def _folder() -> Path:
    folder = new_folder()
    _STARTED.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder
