"""Units: small records of change, each with its own guard, applied atomically with its riders."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypedDict

from msgspec import Struct

from omniq.models.event import TaskEvent
from omniq.models.row import Dep, Ms, TaskRow
from omniq.models.status import Status


class Fence(NamedTuple):
    """What a worker must show with every write: the claim it holds."""

    epoch: int
    claim: str


class Value(NamedTuple):
    """A result to be kept: bytes, and until when (ms, None: as long as the row)."""

    value: bytes
    until: Ms | None


class Patch(TypedDict, total=False):
    """Named fields a Move changes; what is not named stays as it is."""

    run_at: Ms
    attempt: int
    losses: int
    priority: int
    progress: bytes | None
    error: bytes | None
    fault: str | None
    body: bytes
    preview: str
    tags: tuple[str, ...]
    finished_at: Ms | None
    started_at: Ms | None
    keep_until: Ms | None
    expires_at: Ms | None


class Insert(Struct, frozen=True, gc=False, tag="insert"):
    """A new row. Guards: its id is free (a known id answers ALREADY) and so is its unique key.

    The storage decides the row's first status: WAITING with open parents, else SCHEDULED
    if `run_at` lies ahead, else READY; `row.status` is not read.
    """

    row: TaskRow
    deps: tuple[Dep, ...] = ()
    events: tuple[TaskEvent, ...] = ()


class Move(Struct, frozen=True, gc=False, kw_only=True, tag="move"):
    """A change of one row. Guards: its status is in `expect`, and the fence matches if given.

    `to=None` changes fields only. `to=READY` with a `run_at` ahead becomes SCHEDULED.
    `ask=True` cancels: before a run it moves to CANCELLED, a running row gets its cancel
    flag and answers CANCEL_ASKED. While that flag stands, a running row moves to a final
    status only. Leaving RUNNING clears claim and flags (the owner is kept). Leaving a final
    status (replay) takes the unique key again or is refused, and deletes the old result.
    Riders (`result`, `events`, `spawn`, `docs`) are applied only if the unit is; a refused
    rider is reported and undoes nothing.

    `wake` repeats the row's `reply` where the mover has just seen the row, as a worker has: the
    place then need not read it to know whose inbox to tell. None: not known.
    """

    id: str
    expect: tuple[Status, ...]
    to: Status | None = None
    fence: Fence | None = None
    patch: Patch = {}
    ask: bool = False
    result: Value | None = None
    events: tuple[TaskEvent, ...] = ()
    spawn: tuple[Insert, ...] = ()
    docs: tuple[PutDoc, ...] = ()
    wake: str | None = None


class PutDoc(Struct, frozen=True, gc=False, kw_only=True, tag="doc"):
    """Set (or, with `value=None`, delete) a small record.

    `expect` is the revision it must have: 0 = it must not exist, None = whatever it is.
    A record past its `expires_at` does not exist.
    """

    kind: str
    key: str
    value: bytes | None
    expect: int | None = None
    due_at: Ms | None = None
    expires_at: Ms | None = None
    events: tuple[TaskEvent, ...] = ()
    spawn: tuple[Insert, ...] = ()


class PutResult(Struct, frozen=True, gc=False, tag="result"):
    """A result on its own (a separate result place). Refused over a higher epoch."""

    id: str
    epoch: int
    value: bytes
    until: Ms | None = None


class PutEvents(Struct, frozen=True, gc=False, tag="events"):
    """Events on their own. Never refused; known ones are skipped."""

    events: tuple[TaskEvent, ...]


Unit = Insert | Move | PutDoc | PutResult | PutEvents


def is_alone(unit: Unit) -> bool:
    """Whether a unit is a new row that neither speaks of others nor tells of itself."""
    return type(unit) is Insert and not unit.deps and not unit.events and unit.row.unique is None


class Applied(IntEnum):
    """What became of a unit."""

    APPLIED = 1
    ALREADY = 2
    """An insert whose id is known: done before, nothing changed."""
    REFUSED = 3
    """A guard did not hold; nothing changed."""
    CANCEL_ASKED = 4
    """A running row got its cancel flag; its worker will answer."""


class Receipt(Struct, frozen=True, gc=False):
    """The answer to a batch, unit by unit in the order given."""

    outcome: list[Applied]
    taken: dict[int, str] = {}
    """Unit index -> id of the task that holds the unique key."""
    missing: dict[int, tuple[str, ...]] = {}
    """Unit index -> parents that do not exist (an Insert refused for it)."""
    riders_refused: dict[int, int] = {}
    """Unit index -> how many of its riders were refused."""
    woken: frozenset[str] = frozenset()
    """Queues in which a row became READY."""
    stranded: tuple[str, ...] = ()
    """Rows that now wait for a parent that will never succeed (a hint; chores carry them)."""
    unreleased: bool = False
    """Some unit ended a task with more children than it may release: `sweep` goes on."""
