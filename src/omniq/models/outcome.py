"""How one run of a task ended, as its lane tells it; what follows is decided by the rules."""

from __future__ import annotations

from msgspec import Struct

from omniq.models.result import AttemptError


class Succeeded(Struct, frozen=True, gc=False):
    """It returned; `value` is the encoded result."""

    value: bytes


class Failed(Struct, frozen=True):
    """It raised, or ran out of time.

    `again`: True and False overrule the retry rules; `delay` (seconds) replaces theirs.
    """

    error: AttemptError
    again: bool | None = None
    delay: float | None = None


class Snoozed(Struct, frozen=True):
    """It asked to be run again later; the attempt does not count. `delay` in seconds."""

    delay: float


class Released(Struct, frozen=True):
    """It was given back unfinished: its worker stops, or had no slot for it in time.

    The attempt does not count. `started` False: it was never begun.
    """

    started: bool = True


class Cancelled(Struct, frozen=True):
    """It was stopped because somebody cancelled it."""


class UnknownFunction(Struct, frozen=True):
    """This worker does not know the function; others may. `reason` says what was looked for."""

    reason: str


Outcome = Succeeded | Failed | Snoozed | Released | Cancelled | UnknownFunction
