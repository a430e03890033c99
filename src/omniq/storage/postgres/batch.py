"""Units on their way to `apply_v1`, and its answer on the way back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any, Final

import msgspec
from msgspec import Struct

from omniq.models.row import TaskRow
from omniq.models.status import FINAL, Status
from omniq.models.units import Applied, Insert, Move, PutDoc, Receipt, Unit, is_alone

encode = msgspec.json.Encoder().encode

_ONLY_RUNNING: Final = (Status.RUNNING,)
_END: Final = {"finished_at", "keep_until"}
_ENDS: Final = 11
_INSERTS: Final = 15
_NO_ENDS: Final = (None,) * _ENDS
_NO_INSERTS: Final = (None,) * _INSERTS
_NO_RESULT: Final = (None, None)
_NONE: Final = (None,) * 5
_NEXT, _NULL = "\x1f", "\x1e"
"""Between two values of a packed text, and for one that is NULL: see `unpack_v1`."""
_NUL, _UNKNOWN = "\0", "\N{REPLACEMENT CHARACTER}"
"""PostgreSQL's text cannot hold the first. What is shown to people gets the second for it."""
_READABLE: Final = dict.fromkeys(map(ord, (_NUL, _NEXT, _NULL)), _UNKNOWN)

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


def arguments(units: Sequence[Unit], now: int | None, *, plain: bool = True) -> list[Any]:
    """The parameters of `apply_v1`, in its order. Not `plain`: each unit by itself."""
    if plain and len(units) > 1 and all(map(_is_plain_insert, units)):
        rows = [unit.row for unit in units]  # type: ignore[union-attr]
        if len({row.id for row in rows}) == len(rows):
            with suppress(_CannotPack):
                return [now, *_NO_ENDS, None, *_pack_rows(rows), None, None, None]
    ends: list[tuple[int, Move]] = []
    inserts: list[tuple[int, TaskRow]] = []
    others: list[tuple[int, Unit]] = []
    told: list[tuple[int, Any]] = []
    known: set[str] = set()
    for at, unit in enumerate(units):
        if not plain:
            others.append((at, unit))
            continue
        if type(unit) is Move and _is_end(unit):
            ends.append((at, unit))
        elif (
            type(unit) is Insert
            and not unit.deps
            and (row := unit.row).id not in known
            and _is_usual(row)
        ):
            known.add(row.id)
            inserts.append((at, row))
        else:
            others.append((at, unit))
            known.update(_named(unit))
            continue
        if unit.events:
            told.append((at, unit.events))
    if len(ends) > 1:
        ends.sort(key=_id_of_end)  # rows are locked by id, everywhere
    try:
        packed = (
            *(_pack_ends(ends) if ends else _NO_ENDS),
            *(_pack_inserts(inserts) if inserts else _NO_INSERTS),
        )
    except _CannotPack:
        return arguments(units, now, plain=False)
    return [
        now,
        *packed,
        encode_plain(others) if others else None,
        _locks(ends, others),
        encode_plain(told) if told else None,
    ]


def lone(units: Sequence[Unit], now: int | None) -> list[Any] | None:
    """The parameters of `add_v1`, if these units are one new row that it can insert."""
    if len(units) != 1 or not _is_plain_insert(units[0]):
        return None
    row = units[0].row  # type: ignore[union-attr]
    texts = (row.id, row.queue, row.lane, row.name, row.reply)
    if any(text is not None and _NUL in text for text in texts):
        return None
    return [
        now,
        *(row.id, row.queue, row.lane, row.name),
        *(row.priority, row.run_at, row.created_at, row.expires_at),
        encode_plain(row.tags) if row.tags else None,
        row.reply,
        _shown(row.preview),
        row.body,
    ]


def added(row: TaskRow, status: int | None) -> Answer:
    """What `add_v1` answered of a row."""
    if status is None:
        return Answer(refused={0: Applied.ALREADY})
    if status == Status.READY:
        return Answer(woken=[row.queue])
    return Answer(later=[row.queue])


