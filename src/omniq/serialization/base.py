"""What every serializer shares: the envelope's words, and what an envelope is bound to.

A payload is one tag byte, for signed formats a signature, and the encoded bytes. The tag says
how to read the rest, and is itself part of what is signed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

PLAIN: Final = 0x01
"""msgpack, unsigned: arguments of a registered function, or a value."""
SIGNED: Final = 0x02
"""msgpack, signed: arguments of a function that is known by its signed name only."""
DILL: Final = 0x03
"""dill, signed: arguments or a value that msgpack cannot hold."""
CARRIED: Final = 0x04
"""dill, signed: the function itself and its arguments."""


class Binding(NamedTuple):
    """What a payload belongs to; a signature holds for exactly this and nothing else.

    `field` is "args", "result" or "progress"; `function` is the row's name. `epoch` is the
    claim a result was made under (0 for arguments, which are written before any claim).
    """

    namespace: str
    queue: str
    task_id: str
    field: str
    function: str
    epoch: int = 0


class Call(NamedTuple):
    """A decoded call. `func` is set if the function came along.

    `signed` says that the call, the function's name included, carried a trusted signature.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    func: Callable[..., Any] | None = None
    signed: bool = False


class Unfit(Exception):
    """A serializer does not take this value. Internal: the manager turns it into an answer."""
