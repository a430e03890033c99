"""What a storage keeps: rows, results, small documents. Bytes here are never opened below."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from omniq.models.status import Status

Ms = int
"""A stamp: integer milliseconds since 1970, UTC."""


class Unique(Struct, frozen=True, gc=False, array_like=True):
    """A key only one living task may hold.

    `free` says when it is given back: when the holder starts, when it ends, or only when
    `until` has passed. `until` (ms) frees it in every case.
    """

    key: str
    until: Ms | None = None
    free: Literal["start", "end", "time"] = "end"


class Dep(Struct, frozen=True, gc=False, array_like=True):
    """One parent a task waits for.

    `need`: the parent must succeed, or only end. `missing`: what a parent that is not in
    the store counts as: done, failed, or a reason to refuse the insert.
    """

    parent: str
    need: Literal["success", "end"] = "success"
    missing: Literal["done", "fail", "refuse"] = "refuse"


class Flag:
    """Bits of `TaskRow.flags`: why a row was handed out as a chore, or waits to be."""

    STRANDED = 1
    """A parent it needed did not succeed."""
    EXPIRED = 2
    """Its TTL passed before a start."""
    LOST = 4
    """Its worker's lease ran out."""


class TaskRow(Struct, frozen=True, kw_only=True, gc=False):
    """One task as the store keeps it. Hot fields may be looked at, cold ones never are.

    `claim` is the request id of the claim that holds it and `epoch` counts claims: together
    they are the fence of every later write. `attempt` counts runs that were not given back.
    """

    id: str
    queue: str
    lane: str
    name: str
    status: Status
    priority: int = 0
    run_at: Ms = 0
    created_at: Ms = 0
    started_at: Ms | None = None
    finished_at: Ms | None = None
    expires_at: Ms | None = None
    keep_until: Ms | None = None
    attempt: int = 0
    epoch: int = 0
    losses: int = 0
    claim: str | None = None
    owner: str | None = None
    waiting: int = 0
    unique: Unique | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    fault: str | None = None
    cancel: bool = False
    flags: int = 0
    reply: str | None = None
    progress: bytes | None = None
    body: bytes = b""
    error: bytes | None = None
    preview: str = ""


COLD = frozenset({"body", "error", "preview"})


class ResultRow(Struct, frozen=True, gc=False, array_like=True):
    """A result's bytes. It counts only if its row is final with the same epoch."""

    id: str
    epoch: int
    value: bytes
    until: Ms | None = None


class Doc(Struct, frozen=True, gc=False, array_like=True):
    """A small record changed by compare-and-set: `rev` starts at 1 and grows by 1."""

    kind: str
    key: str
    value: bytes
    rev: int
    due_at: Ms | None = None
    expires_at: Ms | None = None
