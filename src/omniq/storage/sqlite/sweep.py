"""Removing what is past its stamp, and going on with releases that were too large."""

from __future__ import annotations

import sqlite3

from msgspec.json import decode

from omniq.models.row import Ms
from omniq.models.status import Status
from omniq.storage.sqlite.commit import Commit
from omniq.storage.sqlite.edges import release

# A parent is needed while one of its children has not ended.
NEEDED = (
    "EXISTS (SELECT 1 FROM omniq_edge JOIN omniq_task AS child ON child.id = omniq_edge.child "
    "WHERE omniq_edge.parent = {id} AND child.status < 60)"
)
_FREE = f"NOT {NEEDED.format(id='omniq_task.id')}"
RELEASING = (
    "SELECT json_group_array(json_array(pk, id, status)) FROM (SELECT pk, id, status "
    "FROM omniq_task INDEXED BY omniq_task_releasing WHERE ties >= 8 LIMIT ?)"
)
# Every (queue, status) that ended rows have: one step along the index for each.
PAIRS = (
    "WITH RECURSIVE pair (queue, status) AS ("
    "SELECT * FROM (SELECT queue, status FROM omniq_task INDEXED BY omniq_task_ended "
    "WHERE status >= 60 "
    "ORDER BY queue, status LIMIT 1) UNION ALL "
    "SELECT omniq_task.queue, omniq_task.status FROM pair JOIN omniq_task ON omniq_task.pk = ("
    "SELECT later.pk FROM omniq_task AS later INDEXED BY omniq_task_ended WHERE later.status >= 60 "
    "AND (later.queue, later.status) > (pair.queue, pair.status) "
    "ORDER BY later.queue, later.status LIMIT 1)) "
    "SELECT json_group_array(json_array(queue, status)) FROM pair"
)
ENDED = (
    "SELECT json_group_array(id) FROM (SELECT id FROM omniq_task INDEXED BY omniq_task_ended "
    "WHERE status >= 60 AND queue = :queue AND status = :status AND keep_until <= :now "
    f"AND {_FREE} LIMIT :limit)"
)
KEPT = (
    "SELECT json_group_array(id) FROM (SELECT id FROM omniq_task INDEXED BY omniq_task_kept "
    "WHERE status < 60 AND keep_until IS NOT NULL AND keep_until <= :now "
    f"AND {_FREE} LIMIT :limit)"
)
_THESE = "IN (SELECT value FROM json_each(?))"
DROP_TASKS = (
    # A key without a time of its own goes with its row.
    "DELETE FROM omniq_uniq WHERE (key, task) IN (SELECT json_extract(uniq, '$[0]'), id "
    "FROM omniq_task "
    f"WHERE id {_THESE} AND uniq IS NOT NULL "
    "AND (json_extract(uniq, '$[2]') <> 'time' OR json_extract(uniq, '$[1]') IS NULL))",
    f"DELETE FROM omniq_result WHERE until IS NULL AND id {_THESE}",
    f"DELETE FROM omniq_edge WHERE child {_THESE}",
    f"DELETE FROM omniq_edge WHERE parent {_THESE}",
    f"DELETE FROM omniq_task WHERE id {_THESE}",
)
DROP_RESULTS = (
    "DELETE FROM omniq_result WHERE id IN (SELECT id FROM omniq_result "
    "INDEXED BY omniq_result_until "
    "WHERE until IS NOT NULL AND until <= :now "
    f"AND NOT {NEEDED.format(id='omniq_result.id')} ORDER BY until LIMIT :limit)"
)
DROP_DOCS = (
    "DELETE FROM omniq_doc WHERE (kind, key) IN (SELECT kind, key FROM omniq_doc "
    "INDEXED BY omniq_doc_expiring "
    "WHERE expires_at IS NOT NULL AND expires_at <= :now ORDER BY expires_at LIMIT :limit)"
)
DROP_KEYS = (
    "DELETE FROM omniq_uniq WHERE key IN (SELECT key FROM omniq_uniq INDEXED BY omniq_uniq_until "
    "WHERE until IS NOT NULL AND until <= :now ORDER BY until LIMIT :limit)"
)
DROP_OWNERS = (
    "DELETE FROM omniq_owner WHERE id IN (SELECT id FROM omniq_owner INDEXED BY omniq_owner_until "
    "WHERE until <= :now AND NOT EXISTS (SELECT 1 FROM omniq_task INDEXED BY omniq_task_running "
    "WHERE omniq_task.status = 50 AND omniq_task.owner = omniq_owner.id) "
    "ORDER BY until LIMIT :limit)"
)
# Events are kept for one length of time, so the oldest go first: no index is needed.
DROP_EVENTS = (
    "DELETE FROM omniq_event WHERE pk IN (SELECT pk FROM (SELECT pk, keep_until FROM omniq_event "
    "WHERE keep_until IS NOT NULL ORDER BY pk LIMIT :limit) WHERE keep_until <= :now)"
)


def sweep_once(cursor: sqlite3.Cursor, limit: int, now: Ms, topics: set[str] | None = None) -> int:
    """One transaction's worth: at most `limit` rows, and how many it was."""
    commit = Commit(cursor, now, 0)
    done = _release(commit, limit)
    done += _drop_tasks(commit, limit - done)
    if done:
        commit.topics.add("tasks")
    for statement in (DROP_RESULTS, DROP_DOCS, DROP_KEYS, DROP_EVENTS):
        done += cursor.execute(statement, {"now": now, "limit": limit - done}).rowcount
    cursor.execute(DROP_OWNERS, {"now": now, "limit": limit})
    commit.finish()
    if topics is not None:
        topics |= commit.topics
    return done


def _release(commit: Commit, limit: int) -> int:
    """Go on with ends that had more children than one unit releases."""
    (found,) = commit.one(RELEASING, 16)
    left = limit
    for pk, id_, status in decode(found, type=list[tuple[int, str, int]]):
        if left > 0:
            left -= release(commit, pk, id_, succeeded=status == Status.SUCCEEDED, limit=left)
    return limit - left


def _drop_tasks(commit: Commit, limit: int) -> int:
    (pairs,) = commit.one(PAIRS)
    asked = [
        (ENDED, {"queue": queue, "status": status})
        for queue, status in decode(pairs, type=list[tuple[str, int]])
    ]
    dropped = 0
    for statement, place in [*asked, (KEPT, {})]:
        bounds = place | {"now": commit.now, "limit": limit - dropped}
        (ids,) = commit.cursor.execute(statement, bounds).fetchone()
        if ids != "[]":
            for drop in DROP_TASKS:
                gone = commit.run(drop, ids)
            dropped += gone
    return dropped
