"""New tasks through a connection of the caller's: sqlite3, aiosqlite, or SQLAlchemy over them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omniq.clock import Clock
from omniq.errors import ConfigError
from omniq.models.units import Receipt, Unit
from omniq.storage.base import MakeCall, Put
from omniq.storage.sqlite.foreign import ForeignConnection


def join(connection: Any, make_call: MakeCall, path: Path, clock: Clock) -> Put:
    """How units are applied there; `path` is the file it must be open on."""

    def apply(raw: sqlite3.Connection, units: Sequence[Unit]) -> Receipt:
        place = ForeignConnection(raw, clock=clock)
        if (file := place.file()) is None or not path.exists() or not path.samefile(file):
            raise ConfigError(
                f"connection= is open on {file or 'a database in memory'}, but tasks are kept at "
                f"{path}: tasks join a transaction of their own database only. Set storage_url "
                "to the file your connection uses, or enqueue after your commit"
            )
        return place.apply(units)

    async def put(units: Sequence[Unit]) -> Receipt:
        found = await _raw(connection, make_call)
        if isinstance(found, sqlite3.Connection):
            raw = found
            receipt: Receipt = await make_call(lambda: apply(raw, units))
        else:  # aiosqlite has no public way to make several calls at once in its thread
            receipt = await found._execute(apply, found._conn, units)
        return receipt

    if not any(_is_of(library, connection) for library in ("sqlite3", "aiosqlite", "sqlalchemy")):
        raise ConfigError(
            f"connection={type(connection).__name__}: give an open connection of sqlite3, "
            "aiosqlite, or a connection or session of SQLAlchemy"
        )
    return put


async def _raw(connection: Any, make_call: MakeCall) -> Any:
    """The driver's own connection."""
    if not _is_of("sqlalchemy", connection):
        return connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session

    if isinstance(connection, AsyncSession | async_scoped_session):
        connection = await connection.connection()
    if isinstance(connection, AsyncConnection):
        if not connection.in_transaction():
            await connection.begin()
        return (await connection.get_raw_connection()).driver_connection
    return await make_call(lambda: _driver(connection))


def _driver(connection: Any) -> Any:
    """From SQLAlchemy's blocking connection or session, whose transaction this begins."""
    from sqlalchemy.orm import Session, scoped_session

    if isinstance(connection, Session | scoped_session):
        connection = connection.connection()
    elif not connection.in_transaction():
        connection.begin()
    return connection.connection.driver_connection


def _is_of(library: str, connection: object) -> bool:
    """Whether it is of that library, or of the program's own class made from one there."""
    return any(kind.__module__.partition(".")[0] == library for kind in type(connection).__mro__)
