"""The drivers through which a task can join a transaction: one way to begin, write and end each.

Every way writes a line in a diary of the user's own, beside the task that is enqueued.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import aiosqlite
import asyncpg
import psycopg
from psycopg.rows import dict_row
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

TABLE = "CREATE TABLE IF NOT EXISTS diary (line TEXT)"
WRITE = "INSERT INTO diary VALUES ('shipped')"
READ = "SELECT count(*) FROM diary"


class Way(NamedTuple):
    """An open transaction; a blocking driver's calls answer at once."""

    connection: Any
    write: Callable[[], Any]
    commit: Callable[[], Any]
    rollback: Callable[[], Any]


class AsyncWay(NamedTuple):
    """The same where every call is awaited."""

    connection: Any
    write: Callable[[], Awaitable[Any]]
    commit: Callable[[], Awaitable[Any]]
    rollback: Callable[[], Awaitable[Any]]


# ---- blocking drivers


@contextmanager
def sqlite(path: str) -> Iterator[Way]:
    connection = sqlite3.connect(path)
    yield Way(connection, lambda: connection.execute(WRITE), connection.commit, connection.rollback)
    connection.close()


@contextmanager
def psycopg_(url: str) -> Iterator[Way]:
    connection = psycopg.connect(url, row_factory=dict_row)
    yield Way(connection, lambda: connection.execute(WRITE), connection.commit, connection.rollback)
    connection.close()


@contextmanager
def session(url: str) -> Iterator[Way]:
    engine = create_engine(url)
    with Session(engine) as open_:
        yield Way(open_, lambda: open_.execute(text(WRITE)), open_.commit, open_.rollback)
    engine.dispose()


@contextmanager
def connection(url: str) -> Iterator[Way]:
    engine = create_engine(url)
    with engine.connect() as open_:
        yield Way(open_, lambda: open_.execute(text(WRITE)), open_.commit, open_.rollback)
    engine.dispose()


# ---- drivers that are awaited


@asynccontextmanager
async def aiosqlite_(path: str) -> AsyncIterator[AsyncWay]:
    async with aiosqlite.connect(path) as open_:
        yield AsyncWay(open_, lambda: open_.execute(WRITE), open_.commit, open_.rollback)


@asynccontextmanager
async def asyncpg_(url: str) -> AsyncIterator[AsyncWay]:
    open_ = await asyncpg.connect(url)
    transaction = open_.transaction()
    await transaction.start()
    yield AsyncWay(open_, lambda: open_.execute(WRITE), transaction.commit, transaction.rollback)
    await open_.close()


@asynccontextmanager
async def asyncpg_pool(url: str) -> AsyncIterator[AsyncWay]:
    async with asyncpg.create_pool(url, min_size=1) as pool, pool.acquire() as open_:
        transaction = open_.transaction()
        await transaction.start()
        yield AsyncWay(
            open_, lambda: open_.execute(WRITE), transaction.commit, transaction.rollback
        )


@asynccontextmanager
async def psycopg_async(url: str) -> AsyncIterator[AsyncWay]:
    async with await psycopg.AsyncConnection.connect(url) as open_:
        yield AsyncWay(open_, lambda: open_.execute(WRITE), open_.commit, open_.rollback)


@asynccontextmanager
async def async_session(url: str) -> AsyncIterator[AsyncWay]:
    engine = create_async_engine(url)
    async with AsyncSession(engine) as open_:
        yield AsyncWay(open_, lambda: open_.execute(text(WRITE)), open_.commit, open_.rollback)
    await engine.dispose()


@asynccontextmanager
async def async_connection(url: str) -> AsyncIterator[AsyncWay]:
    engine = create_async_engine(url)
    async with engine.connect() as open_:
        yield AsyncWay(open_, lambda: open_.execute(text(WRITE)), open_.commit, open_.rollback)
    await engine.dispose()


# ---- name -> the kind of database, what begins, the scheme its address has

BLOCKING: dict[str, tuple[str, Any, str]] = {
    "sqlite3": ("sqlite", sqlite, "{}"),
    "sqlalchemy session on sqlite3": ("sqlite", session, "sqlite:///{}"),
    "sqlalchemy connection on sqlite3": ("sqlite", connection, "sqlite:///{}"),
    "psycopg": ("postgres", psycopg_, "postgresql://{}"),
    "sqlalchemy session on psycopg": ("postgres", session, "postgresql+psycopg://{}"),
    "sqlalchemy connection on psycopg": ("postgres", connection, "postgresql+psycopg://{}"),
}
AWAITED: dict[str, tuple[str, Any, str]] = {
    "aiosqlite": ("sqlite", aiosqlite_, "{}"),
    "sqlalchemy session on aiosqlite": ("sqlite", async_session, "sqlite+aiosqlite:///{}"),
    "sqlalchemy connection on aiosqlite": ("sqlite", async_connection, "sqlite+aiosqlite:///{}"),
    "asyncpg": ("postgres", asyncpg_, "postgresql://{}"),
    "asyncpg pool": ("postgres", asyncpg_pool, "postgresql://{}"),
    "psycopg": ("postgres", psycopg_async, "postgresql://{}"),
    "sqlalchemy session on asyncpg": ("postgres", async_session, "postgresql+asyncpg://{}"),
    "sqlalchemy connection on asyncpg": ("postgres", async_connection, "postgresql+asyncpg://{}"),
    "sqlalchemy session on psycopg": ("postgres", async_session, "postgresql+psycopg://{}"),
}
