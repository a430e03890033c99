"""Edges between parents and the children that wait for them."""

from __future__ import annotations

from msgspec.json import decode

from omniq.models.status import Status
from omniq.storage.sqlite.commit import Commit
from omniq.storage.sqlite.rows import Tie

UNIT_ROWS = 500
"""How many children one unit releases; `sweep` goes on with the rest."""

_SCHEDULED, _READY = int(Status.SCHEDULED), int(Status.READY)


def close_edges(commit: Commit, child: str) -> None:
    """The child ended: it waits for nobody any more.

    Edges are kept as long as the row, so that it can be found by its parents.
    """
    commit.run("UPDATE omniq_edge SET open = 0 WHERE child = ? AND open = 1", child)


def release(
    commit: Commit, pk: int, parent: str, *, succeeded: bool, limit: int = UNIT_ROWS
) -> int:
    """The parent ended: its children run, wait on for others, or are stranded. How many."""
    left = limit
    content = "" if succeeded else "AND need = 0 "
    left -= _answer(commit, parent, content, left, stranded=False)
    if not succeeded:
        left -= _answer(commit, parent, "AND need = 1 ", left, stranded=True)
    more = commit.one("SELECT 1 FROM omniq_edge WHERE parent = ? AND open = 1", parent)
    commit.unreleased = commit.unreleased or more is not None
    change = f"ties | {Tie.RELEASING}" if more else f"ties & {Tie.RELEASING - 1}"
    commit.run(f"UPDATE omniq_task SET ties = {change} WHERE pk = ?", pk)
    commit.topics.add("tasks")
    return limit - left


def _answer(commit: Commit, parent: str, which: str, limit: int, *, stranded: bool) -> int:
    (children,) = commit.one(
        "SELECT json_group_array(child) FROM (SELECT child FROM omniq_edge "
        f"WHERE parent = ? AND open = 1 {which}ORDER BY child LIMIT ?)",
        parent,
        limit,
    )
    if children == "[]":
        return 0
    here = "id IN (SELECT value FROM json_each(?))"
    told = f"UPDATE omniq_task SET waiting = waiting - 1, {{change}} WHERE {here}"
    if stranded:
        (marked,) = commit.one(
            f"SELECT json_group_array(id) FROM omniq_task WHERE {here} AND status = 10", children
        )
        commit.run(told.format(change="flags = flags | (status = 10)"), children)
        commit.stranded += decode(marked, type=list[str])
    else:
        waits = "status <> 10 OR waiting > 1 OR flags > 0"
        change = f"status = CASE WHEN {waits} THEN status WHEN run_at > ? THEN 30 ELSE 40 END"
        commit.run(told.format(change=change), commit.now, children)
        for status in (_SCHEDULED, _READY):
            (queues,) = commit.one(
                "SELECT json_group_array(DISTINCT queue) FROM omniq_task "
                f"WHERE {here} AND status = {status}",
                children,
            )
            for queue in decode(queues, type=list[str]):
                commit.became(status, queue)
    return commit.run(
        "UPDATE omniq_edge SET open = 0 WHERE parent = ? AND child IN (SELECT value "
        "FROM json_each(?))",
        parent,
        children,
    )
