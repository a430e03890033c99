"""PostgreSQL by asyncpg: one statement claims 100, one deletes them and inserts their results."""

from __future__ import annotations

import time

import asyncpg
from floors.work import BATCH, PAYLOAD, run_all

from omniq.ids import uuid7

SCHEMA = """
DROP SCHEMA IF EXISTS floor CASCADE;
CREATE SCHEMA floor;
CREATE TABLE floor.task (id text PRIMARY KEY, status smallint NOT NULL, payload bytea NOT NULL);
CREATE INDEX ready ON floor.task (id) WHERE status = 40;
CREATE TABLE floor.result (id text PRIMARY KEY, value bytea NOT NULL);
"""
CLAIM = """
WITH taken AS MATERIALIZED (
    SELECT id FROM floor.task WHERE status = 40 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE floor.task t SET status = 50 FROM taken WHERE t.id = taken.id RETURNING t.id, t.payload
"""
SETTLE = """
WITH ended AS (SELECT * FROM unnest($1::text[], $2::bytea[]) AS e (id, value)),
     gone AS (DELETE FROM floor.task t USING ended e WHERE t.id = e.id)
INSERT INTO floor.result SELECT id, value FROM ended
"""
INSERT = """
INSERT INTO floor.task (id, status, payload)
SELECT id, 40, payload FROM unnest($1::text[], $2::bytea[]) AS t (id, payload)
"""
BULK = 1000


async def connect(url: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(url)
    await connection.execute(SCHEMA)
    return connection


async def insert(connection: asyncpg.Connection, tasks: int) -> None:
    for start in range(0, tasks, BULK):
        count = min(BULK, tasks - start)
        await connection.execute(INSERT, [uuid7() for _ in range(count)], [PAYLOAD] * count)


async def throughput(url: str, tasks: int) -> float:
    """Seconds for `tasks` no-op coroutines, 100 at a time."""
    connection = await connect(url)
    try:
        await insert(connection, tasks)
        started = time.perf_counter()
        while rows := await connection.fetch(CLAIM, BATCH):
            ended = await run_all((row["id"], row["payload"]) for row in rows)
            await connection.execute(SETTLE, *map(list, zip(*ended, strict=True)))
        taken = time.perf_counter() - started
        assert await connection.fetchval("SELECT count(*) FROM floor.result") == tasks
        return taken
    finally:
        await connection.close()


async def bulk(url: str, tasks: int) -> float:
    """Seconds to insert `tasks` rows, 1,000 a statement."""
    connection = await connect(url)
    try:
        started = time.perf_counter()
        await insert(connection, tasks)
        return time.perf_counter() - started
    finally:
        await connection.close()
