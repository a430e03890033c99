"""Rows of an answer as the models have them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from omniq.models.row import TaskRow, Unique
from omniq.models.status import Status

_FIELDS: Final = [
    "id",
    "queue",
    "lane",
    "name",
    "priority",
    "run_at",
    "created_at",
    "started_at",
    "finished_at",
    "expires_at",
    "keep_until",
    "attempt",
    "epoch",
    "losses",
    "waiting",
    "uniq",
    "uniq_until",
    "uniq_free",
    "grp",
    "tags",
    "fault",
    "cancel",
    "flags",
    "reply",
    "progress",
    "body",
    "error",
    "preview",
]
_COMPUTED: Final = {"waiting": "greatest(t.waiting, 0)"}
_SHORT: Final = {"body": "''::bytea", "error": "NULL::bytea"}


def columns(*, full: bool) -> str:
    """The select list for `read`; without body and error if not `full`."""
    computed = _COMPUTED if full else _COMPUTED | _SHORT
    fields = [computed.get(name, f"t.{name}") for name in _FIELDS]
    return ", ".join([*fields, "t.status", "t.claim", "t.owner"])


def read(records: Iterable[Any]) -> list[TaskRow]:
    """Rows of `columns`."""
    return [row(record, Status(record[28]), record[29], record[30]) for record in records]


def row(record: Any, status: Status, claim: str | None, owner: str | None) -> TaskRow:
    """One row; a record begins with the fields every answer has."""
    (
        id, queue, lane, name, priority, run_at, created_at, started_at, finished_at, expires_at,
        keep_until, attempt, epoch, losses, waiting, uniq, uniq_until, uniq_free, group, tags,
        fault, cancel, flags, reply, progress, body, error, preview, *_,
    ) = record  # fmt: skip
    return TaskRow(
        id=id,
        queue=queue,
        lane=lane,
        name=name,
        status=status,
        priority=priority,
        run_at=run_at,
        created_at=created_at,
        started_at=started_at,
        finished_at=finished_at,
        expires_at=expires_at,
        keep_until=keep_until,
        attempt=attempt,
        epoch=epoch,
        losses=losses,
        claim=claim,
        owner=owner,
        waiting=waiting,
        unique=None if uniq is None else Unique(uniq, uniq_until, uniq_free),
        group=group,
        tags=() if tags is None else tuple(tags),
        fault=fault,
        cancel=cancel,
        flags=flags,
        reply=reply,
        progress=progress,
        body=body,
        error=error,
        preview=preview,
    )
