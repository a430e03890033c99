"""What OmniQ does at the end of a process, in an order that does not hang on imports.

`atexit` runs the newest hook first. A queue that has to give its tasks back needs connections
which would then be closed already, because the module that opens them was imported later.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from contextlib import ExitStack

Hook = Callable[[], object]

_loops: list[Hook] = []
_connections: list[Hook] = []


def end_loop_at_exit(hook: Hook) -> None:
    """First: whoever runs queues closes them."""
    _loops.append(hook)


def end_connections_at_exit(hook: Hook) -> None:
    """Then: what is still open belongs to nobody."""
    _connections.append(hook)


@atexit.register
def _end() -> None:
    with ExitStack() as last_first:
        for hook in reversed([*_loops, *_connections]):
            last_first.callback(hook)
