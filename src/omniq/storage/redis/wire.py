"""Units and answers as the scripts speak them: one msgpack array in, one out.

The scripts never open a body, a value or a field they do not look at: these go in as msgpack
strings, whatever their bytes (Lua knows no other kind), and come out as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from omniq.errors import InvalidTask
from omniq.ids import check_name
from omniq.models.event import TaskEvent
from omniq.models.filters import Batch, Claim, HeldTask
from omniq.models.row import TaskRow
from omniq.models.status import FINAL, Status
from omniq.models.units import (
    Applied,
    Insert,
    Move,
    Patch,
    PutDoc,
    PutEvents,
    PutResult,
    Receipt,
    Unit,
)

encode: Final = msgspec.msgpack.Encoder().encode

_INSERT, _MOVE, _DOC, _RESULT, _EVENTS, _INSERTS, _ENDS = 1, 2, 3, 4, 5, 6, 7
_ONLY_RUNNING: Final = (Status.RUNNING,)
_SHORT: Final = tuple(bytes([0xA0 + n]) for n in range(32))
_OUTCOMES: Final = {str(int(applied)): applied for applied in Applied}
_APPLIED: Final = Applied.APPLIED

# Fields the scripts look at are raw and named by one letter (lua/rows.lua).
_LETTERS: Final[dict[str, str]] = {
    "run_at": "r",
    "attempt": "a",
    "losses": "n",
    "priority": "p",
    "finished_at": "d",
    "started_at": "t",
    "keep_until": "k",
    "expires_at": "x",
}
_COUNTS: Final = (("attempt", "a"), ("epoch", "e"), ("losses", "n"))


def text(value: bytes) -> Raw:
    """Bytes as a msgpack string."""
    size = len(value)
    if size < 32:
        return Raw(_SHORT[size] + value)
    if size < 256:
        return Raw(b"\xd9" + size.to_bytes(1, "big") + value)
    if size < 65536:
        return Raw(b"\xda" + size.to_bytes(2, "big") + value)
    return Raw(b"\xdb" + size.to_bytes(4, "big") + value)


_lines: dict[tuple[str, str, int], str] = {}


def line(queue: str, lane: str, priority: int) -> str:
    """What the sorted set of these rows is called; its parts are names without a colon."""
    known = _lines.get((queue, lane, priority))
    if known is None:
        check_name(queue)
        check_name(lane, what="lane")
        if not -(2**53) < priority < 2**53:
            raise InvalidTask(f"priority {priority} is out of range: at most 53 bits")
        if len(_lines) > 10_000:
            _lines.clear()
        known = _lines[queue, lane, priority] = f"{queue}:{lane}:{priority}"
    return known


# ---- units


def units_out(units: Sequence[Unit]) -> list[Any]:
    """A batch as the scripts take it: runs of the plain ones in flat lists, read much faster."""
    out: list[Any] = []
    shape: Any = None
    flat: list[Any] = []
    for unit in units:
        if isinstance(unit, Insert) and _is_plain(unit):
            if shape is not Insert:
                shape, flat = Insert, []
                out.append((_INSERTS, flat))
            flat += _new(unit.row)
        elif isinstance(unit, Move) and _is_end(unit):
            like = (unit.to, unit.wake, unit.fence, tuple(unit.patch), unit.result is None)
            if shape != like:
                shape, flat = like, []
                letters = [_LETTERS.get(name, name) for name in unit.patch]
                kept = unit.result is not None
                out.append((_ENDS, unit.to, unit.wake, *unit.fence, letters, kept, flat))  # type: ignore[misc]
            _end(unit, flat)
        else:
            shape = None
            out.append(_UNITS[type(unit)](unit))
    return out


def _is_plain(unit: Insert) -> bool:
    """Whether it is in its first state, and a look at no other row is needed."""
    row = unit.row
    return (
        not (unit.deps or unit.events or row.attempt or row.epoch or row.losses or row.flags)
        and row.unique is None
        and row.expires_at is None
        and row.keep_until is None
        and row.group is None
        and row.error is None
        and row.progress is None
        and row.fault is None
        and row.owner is None
        and row.started_at is None
        and row.finished_at is None
    )


def _new(row: TaskRow) -> tuple[Any, ...]:
    """id, line, run_at, head, body."""
    head = encode(
        {
            "id": row.id,
            "queue": row.queue,
            "lane": row.lane,
            "name": row.name,
            "priority": row.priority,
            "run_at": row.run_at,
            "created_at": row.created_at,
            "expires_at": row.expires_at,
            "keep_until": row.keep_until,
            "unique": row.unique,
            "group": row.group,
            "tags": row.tags,
            "reply": row.reply,
            "preview": row.preview,
        }
    )
    where = line(row.queue, row.lane, row.priority)
    return row.id, where, row.run_at, text(head[1:]), text(row.body)


def _is_end(unit: Move) -> bool:
    """Whether a worker ends a run and changes no more than its own row."""
    return (
        unit.fence is not None
        and unit.wake is not None
        and unit.to is not None
        and unit.to >= FINAL
        and unit.expect == _ONLY_RUNNING
        and not (unit.ask or unit.events or unit.spawn or unit.docs)
        and "priority" not in unit.patch
        and "run_at" not in unit.patch
        and "expires_at" not in unit.patch
    )


def _end(unit: Move, flat: list[Any]) -> None:
    """id, the fields' values, result, until."""
    flat.append(unit.id)
    for name, value in unit.patch.items():
        if name in _LETTERS:
            flat.append("" if value is None else value)
        else:
            flat.append(text(value if name == "body" else encode(value)))  # type: ignore[arg-type]
    if unit.result is not None:
        value, until = unit.result
        flat.append(text(value))
        flat.append("" if until is None else until)


