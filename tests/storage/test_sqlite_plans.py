"""No statement of the way of a task walks a table: its cost does not grow with the backlog."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from omniq.models import Status
from omniq.storage.sqlite import claim, edges, inserts, moves, reads, rows, sweep
from omniq.storage.sqlite.commit import Commit
from omniq.storage.sqlite.writer import Writer

IDS = '["a"]'


@pytest.fixture
def connection(db_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(db_path, isolation_level=None)
    writer = Writer(db_path, "NORMAL")
    writer.prepare(connection)
    yield connection
    writer.close()
    connection.close()


def texts(many: rows.Many) -> str:
    """The statement for four rows, so that a join has rows to join."""
    return many._texts[5][1]


STATEMENTS = {
    "ask": claim.ASK,
    "ask chores": claim.ASK_CHORES,
    "renew": claim.RENEW,
    "promote": claim.PROMOTE,
    "take": claim.TAKE,
    "lost": claim.LOST,
    "stranded": claim.STRANDED,
    "expired": claim.EXPIRED,
    "given": f"SELECT * {claim.GIVEN}",
    "next due": claim.NEXT_DUE,
    "running": claim.RUNNING,
    "progress": texts(claim._PROGRESS),
    "states": moves._READ_STATES,
    "settle": texts(moves._update(Status.SUCCEEDED, ("finished_at", "keep_until"))),
    "insert": texts(rows.INSERT_TASKS),
    "free key": inserts.FREE_KEY,
    "releasing": sweep.RELEASING,
    "pairs": sweep.PAIRS,
    "ended": sweep.ENDED,
    "kept": sweep.KEPT,
    "drop results": sweep.DROP_RESULTS,
    "drop docs": sweep.DROP_DOCS,
    "drop keys": sweep.DROP_KEYS,
    "drop owners": sweep.DROP_OWNERS,
    **{f"drop tasks {n}": text for n, text in enumerate(sweep.DROP_TASKS)},
    "get tasks": f"SELECT * {reads.GET_TASKS}",
    "get results": reads.GET_RESULTS,
}
TABLES = tuple(f"omniq_{name}" for name in ("task", "result", "event", "doc", "edge", "uniq"))
TABLES += ("child", "later")
# Walks that are meant: they begin at the first entry of a small partial index and end at once.
WALKS = {
    "stranded": "USING INDEX omniq_task_stranded",
    "ask chores": "omniq_task_stranded",
    "releasing": "USING INDEX omniq_task_releasing",
    "pairs": "omniq_task_ended",
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_walks_a_table(connection: sqlite3.Connection, name: str) -> None:
    plan = explain(connection, STATEMENTS[name])
    walks = [
        step
        for step in plan
        if step.startswith("SCAN") and step.split()[1] in TABLES and "CONSTANT" not in step
    ]
    allowed = WALKS.get(name)
    assert all(allowed and allowed in step for step in walks), plan
    assert not any("AUTOMATIC" in step for step in plan), plan


@pytest.mark.parametrize("name", ["take", "promote", "ended", "expired", "next due"])
def test_the_choice_needs_no_sorting(connection: sqlite3.Connection, name: str) -> None:
    """A sort would read the whole backlog for every claim."""
    assert not any("TEMP B-TREE" in step for step in explain(connection, STATEMENTS[name]))


def test_ended_tasks_are_counted_from_an_index_alone(connection: sqlite3.Connection) -> None:
    plan = explain(connection, reads.COUNT_TASKS)
    for index in ("omniq_task_ready", "omniq_task_scheduled"):
        assert any(f"COVERING INDEX {index}" in step for step in plan), plan
    assert not any(step == "SCAN omniq_task" for step in plan), plan


def test_a_release_finds_its_children_by_index(connection: sqlite3.Connection) -> None:
    seen: list[str] = []
    connection.set_trace_callback(seen.append)
    edges.release(Commit(connection.cursor(), 0, 0), 1, "parent", succeeded=False)
    connection.set_trace_callback(None)
    assert len(seen) >= 3
    for statement in seen:
        for step in explain(connection, statement):
            assert not step.startswith("SCAN omniq_task"), (statement, step)
            assert not step.startswith("SCAN omniq_edge"), (statement, step)


def explain(connection: sqlite3.Connection, statement: str) -> list[str]:
    names = {"now", "owner", "request", "queue", "lane", "limit", "slack", "until", "status"}
    if any(f":{name}" in statement for name in names):
        values: object = dict.fromkeys(names, 1)
    else:
        values = [IDS if "json_each(?)" in statement else 1] * statement.count("?")
        if "json_each(?)" in statement:
            values = [IDS, *[1] * (statement.count("?") - 1)]
    found = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values)  # type: ignore[arg-type]
    return [row[3] for row in found]
