"""What a server's settings say about the life of an acknowledged commit."""

from __future__ import annotations

from collections.abc import Mapping

from omniq.storage.durability import Grade, Promise


def promise_of(place: str, settings: Mapping[str, str]) -> Promise:
    """The promise, from `schema.server`."""
    sync, fsync = settings["synchronous_commit"], settings["fsync"]
    standbys = settings["synchronous_standby_names"].strip()
    undone: list[str] = []
    grade: Grade = "replicated" if standbys and sync not in ("off", "local") else "power"
    if sync == "off":
        grade = "process"
        undone.append(
            "synchronous_commit=off: a crash of the server loses the last moments of what it "
            "acknowledged; set it to 'on' (ALTER ROLE ... SET synchronous_commit = 'on')"
        )
    if fsync == "off":
        grade = "process"
        undone.append(
            "fsync=off: a loss of power may lose or corrupt everything; set fsync=on in "
            "postgresql.conf"
        )
    if settings["full_page_writes"] == "off":
        grade = "process"
        undone.append(
            "full_page_writes=off: a loss of power may tear pages; set full_page_writes=on in "
            "postgresql.conf unless the file system never tears them"
        )
    shown = f"PostgreSQL {settings['server_version'].split()[0]}, synchronous_commit={sync}"
    if standbys:
        shown += f", synchronous_standby_names={standbys!r}"
    return Promise(place, grade, f"{shown}, fsync={fsync}", tuple(undone))
