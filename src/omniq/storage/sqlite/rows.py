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

from omniq.models.row import TaskRow, Unique
from omniq.models.status import Status

encode_json = msgspec.json.Encoder().encode
_decode_rows = msgspec.json.Decoder(list[list[Any]]).decode
_STATUS = {int(status): status for status in Status}


class Tie:
    """Bits of `task.ties`: what the end of a task has to look after besides its own row."""

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
    f"INSERT INTO task ({_TASK_COLUMNS}) VALUES {{rows}} ON CONFLICT (id) DO NOTHING",
    1 + _TASK_COLUMNS.count(","),
)


# What most new rows have of their own; each column left out saves a tenth of the insert.
_USUAL_COLUMNS = (
    "id, queue, lane, name, status, priority, run_at, created_at, expires_at, tags, reply, "
    "preview, body"
)
INSERT_USUAL = Many(
    f"INSERT INTO task ({_USUAL_COLUMNS}) VALUES {{rows}} ON CONFLICT (id) DO NOTHING",
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

_HOT = (
    "id, queue, lane, name, status, priority, run_at, created_at, started_at, finished_at, "
    "expires_at, keep_until, attempt, epoch, losses, claim, owner, waiting, json(uniq), grp, "
    "json(tags), fault, cancel, flags, reply, preview, length(progress)"
)
PACKED_HOT = (
    f"json_group_array(json_array({_HOT}, 0, NULL)), "
    "CAST(group_concat(progress, '') AS BLOB), NULL, NULL"
)
"""Select list: the rows without body and error. Read it with `unpack_tasks`."""
PACKED_FULL = (
    f"json_group_array(json_array({_HOT}, length(body), length(error))), "
    "CAST(group_concat(progress, '') AS BLOB), CAST(group_concat(body, '') AS BLOB), "
    "CAST(group_concat(error, '') AS BLOB)"
)
"""Select list: the rows with everything."""


def unpack_tasks(packed: tuple[str, bytes | None, bytes | None, bytes | None]) -> list[TaskRow]:
    """Rows of one packed answer, in no particular order."""
    text, progresses, bodies, errors = packed
    rows = []
    at_progress = at_body = at_error = 0
    for values in _decode_rows(text):
        (
            id_,
            queue,
            lane,
            name,
            status,
            priority,
            run_at,
            created_at,
            started_at,
            finished_at,
            expires_at,
            keep_until,
            attempt,
            epoch,
            losses,
            claim,
            owner,
            waiting,
            unique,
            group,
            tags,
            fault,
            cancel,
            flags,
            reply,
            preview,
            size_progress,
            size_body,
            size_error,
        ) = values
        progress = error = None
        if size_progress is not None:
            progress = (progresses or b"")[at_progress : at_progress + size_progress]
            at_progress += size_progress
        if size_error is not None:
            error = (errors or b"")[at_error : at_error + size_error]
            at_error += size_error
        rows.append(
            TaskRow(
                id=id_,
                queue=queue,
                lane=lane,
                name=name,
                status=_STATUS[status],
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
                unique=Unique(*unique) if unique else None,
                group=group,
                tags=tuple(tags) if tags else (),
                fault=fault,
                cancel=cancel == 1,
                flags=flags,
                reply=reply,
                progress=progress,
                body=bodies[at_body : at_body + size_body] if bodies else b"",
                error=error,
                preview=preview,
            )
        )
        at_body += size_body
    return rows
