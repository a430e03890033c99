"""The floors: what the place itself costs, without fences, leases, rules or events."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiosqlite
import msgspec

from omniq.ids import uuid7

encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode
BATCH = 100
PAYLOAD = encode([[5, 10], {}])

SCHEMA = """
CREATE TABLE task ({id} PRIMARY KEY, status INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE INDEX ready ON task (id) WHERE status = 40;
CREATE TABLE result ({id} PRIMARY KEY, value BLOB NOT NULL);
"""
CLAIM = """
UPDATE task SET status = 50
WHERE rowid IN (SELECT rowid FROM task WHERE status = 40 ORDER BY id LIMIT ?)
RETURNING id, payload
"""


async def noop(x: int, y: int) -> int:
    return x + y


async def memory(tasks: int) -> float:
    """Plain dicts: seconds for `tasks` no-op coroutines, 100 at a time."""
    rows = {uuid7(): PAYLOAD for _ in range(tasks)}
    ready, results = deque(rows), {}

    async def run(id: str) -> tuple[str, bytes]:
        args, kwargs = decode(rows[id])
        return id, encode(await noop(*args, **kwargs))

    started = time.perf_counter()
    while ready:
        claimed = [ready.popleft() for _ in range(min(BATCH, len(ready)))]
        for id, value in await asyncio.gather(*(run(id) for id in claimed)):
            del rows[id]
            results[id] = value
    taken = time.perf_counter() - started
    assert len(results) == tasks
    return taken


async def connect(path: Path) -> aiosqlite.Connection:
    """A connection with the settings OmniQ uses."""
    db = await aiosqlite.connect(path, isolation_level=None)
    await db.execute("PRAGMA journal_mode = WAL")
    await db.execute("PRAGMA synchronous = NORMAL")
    return db


async def sqlite(tasks: int, path: Path, *, numbered: bool = False) -> float:
    """SQLite: claim 100, run them, one transaction that deletes rows and inserts results.

    Ids are OmniQ's own, made by the client; `numbered` uses row numbers in their place, which
    is the least SQLite can do, and nothing a client could wait for by an id of its own.
    """
    db = await connect(path)
    await db.executescript(SCHEMA.format(id="id INTEGER" if numbered else "id TEXT NOT NULL"))
    ids = range(tasks) if numbered else [uuid7() for _ in range(tasks)]
    await db.execute("BEGIN IMMEDIATE")
    await db.executemany(
        "INSERT INTO task (id, status, payload) VALUES (?, 40, ?)", [(id, PAYLOAD) for id in ids]
    )
    await db.execute("COMMIT")

    def claim(connection: sqlite3.Connection) -> list[Any]:
        return connection.execute(CLAIM, (BATCH,)).fetchall()

    def settle(connection: sqlite3.Connection, ended: list[tuple[Any, bytes]]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("DELETE FROM task WHERE id = ?", [(id,) for id, _ in ended])
        connection.executemany("INSERT INTO result VALUES (?, ?)", ended)
        connection.execute("COMMIT")

    async def run(id: Any, payload: bytes) -> tuple[Any, bytes]:
        args, kwargs = decode(payload)
        return id, encode(await noop(*args, **kwargs))

    started = time.perf_counter()
    while rows := await db._execute(claim, db._conn):
        ended = await asyncio.gather(*(run(id, payload) for id, payload in rows))
        await db._execute(settle, db._conn, ended)
    taken = time.perf_counter() - started
    cursor = await db.execute("SELECT count(*) FROM result")
    assert await cursor.fetchone() == (tasks,)
    await db.close()
    return taken


INSERT = "INSERT INTO task (id, status, payload) VALUES (?, 40, ?)"


async def commit_per_task(tasks: int, producers: int, path: Path) -> float:
    """SQLite: every producer commits each of its tasks by itself, as aiosqlite is used."""
    db = await connect(path)
    await db.executescript(SCHEMA.format(id="id TEXT NOT NULL"))
    turn = asyncio.Lock()  # one transaction at a time on a connection

    async def insert() -> None:
        async with turn:
            await db.execute("BEGIN IMMEDIATE")
            await db.execute(INSERT, (uuid7(), PAYLOAD))
            await db.commit()

    return await _produce(insert, tasks, producers, db)


async def commit_in_one_hop(tasks: int, producers: int, path: Path) -> float:
    """The same by one function call in the connection's thread: the least it can cost."""
    db = await connect(path)
    await db.executescript(SCHEMA.format(id="id TEXT NOT NULL"))

    def commit(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(INSERT, (uuid7(), PAYLOAD))
        connection.execute("COMMIT")

    return await _produce(lambda: db._execute(commit, db._conn), tasks, producers, db)


async def _produce(
    insert: Callable[[], Awaitable[None]], tasks: int, producers: int, db: aiosqlite.Connection
) -> float:
    async def produce() -> None:
        for _ in range(tasks // producers):
            await insert()

    started = time.perf_counter()
    await asyncio.gather(*(produce() for _ in range(producers)))
    taken = time.perf_counter() - started
    await db.close()
    return taken
