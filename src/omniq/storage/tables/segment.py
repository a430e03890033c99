"""What one commit decided, as it stands in the log: values only, so that replay needs no rule."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from enum import IntEnum
from sys import intern
from typing import Literal, TypedDict

import msgspec
from msgspec import Struct, field
from msgspec.structs import force_setattr

from omniq.errors import SchemaError, StorageError
from omniq.models.event import TaskEvent
from omniq.models.row import Doc, Ms, ResultRow, TaskRow
from omniq.models.status import Status

FORMAT = 1
"""What this version writes."""


class EdgeState(IntEnum):
    """How far a parent is with one child."""

    OPEN = 1
    """It has not ended, or has not come to this child yet."""
    MET = 2
    FAILED = 3
    """It ended, but not as the child needed."""
    CLOSED = 4
    """The child ended first."""


class Edge(Struct, frozen=True, array_like=True):
    """A child waits, or waited, for a parent."""

    need: Literal["success", "end"]
    state: EdgeState


class Holder(Struct, frozen=True, array_like=True):
    """The task that has a unique key, and until when at most."""

    id: str
    until: Ms | None


class Change(TypedDict, total=False):
    """Fields of a row and their new values; what is not named stays."""

    status: Status
    priority: int
    run_at: Ms
    started_at: Ms | None
    finished_at: Ms | None
    expires_at: Ms | None
    keep_until: Ms | None
    attempt: int
    epoch: int
    losses: int
    claim: str | None
    owner: str | None
    waiting: int
    tags: tuple[str, ...]
    fault: str | None
    cancel: bool
    flags: int
    progress: bytes | None
    body: bytes
    error: bytes | None
    preview: str


class Segment(Struct, omit_defaults=True):
    """One commit. Where a value may be None, None removes.

    `id` is the commit's own id and `prev` that of the commit before it. Rows are inserted
    first, then changed, then deleted; the rest in the order of the fields. `v` is the format
    it was written in, `least` the oldest one whose readers understand it.
    """

    v: int = FORMAT
    least: int = 1
    id: str = ""
    prev: str = ""
    who: str = ""
    at: Ms = 0
    ins: list[TaskRow] = []
    set: dict[str, Change] = {}
    gone: list[str] = field(default_factory=list, name="del")
    edges: dict[str, dict[str, Edge]] = {}
    """Child -> parent -> edge."""
    docs: dict[str, dict[str, Doc | None]] = {}
    """Kind -> key -> doc."""
    uniq: dict[str, Holder | None] = {}
    res: dict[str, ResultRow | None] = {}
    ev: list[TaskEvent] = []
    unev: list[int] = []
    """Events to be forgotten, by their number."""
    leases: dict[str, Ms] = {}

    def __bool__(self) -> bool:
        """Whether anything was decided."""
        return bool(
            self.ins
            or self.set
            or self.gone
            or self.edges
            or self.docs
            or self.uniq
            or self.res
            or self.ev
            or self.unev
            or self.leases
        )


class Head(Struct):
    """What every version writes alike, so that an older one can tell what it cannot read."""

    least: int = 1


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Segment)
_HEAD = msgspec.msgpack.Decoder(Head)


def encode(segment: Segment) -> bytes:
    """The bytes of a segment."""
    return _ENCODER.encode(segment)


def decode(data: bytes) -> Segment:
    """A segment from its bytes."""
    try:
        segment = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        check_head(data)
        raise StorageError(f"an entry of the log cannot be read: {error}") from None
    check_format(segment.least)
    share_words(segment.ins, segment.ev, segment.set)
    return segment


def share_words(
    rows: Iterable[TaskRow], events: Iterable[TaskEvent | None], changes: dict[str, Change]
) -> None:
    """Let equal words be one object: every row has its own from the decoder, a third of it."""
    ids: dict[str, str] = {}
    for row in rows:
        ids[row.id] = row.id
        force_setattr(row, "queue", intern(row.queue))
        force_setattr(row, "lane", intern(row.lane))
        force_setattr(row, "name", intern(row.name))
        for name in ("reply", "owner", "claim"):
            word = getattr(row, name)
            if word is not None:
                force_setattr(row, name, ids.setdefault(word, word))
    for change in changes.values():
        if (owner := change.get("owner")) is not None:
            change["owner"] = intern(owner)
        if (claim := change.get("claim")) is not None:
            change["claim"] = ids.setdefault(claim, claim)
    for event in events:
        if event is not None:
            force_setattr(event, "task", ids.setdefault(event.task, event.task))
            force_setattr(event, "queue", intern(event.queue))
            force_setattr(event, "name", intern(event.name))
            force_setattr(event, "worker", intern(event.worker))


def check_head(data: bytes) -> None:
    """Refuse what a newer version wrote, where the rest of it says nothing to this one."""
    with suppress(msgspec.MsgspecError, UnicodeDecodeError):
        check_format(_HEAD.decode(data).least)


def check_format(least: int) -> None:
    """Refuse what this version cannot read."""
    if least > FORMAT:
        raise SchemaError(
            f"the log has entries of format {least}, this version of OmniQ reads format "
            f"{FORMAT}: upgrade OmniQ here as well"
        )
