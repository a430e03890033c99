"""The heart: units into tables, over any sqlite3 cursor that is inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from omniq.models.row import Ms
from omniq.models.units import Applied, Insert, Move, PutDoc, PutResult, Receipt, Unit
from omniq.storage.sqlite.commit import Commit
from omniq.storage.sqlite.docs import put_doc
from omniq.storage.sqlite.inserts import insert, insert_plain
from omniq.storage.sqlite.moves import end_plain, is_plain, move, move_plain


def apply_units(
    cursor: sqlite3.Cursor, units: Sequence[Unit], now: Ms, topics: set[str] | None = None
) -> Receipt:
    """Apply units in order; `topics` collects what to signal once it is committed.

    The caller begins and commits. Moves that touch only their own row commute with every
    other unit of the batch (a batch has one unit per row), so they go first, together.
    Inserts keep their place among the rest: a child must come behind its parent.
    """
    commit = Commit(cursor, now, len(units))
    plain: list[tuple[int, Move]] = []
    rest: list[tuple[int, Unit]] = []
    for at, unit in enumerate(units):
        if type(unit) is Move and is_plain(unit):
            plain.append((at, unit))
        else:
            rest.append((at, unit))
    if plain and (tied := move_plain(commit, end_plain(commit, plain))):
        rest = sorted([*rest, *tied], key=_place)
    run: list[tuple[int, Insert]] = []
    for at, unit in rest:
        if type(unit) is Insert and not unit.deps and unit.row.unique is None:
            run.append((at, unit))
            continue
        if run:
            insert_plain(commit, run)
            run = []
        commit.outcome[at] = _apply(commit, at, unit)
    if run:
        insert_plain(commit, run)
    receipt = commit.finish()
    if topics is not None:
        topics |= commit.topics
    return receipt


def _apply(commit: Commit, at: int, unit: Unit) -> Applied:
    if isinstance(unit, Insert):
        return insert(commit, at, unit)
    if isinstance(unit, Move):
        return move(commit, at, unit)
    if isinstance(unit, PutDoc):
        return put_doc(commit, at, unit)
    if isinstance(unit, PutResult):
        kept = commit.put_results([unit.id, unit.epoch, unit.until, unit.value])
        return Applied.APPLIED if kept else Applied.REFUSED
    commit.tell(at, unit.events)
    return Applied.APPLIED


def _place(each: tuple[int, Unit]) -> int:
    return each[0]