def _insert(unit: Insert) -> list[Any]:
    return [_INSERT, *_new(unit.row), _more(unit)]


def _more(unit: Insert) -> dict[str, Any]:
    row = unit.row
    fields: list[Any] = []
    for name, letter in _COUNTS:
        if value := getattr(row, name):
            fields += (letter, value)
    for name, letter in (("started_at", "t"), ("finished_at", "d"), ("owner", "o")):
        if (value := getattr(row, name)) is not None:
            fields += (letter, value)
    for name in ("error", "progress", "fault"):
        if (data := getattr(row, name)) is not None:
            fields += (name, text(encode(data)))
    more: dict[str, Any] = {"fields": fields}
    if row.flags:
        more["flags"] = row.flags
    for name in ("unique", "expires_at", "keep_until", "group"):
        if (value := getattr(row, name)) is not None:
            more[name] = value
    if unit.deps:
        more["deps"] = [(dep.parent, dep.need[0], dep.missing[0]) for dep in unit.deps]
    if unit.events:
        more["events"] = events_out(unit.events)
    return more


def _patch(patch: Patch) -> list[Any]:
    out: list[Any] = []
    for name, value in patch.items():
        letter = _LETTERS.get(name)
        if letter is not None:
            out += (letter, "" if value is None else value)
        elif name == "body":
            out += ("b", text(value))  # type: ignore[arg-type]
        else:
            out += (name, text(encode(value)))
    return out


def _move(unit: Move) -> list[Any]:
    expect, fence, result, patch = unit.expect, unit.fence, unit.result, unit.patch
    epoch, claim = fence if fence is not None else (None, None)
    value, until = (text(result.value), result.until) if result is not None else (None, None)
    out: list[Any] = [
        _MOVE,
        unit.id,
        expect[0] if len(expect) == 1 else expect,
        unit.to,
        epoch,
        claim,
        _patch(patch) if patch else None,
        value,
        until,
        unit.wake,
    ]
    if unit.events or unit.ask or unit.spawn or unit.docs:
        more: dict[str, Any] = {}
        if unit.ask:
            more["ask"] = True
        if unit.events:
            more["events"] = events_out(unit.events)
        if unit.spawn:
            more["spawn"] = [_insert(spawn) for spawn in unit.spawn]
        if unit.docs:
            more["docs"] = [_doc(doc) for doc in unit.docs]
        out.append(more)
    return out


