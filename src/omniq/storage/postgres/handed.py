"""What a claim asks of `claim_v1`, and what it was handed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from omniq.models.filters import Batch, Claim, Held, HeldTask
from omniq.models.row import Ms, TaskRow
from omniq.models.status import Status
from omniq.storage.postgres.hints import Key
from omniq.storage.postgres.rows import row as row_of

_SLOT, _RECEIPT, _WOKEN, _NEXT_DUE, _WALKED = range(28, 33)
_CHORE = -1


class End(NamedTuple):
    """What an answer says besides its rows."""

    receipt: str | None
    woken: list[str] | None
    walked: Sequence[int | None]


def claim_arguments(claim: Claim, hints: Sequence[Key | None], now: Ms | None) -> list[Any]:
    """The parameters of `claim_v1` but the receipt, in its order."""
    slots = claim.slots
    return [
        now,
        claim.owner,
        claim.request,
        [slot.queue for slot in slots],
        [slot.lane for slot in slots],
        [slot.limit for slot in slots],
        [hint and hint.rank for hint in hints],
        [hint and hint.run_at for hint in hints],
        [hint and hint.id for hint in hints],
        claim.limit,
        claim.lease,
        claim.chores,
    ]


def batch_of(claim: Claim, records: Sequence[Any]) -> tuple[Batch, End]:
    """Rows in the order to be run, and the rest."""
    owner, request, running = claim.owner, claim.request, Status.RUNNING
    tasks: list[tuple[tuple[int, int, Ms, str], TaskRow]] = []
    chores: list[TaskRow] = []
    for record in records[:-1]:
        row, slot = row_of(record, running, request, owner), record[_SLOT]
        if slot == _CHORE:
            chores.append(row)
        else:
            tasks.append(((slot, -row.priority, row.run_at, row.id), row))
    tasks.sort(key=_rank)
    end = records[-1]
    batch = Batch(tasks=[row for _, row in tasks], chores=chores, next_due=end[_NEXT_DUE])
    return batch, End(end[_RECEIPT], end[_WOKEN], end[_WALKED])


def progress_of(held: Sequence[HeldTask]) -> list[list[Any] | None]:
    """The parameters of `extend_v1` that say how far tasks are, by id."""
    told = sorted((task for task in held if task.progress is not None), key=lambda t: t.id)
    fields = [(task.id, task.epoch, task.claim, task.progress) for task in told]
    return [list(field) for field in zip(*fields, strict=True)] if told else [None] * 4


def held_of(held: Sequence[HeldTask], found: Sequence[Any]) -> Held:
    """What an owner says it holds beside what the store says."""
    running = {(id, epoch, claim): cancel for id, epoch, claim, cancel in found}
    lost, cancelled = [], []
    for task in held:
        cancel = running.pop((task.id, task.epoch, task.claim), None)
        if cancel is None:
            lost.append(task.id)
        elif cancel:
            cancelled.append(task.id)
    unknown = tuple(HeldTask(*fence) for fence in running)
    return Held(lost=tuple(lost), cancelled=tuple(cancelled), unknown=unknown)


def _rank(each: tuple[tuple[int, int, Ms, str], TaskRow]) -> tuple[int, int, Ms, str]:
    return each[0]
