"""New rows: many at once where nothing ties them to others, else one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.json import decode

from omniq.models.row import Dep, Flag, Unique
from omniq.models.status import FINAL, Status
from omniq.models.units import Applied, Insert
from omniq.storage.sqlite.commit import Commit
from omniq.storage.sqlite.rows import (
    INSERT_TASKS,
    INSERT_USUAL,
    Many,
    Tie,
    ids_json,
    is_usual,
    task_values,
    usual_values,
)

_READY, _SCHEDULED, _WAITING = int(Status.READY), int(Status.SCHEDULED), int(Status.WAITING)
FREE_KEY = "DELETE FROM omniq_uniq WHERE key = ? AND task = ?"
_INSERT_EDGES = Many(
    "INSERT INTO omniq_edge (parent, child, need, open) VALUES {rows} "
    "ON CONFLICT (parent, child) DO NOTHING",
    4,
)


def insert_plain(commit: Commit, units: Sequence[tuple[int, Insert]]) -> None:
    """Insert rows without parents and unique keys."""
    now = commit.now
    usual: list[Any] = []
    others: list[Any] = []
    for _, unit in units:
        row = unit.row
        status = _SCHEDULED if row.run_at > now else _READY
        if is_usual(row):
            usual += usual_values(row, status)
        else:
            others += task_values(row, status)
    (last,) = commit.one("SELECT coalesce(max(pk), 0) FROM omniq_task")
    added = INSERT_USUAL.run(commit.cursor, usual) + INSERT_TASKS.run(commit.cursor, others)
    new: set[str] | None = None
    if added < len(units):  # some ids are known: those that are new lie behind `last`
        (found,) = commit.one(
            "SELECT json_group_array(id) FROM omniq_task "
            "WHERE id IN (SELECT value FROM json_each(?)) AND pk > ?",
            ids_json([unit.row.id for _, unit in units]),
            last,
        )
        new = set(decode(found, type=list[str]))
    for at, unit in units:
        if new is not None:
            if unit.row.id not in new:
                commit.outcome[at] = Applied.ALREADY
                continue
            new.discard(unit.row.id)  # the same id twice in one batch
        _added(commit, at, unit, _SCHEDULED if unit.row.run_at > now else _READY)


def insert(commit: Commit, at: int, unit: Insert, *, rider: bool = False) -> Applied:
    """Insert one row with its parents and unique key."""
    row, deps = unit.row, unit.deps
    if commit.one("SELECT 1 FROM omniq_task WHERE id = ?", row.id):
        return Applied.ALREADY
    if row.unique is not None and (holder := key_holder(commit, row.unique, row.id)):
        if not rider:
            commit.taken[at] = holder
        return Applied.REFUSED
    edges: list[Any] = []
    missing: list[str] = []
    waiting, flags = 0, row.flags
    if deps:
        known = _parents(commit, deps)
        # Of two edges to one parent the stricter counts.
        for dep in {d.parent: d for d in sorted(deps, key=_strictness)}.values():
            status = known.get(dep.parent)
            if status is None:
                if dep.missing == "refuse":
                    missing.append(dep.parent)
                elif dep.missing == "fail":
                    flags |= Flag.STRANDED
                continue
            opened = status < FINAL
            waiting += opened
            if not opened and dep.need == "success" and status != Status.SUCCEEDED:
                flags |= Flag.STRANDED
            edges += (dep.parent, row.id, int(dep.need == "success"), int(opened))
        if missing:
            if not rider:
                commit.missing[at] = tuple(missing)
            return Applied.REFUSED
    status = _SCHEDULED if row.run_at > commit.now else _READY
    if waiting or flags & Flag.STRANDED:
        status = _WAITING
    ties = (Tie.UNIQUE if row.unique else 0) | (Tie.CHILD if edges else 0)
    INSERT_TASKS.run(
        commit.cursor,
        list(task_values(row, status, waiting=waiting, flags=flags, ties=ties)),
    )
    if row.unique is not None:
        take_key(commit, row.unique, row.id)
    if edges:
        _INSERT_EDGES.run(commit.cursor, edges)
        commit.run(
            f"UPDATE omniq_task SET ties = ties | {Tie.PARENT} WHERE id IN "
            "(SELECT parent FROM omniq_edge WHERE child = ? AND open = 1)",
            row.id,
        )
    if flags & Flag.STRANDED:
        commit.stranded.append(row.id)
    _added(commit, at, unit, status)
    return Applied.APPLIED


def spawn(commit: Commit, at: int, units: tuple[Insert, ...]) -> None:
    """Insert riders of unit `at`."""
    for unit in units:
        if insert(commit, at, unit, rider=True) is Applied.REFUSED:
            commit.refuse_rider(at)


def _added(commit: Commit, at: int, unit: Insert, status: int) -> None:
    commit.outcome[at] = Applied.APPLIED
    commit.became(status, unit.row.queue)
    commit.tell(at, unit.events)
    commit.topics.add("tasks")


def _strictness(dep: Dep) -> bool:
    return dep.need == "success"


def _parents(commit: Commit, deps: tuple[Dep, ...]) -> dict[str, int]:
    (found,) = commit.one(
        "SELECT json_group_array(json_array(id, status)) FROM omniq_task "
        "WHERE id IN (SELECT value FROM json_each(?)) "
        "AND (keep_until IS NULL OR keep_until > ? OR EXISTS (SELECT 1 FROM omniq_edge "
        "JOIN omniq_task child ON child.id = omniq_edge.child "
        "WHERE omniq_edge.parent = omniq_task.id "
        "AND child.status < 60))",
        ids_json([dep.parent for dep in deps]),
        commit.now,
    )
    return dict(decode(found, type=list[tuple[str, int]]))


# ---- unique keys


def key_holder(commit: Commit, unique: Unique, task: str) -> str | None:
    """Which other task holds the key now."""
    found = commit.one(
        "SELECT task FROM omniq_uniq WHERE key = ? AND task <> ? AND (until IS NULL OR until > ?)",
        unique.key,
        task,
        commit.now,
    )
    return found[0] if found else None


def take_key(commit: Commit, unique: Unique, task: str) -> None:
    """Hold a key that is free."""
    commit.run(
        "INSERT INTO omniq_uniq (key, task, until) VALUES (?, ?, ?) "
        "ON CONFLICT (key) DO UPDATE SET task = excluded.task, until = excluded.until",
        unique.key,
        task,
        unique.until,
    )


def free_key(commit: Commit, unique: Unique, task: str) -> None:
    """Give a key back, unless another holds it by now."""
    commit.run(FREE_KEY, unique.key, task)
