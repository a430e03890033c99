"""Who a worker process is, and whether another one on this machine still lives."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path


@cache
def host() -> str:
    """The machine, as far as process ids are concerned.

    Two containers may share a host name and a file, but not their processes: the name of
    the process namespace and the id of this boot tell them apart where Linux says them.
    """
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
    return "/".join(parts)


def is_dead(pid: int) -> bool:
    """Whether no process of this machine has this id. A doubtful answer is False."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
