"""Rows between Python and SQLite.

Python's sqlite3 gives up the interpreter lock at every step of a statement and has to wait for
it again: up to 5 ms each while another thread is busy. A batch of a hundred must therefore not
take a hundred steps. So many rows go in by one statement (`Many`: VALUES of 128, 64, ... 1
rows), and many rows come out of one step, packed into one JSON array and one blob.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from omniq.models.row import TaskRow

encode_json = msgspec.json.Encoder().encode


class Tie:
    """Bits of `omniq_task.ties`: what the end of a task has to look after besides its own row."""

    UNIQUE = 1
    CHILD = 2
    """It has edges of its own to close."""
    PARENT = 4
    """Others wait for it."""
    RELEASING = 8
    """It ended and some who waited for it are not released yet (`sweep` goes on)."""


class Many:
    """One statement for many rows: `{rows}` in its text becomes VALUES of `width` columns."""

    __slots__ = ("_texts", "_width")

    def __init__(self, text: str, width: int) -> None:
        row = f"({','.join('?' * width)})"
        # Powers of two, so that any number of rows finds its statements prepared.
        self._texts = [(n, text.format(rows=",".join([row] * n))) for n in _SIZES]
        self._width = width

    def run(self, cursor: sqlite3.Cursor, values: list[Any]) -> int:
        """Run it over all rows (one flat list); how many rows were changed."""
        changed = at = 0
        width = self._width
        left = len(values) // width
        for n, text in self._texts:
            while left >= n:
                changed += cursor.execute(text, values[at : at + n * width]).rowcount
                at += n * width
                left -= n
        return changed


_SIZES = (128, 64, 32, 16, 8, 4, 2, 1)


def ids_json(ids: Sequence[str]) -> str:
    """Ids as one parameter, for `IN (SELECT value FROM json_each(?))`."""
    return encode_json(ids).decode()


# ---- tasks in

_TASK_COLUMNS = (
    "id, queue, lane, name, status, priority, run_at, created_at, expires_at, keep_until, "
    "attempt, epoch, losses, waiting, uniq, grp, tags, fault, flags, reply, progress, ties, "
    "preview, error, body"
)
INSERT_TASKS = Many(
    f"INSERT INTO omniq_task ({_TASK_COLUMNS}) VALUES {{rows}} ON CONFLICT (id) DO NOTHING",
    1 + _TASK_COLUMNS.count(","),
)


# What most new rows have of their own; each column left out saves a tenth of the insert.
_USUAL_COLUMNS = (
    "id, queue, lane, name, status, priority, run_at, created_at, expires_at, tags, reply, "
    "preview, body"
)
INSERT_USUAL = Many(
    f"INSERT INTO omniq_task ({_USUAL_COLUMNS}) VALUES {{rows}} ON CONFLICT (id) DO NOTHING",
    1 + _USUAL_COLUMNS.count(","),
)


_NONE = (None,) * 5


def is_usual(row: TaskRow) -> bool:
    """Whether `INSERT_USUAL` says everything about a new row."""
    return (
        row.attempt == row.epoch == row.losses == row.flags == 0
        and (row.keep_until, row.group, row.fault, row.progress, row.error) == _NONE
    )


def usual_values(row: TaskRow, status: int) -> tuple[Any, ...]:
    """What `INSERT_USUAL` takes for a new row."""
    return (
        row.id,
        row.queue,
        row.lane,
        row.name,
        status,
        row.priority,
        row.run_at,
        row.created_at,
        row.expires_at,
        tags_text(row.tags),
        row.reply,
        row.preview,
        row.body,
    )


def task_values(
    row: TaskRow, status: int, *, waiting: int = 0, flags: int = 0, ties: int = 0
) -> tuple[Any, ...]:
    """What `INSERT_TASKS` takes for a new row."""
    return (
        row.id,
        row.queue,
        row.lane,
        row.name,
        status,
        row.priority,
        row.run_at,
        row.created_at,
        row.expires_at,
        row.keep_until,
        row.attempt,
        row.epoch,
        row.losses,
        waiting,
        encode_json(row.unique).decode() if row.unique else None,
        row.group,
        tags_text(row.tags),
        row.fault,
        flags,
        row.reply,
        row.progress,
        ties,
        row.preview,
        row.error,
        row.body,
    )


def tags_text(tags: tuple[str, ...]) -> str | None:
    """Tags as they are stored."""
    return encode_json(tags).decode() if tags else None


# ---- tasks out

_COLD = ("progress", "body", "error")
_NAMES = {"unique": "json(uniq)", "group": "grp", "tags": "json(coalesce(tags, '[]'))"}
_HOT = ", ".join(
    f"'{name}', {_NAMES.get(name, name)}" for name in TaskRow.__struct_fields__ if name not in _COLD
)
_PACKED = f"json_group_array(json_object({_HOT}))"
_BYTES = "json_group_array(length({0})), CAST(group_concat({0}, '') AS BLOB)"

PACKED_HOT = f"{_PACKED}, {_BYTES.format('progress')}"
"""Select list: the rows without body and error. Read it with `unpack_tasks`."""
PACKED_FULL = f"{_PACKED}, {', '.join(map(_BYTES.format, _COLD))}"
"""Select list: the rows with everything."""

# Not strict, so that SQLite's 0 and 1 are False and True.
_decode_rows = msgspec.json.Decoder(list[TaskRow], strict=False).decode
_decode_sizes = msgspec.json.Decoder(list[int | None]).decode


def unpack_tasks(packed: Sequence[Any]) -> list[TaskRow]:
    """Rows of one packed answer, in no particular order."""
    rows = _decode_rows(packed[0])
    for name, sizes, blob in zip(_COLD, packed[1::2], packed[2::2], strict=False):
        if blob is None:
            continue
        at = 0
        for row, size in zip(rows, _decode_sizes(sizes), strict=True):
            if size is not None:  # nobody else has seen these rows yet
                force_setattr(row, name, blob[at : at + size])
                at += size
    return rows


def read_tasks(cursor: sqlite3.Cursor, source: str, values: Sequence[Any]) -> list[TaskRow]:
    """Whole rows of `FROM` and what follows, in no particular order."""
    try:
        return unpack_tasks(cursor.execute(f"SELECT {PACKED_FULL} {source}", values).fetchone())
    except sqlite3.DataError:  # together they are more than one SQLite value can hold
        (pks,) = cursor.execute(f"SELECT json_group_array(pk) {source}", values).fetchone()
        one = f"SELECT {PACKED_FULL} FROM omniq_task WHERE pk = ?"
        found = [cursor.execute(one, (pk,)).fetchone() for pk in msgspec.json.decode(pks)]
        return [row for packed in found for row in unpack_tasks(packed)]
