"""What acknowledged tasks survive, as the streams and what is known of the servers say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omniq.storage.durability import Grade, Promise

QUORUM = 3


def promise_of(
    where: str, namespace: str, *, version: str, streams: Sequence[dict[str, Any]], always: bool
) -> Promise:
    """The promise of a namespace whose streams have these configurations."""
    copies = min(int(stream.get("num_replicas", 1)) for stream in streams)
    undone: list[str] = []
    for stream in streams:
        undone += _taken_away(stream)
    grade: Grade = "process"
    if any(stream.get("storage") == "memory" for stream in streams) and copies < QUORUM:
        grade = "none"
    elif copies >= QUORUM:
        grade = "replicated"
    elif always:
        grade = "power"
    else:
        undone.append(
            "a loss of power may take what was acknowledged in the last two minutes (the "
            "server's sync_interval): set 'sync_interval: always' in its jetstream block and "
            "sync='always' here, or use three replicas"
        )
    plural = "replica" if copies == 1 else "replicas"
    synced = ", sync_interval always" if always else ""
    settings = f"NATS {version}, {copies} {plural}{synced}, namespace {namespace}"
    return Promise(where, grade, settings, tuple(undone))


def _taken_away(stream: dict[str, Any]) -> list[str]:
    name, taken = stream["name"], []
    if stream.get("storage") == "memory":
        taken.append(f"stream {name} is kept in memory: make it anew with file storage")
    if stream.get("max_age"):
        taken.append(f"stream {name} forgets what is older than its max_age: set max_age to 0")
    if stream.get("discard") != "new" and any(
        stream.get(limit, -1) > 0 for limit in ("max_bytes", "max_msgs")
    ):
        taken.append(
            f"stream {name} drops its oldest messages when it is full: set its discard to new"
        )
    if stream.get("persist_mode") == "async":
        taken.append(
            f"stream {name} acknowledges before it writes: set its persist_mode to default"
        )
    return taken