def _doc(unit: PutDoc) -> list[Any]:
    more: dict[str, Any] = {}
    if unit.value is not None:
        more["value"] = text(unit.value)
    for name in ("expect", "due_at", "expires_at"):
        if (value := getattr(unit, name)) is not None:
            more[name] = value
    if unit.events:
        more["events"] = events_out(unit.events)
    if unit.spawn:
        more["spawn"] = [_insert(spawn) for spawn in unit.spawn]
    return [_DOC, unit.kind, unit.key, more]


def _result(unit: PutResult) -> list[Any]:
    return [_RESULT, unit.id, unit.epoch, text(unit.value), unit.until]


def _events(unit: PutEvents) -> list[Any]:
    return [_EVENTS, events_out(unit.events)]


def events_out(events: Sequence[TaskEvent]) -> list[Any]:
    """Events: task, identity within it, when it goes, and its bytes."""
    return [
        (
            event.task,
            f"{event.epoch}.{event.n}",
            "" if event.keep_until is None else event.keep_until,
            text(encode(event)),
        )
        for event in events
    ]


_UNITS: Final[dict[type, Callable[[Any], list[Any]]]] = {
    Insert: _insert,
    Move: _move,
    PutDoc: _doc,
    PutResult: _result,
    PutEvents: _events,
}


def claim_out(claim: Claim) -> list[Any]:
    """A claim as the scripts take it."""
    for slot in claim.slots:
        line(slot.queue, slot.lane, 0)
    return [claim.owner, claim.request, claim.lease, claim.limit, claim.chores, claim.slots]


def held_out(held: Sequence[HeldTask]) -> list[Any]:
    """A heartbeat's tasks as the script takes them."""
    return [
        (
            task.id,
            task.epoch,
            task.claim,
            None if task.progress is None else text(encode(task.progress)),
        )
        for task in held
    ]


# ---- answers


class Riders(Struct, array_like=True):
    """What few receipts have."""

    taken: list[tuple[int, str]]
    absent: list[tuple[int, tuple[str, ...]]]
    refused: list[tuple[int, int]]
    woken: list[str]
    stranded: list[str]
    unreleased: bool


class Exchanged(Struct, array_like=True):
    """The answer to an exchange."""

    outcome: str
    riders: Riders | None
    next_due: int | None
    tasks: list[TaskRow]
    chores: list[TaskRow]
    topics: list[str]

    def batch(self) -> Batch:
        """What was claimed."""
        return Batch(tasks=self.tasks, chores=self.chores, next_due=self.next_due)


decode_exchanged: Final = msgspec.msgpack.Decoder(Exchanged).decode


def receipt_of(answers: Sequence[Exchanged]) -> Receipt:
    """One receipt for the parts of a batch."""
    digits = "".join(answer.outcome for answer in answers)
    if digits.count("1") == len(digits):
        outcome = [_APPLIED] * len(digits)
    else:
        outcome = [_OUTCOMES[digit] for digit in digits]
    if not any(answer.riders for answer in answers):
        return Receipt(outcome)
    taken: dict[int, str] = {}
    missing: dict[int, tuple[str, ...]] = {}
    refused: dict[int, int] = {}
    woken: set[str] = set()
    stranded: list[str] = []
    at, unreleased = 0, False
    for answer in answers:
        if (riders := answer.riders) is not None:
            taken |= {at + n: holder for n, holder in riders.taken}
            missing |= {at + n: ids for n, ids in riders.absent}
            refused |= {at + n: count for n, count in riders.refused}
            woken.update(riders.woken)
            stranded += riders.stranded
            unreleased = unreleased or riders.unreleased
        at += len(answer.outcome)
    return Receipt(
        outcome=outcome,
        taken=taken,
        missing=missing,
        riders_refused=refused,
        woken=frozenset(woken),
        stranded=tuple(stranded),
        unreleased=unreleased,
    )
