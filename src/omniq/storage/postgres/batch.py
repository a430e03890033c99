"""Units on their way to `apply_v1`, and its answer on the way back."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec
from msgspec import Struct

from omniq.models.row import TaskRow
from omniq.models.status import FINAL, Status
from omniq.models.units import Applied, Insert, Move, PutDoc, Receipt, Unit

encode = msgspec.json.Encoder().encode

_ONLY_RUNNING: Final = (Status.RUNNING,)
_END: Final = {"finished_at", "keep_until"}
_ENDS: Final = 9
_INSERTS: Final = 13
_NO_ENDS: Final = (None,) * _ENDS
_NO_INSERTS: Final = (None,) * _INSERTS
_SECOND: Final = itemgetter(1)
_NONE: Final = (None,) * 5
_NUL, _UNKNOWN = "\0", "\N{REPLACEMENT CHARACTER}"
"""PostgreSQL's text cannot hold the first. What is shown to people gets the second for it."""

APPLY_ARGS: Final = 1 + _ENDS + _INSERTS + 3


class Answer(Struct):
    """What `apply_v1` and `sweep_v1` answer; what is empty is left out."""

    refused: dict[int, int] = {}
    taken: dict[int, str] = {}
    missing: dict[int, tuple[str, ...]] = {}
    riders: dict[int, int] = {}
    woken: list[str] = []
    later: list[str] = []
    stranded: tuple[str, ...] = ()
    inboxes: list[str] = []
    owners: list[str] = []
    kinds: list[str] = []
    unreleased: bool = False
    told: bool = False

    def topics(self) -> set[str]:
        """What to signal, but for "tasks"."""
        topics = {f"queue:{name}" for name in self.woken}
        topics.update(f"queue:{name}" for name in self.later)
        topics.update(f"inbox:{name}" for name in self.inboxes)
        topics.update(f"owner:{name}" for name in self.owners)
        topics.update(f"docs:{name}" for name in self.kinds)
        if self.told:
            topics.add("events")
        return topics


decode_answer = msgspec.json.Decoder(Answer, strict=False).decode


def arguments(units: Sequence[Unit], now: int | None) -> list[Any]:
    """The parameters of `apply_v1`, in its order."""
    ends: list[tuple[Any, ...]] = []
    inserts: list[tuple[Any, ...]] = []
    others: list[tuple[int, Unit]] = []
    told: list[tuple[int, Any]] = []
    known: set[str] = set()
    for at, unit in enumerate(units):
        if type(unit) is Move and _is_end(unit):
            fence, patch = unit.fence, unit.patch
            assert fence is not None and unit.to is not None
            value, until = unit.result or (None, None)
            ends.append(
                (at, unit.id, *fence, unit.to, patch["finished_at"], patch["keep_until"], value, until)
            )
        elif (
            type(unit) is Insert
            and not unit.deps
            and unit.row.id not in known
            and _is_usual(row := unit.row)
        ):
            known.add(row.id)
            preview = row.preview
            inserts.append(
                (
                    at,
                    row.id,
                    row.queue,
                    row.lane,
                    row.name,
                    row.priority,
                    row.run_at,
                    row.created_at,
                    row.expires_at,
                    encode(row.tags).decode() if row.tags else None,
                    row.reply,
                    preview if _NUL not in preview else preview.replace(_NUL, _UNKNOWN),
                    row.body,
                )
            )
        else:
            others.append((at, unit))
            known.update(_named(unit))
            continue
        if unit.events:
            told.append((at, unit.events))
    if len(ends) > 1:
        ends.sort(key=_SECOND)  # rows are locked by id, everywhere
    return [
        now,
        *(map(list, zip(*ends, strict=True)) if ends else _NO_ENDS),
        *(map(list, zip(*inserts, strict=True)) if inserts else _NO_INSERTS),
        encode_plain(others) if others else None,
        _locks(ends, others),
        encode_plain(told) if told else None,
    ]


def receipt(count: int, answer: Answer) -> Receipt:
    """The answer in the port's words."""
    outcome = [Applied.APPLIED] * count
    for at, what in answer.refused.items():
        outcome[at] = Applied(what)
    return Receipt(
        outcome=outcome,
        taken=answer.taken,
        missing=answer.missing,
        riders_refused=answer.riders,
        woken=frozenset(answer.woken),
        stranded=answer.stranded,
        unreleased=answer.unreleased,
    )


def resendable(units: Sequence[Unit]) -> bool:
    """Whether a batch sent twice gets an answer that means the same: all of them inserts."""
    return all(type(unit) is Insert for unit in units)


def _is_end(unit: Move) -> bool:
    """Whether a worker ends a task as most tasks end."""
    return (
        unit.to is not None
        and unit.to >= FINAL
        and unit.fence is not None
        and unit.expect == _ONLY_RUNNING
        and unit.patch.keys() == _END
        and not (unit.ask or unit.spawn or unit.docs)
    )


def _is_usual(row: TaskRow) -> bool:
    """Whether the columns of plain inserts say everything about a new row."""
    return (
        row.unique is None
        and row.attempt == row.epoch == row.losses == row.flags == 0
        and (row.keep_until, row.group, row.fault, row.progress, row.error) == _NONE
    )


def _named(unit: Unit) -> list[str]:
    """Ids a unit speaks of, behind which a new row of that id must not be put before it."""
    if type(unit) is Insert:
        return [unit.row.id, *(dep.parent for dep in unit.deps)]
    if isinstance(unit, Move | PutDoc):
        named = [id for each in unit.spawn for id in _named(each)]
        if isinstance(unit, Move):
            named += [id for each in unit.docs for id in _named(each)]
            named.append(unit.id)
        return named
    return []


def _locks(
    ends: Sequence[tuple[Any, ...]], others: Sequence[tuple[int, Unit]]
) -> list[str] | None:
    """Rows that must be locked together, by id, before anything is done."""
    if not others or len(ends) + len(others) < 2:
        return None
    ids = {end[1] for end in ends}
    for _, unit in others:
        ids.update(_named(unit))
    return sorted(ids) if len(ids) > 1 else None


def encode_plain(value: Any) -> str:
    """JSON that PostgreSQL takes."""
    text = encode(value)
    if b"\\u0000" in text:
        text = encode(_without_nul(msgspec.json.decode(text)))
    return text.decode()


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(_NUL, _UNKNOWN)
    if isinstance(value, list):
        return [_without_nul(each) for each in value]
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(each) for key, each in value.items()}
    return value


__all__ = ["APPLY_ARGS", "Answer", "arguments", "decode_answer", "encode_plain", "receipt", "resendable"]
