"""What the tests of PostgreSQL share: a schema nobody has used, and a look behind the storage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg

from omniq.storage.postgres import AsyncPostgresStorage
from omniq.storage.postgres.schema import quoted

Connection = asyncpg.Connection


def new(url: str, **options: Any) -> AsyncPostgresStorage:
    """A storage in a namespace of its own, not open yet."""
    return AsyncPostgresStorage(url, **{"namespace": f"t{uuid4().hex[:16]}"} | options)


def schema_of(storage: AsyncPostgresStorage) -> str:
    """The quoted name of its schema."""
    return quoted(storage._schema)


@asynccontextmanager
async def behind(url: str) -> AsyncIterator[Connection]:
    """A connection of the test's own."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def cut(connection: Connection, application: str = "omniq") -> int:
    """End the connections of an application, as an administrator or a firewall would."""
    return len(
        await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = $1 AND pid <> pg_backend_pid()",
            application,
        )
    )
