"""Small records by compare-and-set."""

from __future__ import annotations

from omniq.models.units import Applied, PutDoc
from omniq.storage.sqlite.commit import Commit
from omniq.storage.sqlite.inserts import spawn


def put_doc(commit: Commit, at: int, unit: PutDoc) -> Applied:
    """Write or delete a doc if it has the revision expected."""
    found = commit.one(
        "SELECT rev FROM omniq_doc WHERE kind = ? AND key = ? "
        "AND (expires_at IS NULL OR expires_at > ?)",
        unit.kind,
        unit.key,
        commit.now,
    )
    rev = found[0] if found else 0
    if unit.expect is not None and unit.expect != rev:
        return Applied.REFUSED
    if unit.value is None:
        commit.run("DELETE FROM omniq_doc WHERE kind = ? AND key = ?", unit.kind, unit.key)
    else:
        commit.run(
            "INSERT OR REPLACE INTO omniq_doc (kind, key, rev, due_at, expires_at, value) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            unit.kind,
            unit.key,
            rev + 1,
            unit.due_at,
            unit.expires_at,
            unit.value,
        )
    commit.topics.add(f"docs:{unit.kind}")
    commit.tell(at, unit.events)
    spawn(commit, at, unit.spawn)
    return Applied.APPLIED
