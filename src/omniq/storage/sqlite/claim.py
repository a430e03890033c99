"""Handing out work and chores, and keeping what was handed out.

The statuses are written into the statements: SQLite uses a partial index only where the
statement itself shows that its condition holds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from msgspec.json import decode

from omniq.models.filters import Batch, Claim, Held, HeldTask, Slot
from omniq.models.row import Flag, Ms, TaskRow
from omniq.storage.sqlite.inserts import FREE_KEY
from omniq.storage.sqlite.rows import Many, read_tasks

PROMOTED = 1000
"""How many due rows one claim makes ready in one queue and lane."""

# A statement that changes nothing costs as much as a small one that does. So a claim looks
# first, in one step: paused queues, rows of the same request, rows and lease of the owner.
ASK = (
    "SELECT (SELECT json_group_array(key) FROM omniq_doc WHERE kind = 'pause' "
    "AND (expires_at IS NULL OR expires_at > :now)), "
    "EXISTS (SELECT 1 FROM omniq_task INDEXED BY omniq_task_running "
    "WHERE status = 50 AND owner = :owner AND claim = :request), "
    "EXISTS (SELECT 1 FROM omniq_task INDEXED BY omniq_task_running WHERE status = 50 "
    "AND owner = :owner), "
    "(SELECT until FROM omniq_owner WHERE id = :owner)"
)
RENEW = (
    "INSERT INTO omniq_owner (id, until) SELECT :owner, :until WHERE EXISTS "
    "(SELECT 1 FROM omniq_task INDEXED BY omniq_task_running WHERE status = 50 AND owner = :owner) "
    "ON CONFLICT (id) DO UPDATE SET until = excluded.until "
    # Two idle workers whose claims always wrote would wake each other for ever.
    "WHERE abs(omniq_owner.until - excluded.until) >= :slack"
)
PROMOTE = (
    "UPDATE omniq_task SET status = 40 WHERE pk IN (SELECT pk FROM omniq_task "
    "INDEXED BY omniq_task_scheduled "
    "WHERE status = 30 AND queue = ? AND lane = ? AND run_at <= ? ORDER BY run_at LIMIT ?)"
)
TAKE = (
    "UPDATE omniq_task SET status = 50, epoch = epoch + 1, attempt = attempt + 1, "
    "claim = :request, "
    "owner = :owner, started_at = :now WHERE pk IN (SELECT pk FROM omniq_task "
    "INDEXED BY omniq_task_ready "
    "WHERE status = 40 AND queue = :queue AND lane = :lane "
    "AND (expires_at IS NULL OR expires_at > :now) "
    "ORDER BY priority DESC, run_at, id LIMIT :limit)"
)
_CHORE = (
    "UPDATE omniq_task SET status = 50, epoch = epoch + 1, claim = :request, owner = :owner, "
    "flags = flags | ({flag}), losses = losses + {lost} WHERE pk IN ({which} LIMIT :limit)"
)
_IS_LOST = (
    "SELECT omniq_task.pk FROM omniq_owner CROSS JOIN omniq_task INDEXED BY omniq_task_running "
    "ON omniq_task.owner = omniq_owner.id "
    "WHERE omniq_task.status = 50 AND omniq_owner.until <= :now AND omniq_owner.id <> :owner"
)
_IS_STRANDED = (
    "SELECT pk FROM omniq_task INDEXED BY omniq_task_stranded WHERE status = 10 AND flags > 0"
)
_IS_EXPIRED = (
    "SELECT pk FROM omniq_task INDEXED BY omniq_task_expiring "
    "WHERE status < 50 AND expires_at IS NOT NULL AND expires_at <= :now"
)
ASK_CHORES = f"SELECT EXISTS ({_IS_LOST}), EXISTS ({_IS_STRANDED}), EXISTS ({_IS_EXPIRED})"
LOST = _CHORE.format(flag=Flag.LOST, lost=1, which=_IS_LOST)
STRANDED = _CHORE.format(
    flag=f"{Flag.STRANDED} | CASE WHEN expires_at <= :now THEN {Flag.EXPIRED} ELSE 0 END",
    lost=0,
    which=_IS_STRANDED,
)
EXPIRED = _CHORE.format(flag=Flag.EXPIRED, lost=0, which=f"{_IS_EXPIRED} ORDER BY expires_at")
GIVEN = (
    "FROM omniq_task INDEXED BY omniq_task_running WHERE status = 50 AND owner = ? AND claim = ?"
)
NEXT_DUE = (
    "SELECT min(run_at) FROM omniq_task INDEXED BY omniq_task_scheduled "
    "WHERE status = 30 AND queue = ? AND lane = ?"
)
RUNNING = (
    "SELECT json_group_array(json_array(id, epoch, claim, cancel)) "
    "FROM omniq_task INDEXED BY omniq_task_running WHERE status = 50 AND owner = ?"
)
_PROGRESS = Many(
    "UPDATE omniq_task SET progress = v.column4 FROM (VALUES {rows}) AS v "
    "WHERE omniq_task.id = v.column1 AND omniq_task.status = 50 "
    "AND omniq_task.epoch = v.column2 AND omniq_task.claim = v.column3 "
    "AND omniq_task.owner = v.column5",
    5,
)


def claim_tasks(
    cursor: sqlite3.Cursor, claim: Claim, now: Ms, topics: set[str] | None = None
) -> Batch:
    """Hand out work and chores, or again what this request was given before."""
    topics = set() if topics is None else topics
    until = now + claim.lease
    asked: dict[str, str | int] = {"now": now, "owner": claim.owner, "request": claim.request}
    pauses, resent, runs, leased = cursor.execute(ASK, asked).fetchone()
    paused = decode(pauses, type=set[str])
    next_due = _promote(cursor, claim.slots, now, topics)
    given: list[TaskRow] = []
    if not resent:
        open_ = [slot for slot in claim.slots if slot.queue not in paused]
        taken = _take(cursor, open_, claim, asked)
        if _chores(cursor, claim.chores, asked):
            taken += 1
            next_due = _promote(cursor, claim.slots, now, topics)  # some may have been ahead
        if taken:
            topics.add("tasks")
    if resent or taken:
        given = read_tasks(cursor, GIVEN, (claim.owner, claim.request))
    slack = _slack(claim.lease)
    if (given or runs) and (leased is None or abs(leased - until) >= slack):
        cursor.execute(RENEW, {"owner": claim.owner, "until": until, "slack": slack})
    for row in given:
        if not resent and not row.flags and row.unique and row.unique.free == "start":
            cursor.execute(FREE_KEY, (row.unique.key, row.id))
    places = {(slot.queue, slot.lane): n for n, slot in reversed([*enumerate(claim.slots)])}

    def order(row: TaskRow) -> tuple[int, int, Ms, str]:
        return places.get((row.queue, row.lane), -1), -row.priority, row.run_at, row.id

    return Batch(
        tasks=sorted((row for row in given if not row.flags), key=order),
        chores=[row for row in given if row.flags],
        next_due=next_due,
    )


def _slack(lease: Ms) -> Ms:
    """By how much a lease must move to be worth a write: a tenth, and at most a second."""
    return min(lease // 10, 1000)


def _take(
    cursor: sqlite3.Cursor, slots: Sequence[Slot], claim: Claim, asked: dict[str, str | int]
) -> int:
    left = claim.limit
    taken: dict[str, int] = {}
    for slot in slots:  # those of one lane share its room
        limit = min(slot.limit - taken.get(slot.lane, 0), left)
        if limit > 0:
            place = {"queue": slot.queue, "lane": slot.lane, "limit": limit}
            got = cursor.execute(TAKE, asked | place).rowcount
            taken[slot.lane] = taken.get(slot.lane, 0) + got
            left -= got
    return claim.limit - left


def _chores(cursor: sqlite3.Cursor, limit: int, asked: dict[str, str | int]) -> int:
    if limit <= 0:
        return 0
    left = limit
    there = cursor.execute(ASK_CHORES, asked).fetchone()
    for exists, statement in zip(there, (LOST, STRANDED, EXPIRED), strict=True):
        if exists and left > 0:
            left -= cursor.execute(statement, asked | {"limit": left}).rowcount
    return limit - left


def _promote(cursor: sqlite3.Cursor, slots: Sequence[Slot], now: Ms, topics: set[str]) -> Ms | None:
    """Make due rows ready; the next time that lies ahead."""
    ahead: Ms | None = None
    for slot in slots:
        place = (slot.queue, slot.lane)
        (first,) = cursor.execute(NEXT_DUE, place).fetchone()
        if first is not None and first <= now:
            cursor.execute(PROMOTE, (*place, now, PROMOTED))
            topics.update(("tasks", f"queue:{slot.queue}"))
            (first,) = cursor.execute(NEXT_DUE, place).fetchone()
        if first is not None and (ahead is None or first < ahead):
            ahead = first
    return ahead


def extend_lease(
    cursor: sqlite3.Cursor,
    owner: str,
    lease: Ms,
    held: Sequence[HeldTask],
    now: Ms,
    topics: set[str] | None = None,
) -> Held:
    """Renew a lease, write progress, and compare what the owner holds with what it says."""
    cursor.execute(RENEW, {"owner": owner, "until": now + lease, "slack": _slack(lease)})
    values: list[object] = []
    for task in held:
        if task.progress is not None:
            values += (task.id, task.epoch, task.claim, task.progress, owner)
    if values and _PROGRESS.run(cursor, values) and topics is not None:
        topics.add("tasks")
    (found,) = cursor.execute(RUNNING, (owner,)).fetchone()
    running = {
        (id_, epoch, claim): cancel
        for id_, epoch, claim, cancel in decode(found, type=list[tuple[str, int, str, int]])
    }
    lost, cancelled = [], []
    for task in held:
        cancel = running.pop((task.id, task.epoch, task.claim), None)
        if cancel is None:
            lost.append(task.id)
        elif cancel:
            cancelled.append(task.id)
    unknown = tuple(HeldTask(*fence) for fence in running)
    return Held(lost=tuple(lost), cancelled=tuple(cancelled), unknown=unknown)
