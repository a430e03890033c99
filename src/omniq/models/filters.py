"""Questions to a storage and the shapes of its answers."""

from __future__ import annotations

from msgspec import Struct

from omniq.models.event import TaskEvent
from omniq.models.row import Ms, TaskRow
from omniq.models.status import EventType, Status


class Slot(Struct, frozen=True, gc=False, array_like=True):
    """Look for tasks of one lane in one queue.

    `limit` is the room left in that lane: slots that name the same lane share it.
    """

    queue: str
    lane: str
    limit: int


class Claim(Struct, frozen=True, gc=False, kw_only=True):
    """A worker process asks for work.

    `request` is made by the client: the same request again gives the rows it gave before.
    `limit` bounds all slots together. `lease` (ms) renews the owner's lease. `chores` is
    how many rows may be handed out besides, whose ending is a rule's business.
    """

    owner: str
    request: str
    slots: tuple[Slot, ...]
    limit: int
    lease: Ms
    chores: int = 0


class Batch(Struct, frozen=True, gc=False):
    """Claimed rows, in the order to be run; each is RUNNING under the claim's owner.

    `chores` are RUNNING too, with the reason in `flags` (see `Flag`) or `cancel`.
    `next_due` is the next `run_at` that lies ahead (ms), so that an idle pump can sleep
    exactly that long.
    """

    tasks: list[TaskRow]
    chores: list[TaskRow] = []
    next_due: Ms | None = None


class HeldTask(Struct, frozen=True, gc=False, array_like=True):
    """One running task as its worker knows it."""

    id: str
    epoch: int
    claim: str
    progress: bytes | None = None


class Held(Struct, frozen=True):
    """The answer to a heartbeat, by id.

    `lost` are no longer this owner's. `cancelled` should be stopped. `unknown` are leased
    to this owner in the store but not in its list: a claim whose answer got lost.
    """

    lost: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    unknown: tuple[HeldTask, ...] = ()


class TaskFilter(Struct, frozen=True, kw_only=True):
    """Which tasks; every field given must match. `text` looks into the redacted preview."""

    queues: tuple[str, ...] = ()
    statuses: tuple[Status, ...] = ()
    names: tuple[str, ...] = ()
    tag: str | None = None
    owner: str | None = None
    group: str | None = None
    parent: str | None = None
    fault: str | None = None
    text: str | None = None
    created_from: Ms | None = None
    created_to: Ms | None = None
    oldest_first: bool = False


class Page(Struct, frozen=True):
    """Rows by id (newest first unless asked otherwise). `cursor` is None at the end.

    A page may be short and still have a cursor: the search for text stops after a bounded
    number of rows.
    """

    rows: list[TaskRow]
    cursor: str | None = None


class QueueCount(Struct, frozen=True, array_like=True):
    """How many rows of a queue have a status."""

    queue: str
    status: Status
    count: int


class EventFilter(Struct, frozen=True, kw_only=True):
    """Which events; every field given must match."""

    task: str | None = None
    types: tuple[EventType, ...] = ()
    queues: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    at_from: Ms | None = None
    newest_first: bool = False


class EventPage(Struct, frozen=True):
    """Events in the order they were stored; `cursor` goes on from the last one read.

    It is given even when nothing is left, so that a reader can come back for what follows.
    """

    events: list[TaskEvent]
    cursor: str | None = None