def _pack_ends(ends: Sequence[tuple[int, Move]]) -> tuple[Any, ...]:
    moves = [move for _, move in ends]
    fences: list[Any] = [move.fence for move in moves]
    patches: list[Any] = [move.patch for move in moves]
    results = [move.result or _NO_RESULT for move in moves]
    return (
        _places([at for at, _ in ends]),
        _pack([move.id for move in moves]),
        _pack([fence.epoch for fence in fences]),
        _pack([fence.claim for fence in fences]),
        _pack([int(move.to or 0) for move in moves]),
        _pack([patch["finished_at"] for patch in patches]),
        _pack([patch["keep_until"] for patch in patches]),
        _pack([until for _, until in results]),
        *_pack_bytes([value for value, _ in results]),
    )


def _pack_inserts(inserts: Sequence[tuple[int, TaskRow]]) -> tuple[Any, ...]:
    return (_places([at for at, _ in inserts]), *_pack_rows([row for _, row in inserts]))


def _pack_rows(rows: list[TaskRow]) -> tuple[Any, ...]:
    tags = [encode_plain(row.tags) if row.tags else None for row in rows]
    return (
        _pack([row.id for row in rows]),
        _pack([row.queue for row in rows]),
        _pack([row.lane for row in rows]),
        _pack([row.name for row in rows]),
        _pack([row.priority for row in rows]),
        _pack([row.run_at for row in rows]),
        _pack([row.created_at for row in rows]),
        _pack([row.expires_at for row in rows]),
        tags[0] if len(tags) == 1 else _pack(tags, same=False),
        _pack([row.reply for row in rows]),
        _pack([_shown(row.preview) for row in rows]),
        *_pack_bytes([row.body for row in rows]),
    )


class _CannotPack(Exception):
    """A text has separators in it, or what no text may have."""


def _pack(values: list[Any], *, same: bool = True) -> str | None:
    """Many values in one text, or the one that all of them are."""
    first = values[0]
    if same and values.count(first) == len(values):
        if first is not None and _NUL in (text := str(first)):
            raise _CannotPack
        return None if first is None else text
    if (nones := values.count(None)) == len(values):
        return None
    if nones or type(first) is not str:
        text = _NEXT.join([_NULL if value is None else str(value) for value in values])
    else:
        text = _NEXT.join(values)
    if text.count(_NEXT) != len(values) - 1 or text.count(_NULL) != nones or _NUL in text:
        raise _CannotPack
    return text


def _pack_bytes(values: list[bytes | None]) -> tuple[str | None, str | None, bytes]:
    """Where each value begins, how long it is, and all of them in one piece."""
    lengths = [None if value is None else len(value) for value in values]
    starts = [0, *accumulate(length or 0 for length in lengths[:-1])]
    return _pack(starts), _pack(lengths), b"".join([value for value in values if value])


def _places(places: list[int]) -> list[int] | None:
    return None if places == list(range(len(places))) else places


def _id_of_end(end: tuple[int, Move]) -> str:
    return end[1].id


def _shown(preview: str) -> str:
    return preview if preview.isprintable() else storable(preview.translate(_READABLE))


def storable(text: str) -> str:
    """What PostgreSQL keeps in place of a text, and must be asked for to find it."""
    if text.isascii():
        return text.replace(_NUL, _UNKNOWN)
    return text.replace(_NUL, _UNKNOWN).encode(errors="replace").decode()


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


def topics_of(answer: Answer, units: int) -> set[str]:
    """What to signal after so many units."""
    topics = answer.topics()
    if units > len(answer.refused) or answer.owners:
        topics.add("tasks")
    return topics


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


def _is_plain_insert(unit: Unit) -> bool:
    return is_alone(unit) and _is_usual(unit.row)  # type: ignore[union-attr]


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
    ends: Sequence[tuple[int, Move]], others: Sequence[tuple[int, Unit]]
) -> list[str] | None:
    """Rows that must be locked together, by id, before anything is done."""
    if not others or len(ends) + len(others) < 2:
        return None
    ids = {move.id for _, move in ends}
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


__all__ = [
    "APPLY_ARGS",
    "Answer",
    "added",
    "arguments",
    "decode_answer",
    "encode_plain",
    "lone",
    "receipt",
    "resendable",
    "storable",
    "topics_of",
]
