"""SQLite by aiosqlite: one statement claims 100, one transaction settles them."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiosqlite
from floors.work import BATCH, PAYLOAD, run_all

from omniq.ids import uuid7

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


async def connect(path: Path) -> aiosqlite.Connection:
    """A connection with the settings OmniQ uses."""
    db = await aiosqlite.connect(path, isolation_level=None)
    await db.execute("PRAGMA journal_mode = WAL")
    await db.execute("PRAGMA synchronous = NORMAL")
    return db


async def throughput(path: Path, tasks: int, *, numbered: bool = False) -> float:
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

    started = time.perf_counter()
    while rows := await db._execute(claim, db._conn):
        ended = await run_all(rows)
        await db._execute(settle, db._conn, ended)
    taken = time.perf_counter() - started
    cursor = await db.execute("SELECT count(*) FROM result")
    assert await cursor.fetchone() == (tasks,)
    await db.close()
    return taken


INSERT = "INSERT INTO task (id, status, payload) VALUES (?, 40, ?)"


async def commit_per_task(path: Path, tasks: int, producers: int) -> float:
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


async def commit_in_one_hop(path: Path, tasks: int, producers: int) -> float:
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
