"""A task enqueued through the user's own connection is part of the user's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import psycopg
import pytest

from omniq import AsyncOmniQ, OmniQ, Task, task
from omniq.errors import ConfigError, DuplicateTask, SchemaError, TaskNotFound
from omniq.ids import uuid7

from ..conformance.places import empty_postgres
from . import joined


@task("joined.ship")
def ship(parcel: int) -> int:
    """Run by a worker."""
    return parcel + 1


class Ground(NamedTuple):
    """A database with a diary in it, as the queue and as each driver is told of it."""

    options: dict[str, Any]
    address: str
    """Without a scheme."""
    lines: Callable[[], int]
    """How many lines others see in the diary."""


@pytest.fixture
def sqlite(tmp_path: Path) -> Ground:
    path = tmp_path / "app.db"

    def ask(sql: str) -> Any:
        connection = sqlite3.connect(path)
        try:
            return connection.execute(sql).fetchone()
        finally:
            connection.close()

    ask(joined.TABLE)
    options = {"storage_url": f"sqlite:///{path}", "base_dir": tmp_path}
    return Ground(options, str(path), lambda: int(ask(joined.READ)[0]))


@pytest.fixture
def postgres(diary_database: str, tmp_path: Path) -> Ground:
    with psycopg.connect(diary_database, autocommit=True) as connection:
        connection.execute("DELETE FROM diary")
    empty_postgres(diary_database, "joined")

    def lines() -> int:
        with psycopg.connect(diary_database, autocommit=True) as connection:
            (count,) = connection.execute(joined.READ).fetchone() or (0,)
            return int(count)

    options = {"storage_url": diary_database, "base_dir": tmp_path, "namespace": "joined"}
    return Ground(options, diary_database.partition("://")[2], lines)


@pytest.fixture(scope="module")
def diary_database(postgres_url: str) -> Iterator[str]:
    """A database of these tests, since the diary is a table of the user's own."""
    name = f"joined_{uuid7()[-12:]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        url = f"{postgres_url.rpartition('/')[0]}/{name}"
        with psycopg.connect(url, autocommit=True) as diary:
            diary.execute(joined.TABLE)
        yield url
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def ground(request: pytest.FixtureRequest) -> Ground:
    found: Ground = request.getfixturevalue(request.param)
    return found


def ways(table: dict[str, tuple[str, Any, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("ground", "begin", "scheme"),
        [pytest.param(*entry, id=name) for name, entry in table.items()],
        indirect=["ground"],
    )


@ways(joined.AWAITED)
@pytest.mark.asyncio
async def test_it_is_run_once_its_transaction_commits(
    ground: Ground, begin: Any, scheme: str
) -> None:
    async with AsyncOmniQ(**ground.options) as queue:
        async with begin(scheme.format(ground.address)) as way:
            await way.write()
            handle = await queue.enqueue(ship, (1,), connection=way.connection)
            more = await queue.enqueue_many(
                [Task(func=ship, args=(n,)) for n in (2, 3)], connection=way.connection
            )
            with pytest.raises(TaskNotFound):  # nobody else sees it yet
                await queue.info(handle)
            await way.commit()
        assert [await h.result(timeout=30) for h in (handle, *more)] == [2, 3, 4]
        assert ground.lines() == 1


@ways(joined.AWAITED)
@pytest.mark.asyncio
async def test_it_never_was_if_its_transaction_is_rolled_back(
    ground: Ground, begin: Any, scheme: str
) -> None:
    async with AsyncOmniQ(**ground.options) as queue:
        async with begin(scheme.format(ground.address)) as way:
            await way.write()
            handle = await queue.enqueue(ship, (1,), connection=way.connection)
            await way.rollback()
        with pytest.raises(TaskNotFound):
            await queue.info(handle)
        assert await (await queue.enqueue(ship, (5,))).result(timeout=30) == 6
        assert ground.lines() == 0


@ways(joined.BLOCKING)
def test_a_blocking_connection_is_used_in_the_thread_of_its_caller(
    ground: Ground, begin: Any, scheme: str
) -> None:
    with OmniQ(**ground.options) as queue:
        with begin(scheme.format(ground.address)) as way:
            way.write()
            lost = queue.enqueue(ship, (0,), connection=way.connection)
            way.rollback()
            way.write()
            handle = queue.enqueue(ship, (1,), connection=way.connection)
            more = queue.enqueue_many(
                [Task(func=ship, args=(n,)) for n in (2, 3)], connection=way.connection
            )
            way.commit()
        assert [h.result(timeout=30) for h in (handle, *more)] == [2, 3, 4]
        with pytest.raises(TaskNotFound):
            lost.info()
        assert ground.lines() == 1


@pytest.mark.parametrize("ground", ["sqlite", "postgres"], indirect=True)
def test_a_held_key_is_told_and_the_transaction_goes_on(ground: Ground) -> None:
    begin, scheme = (
        (joined.sqlite, "{}")
        if ground.address.endswith(".db")
        else (joined.psycopg_, "postgresql://{}")
    )
    with OmniQ(**ground.options, embedded=False) as queue:
        first = queue.enqueue(ship, (1,), unique="parcel-1")
        with begin(scheme.format(ground.address)) as way:
            way.write()
            with pytest.raises(DuplicateTask) as caught:
                queue.enqueue(ship, (1,), unique="parcel-1", connection=way.connection)
            assert caught.value.holder == first
            way.commit()
        assert ground.lines() == 1


@pytest.mark.parametrize("ground", ["sqlite", "postgres"], indirect=True)
@pytest.mark.asyncio
async def test_a_child_waits_for_a_parent_of_the_same_or_another_transaction(
    ground: Ground,
) -> None:
    begin, scheme = (
        (joined.aiosqlite_, "{}")
        if ground.address.endswith(".db")
        else (joined.asyncpg_, "postgresql://{}")
    )
    async with AsyncOmniQ(**ground.options) as queue:
        queue.embedded = False
        before = await queue.enqueue(ship, (1,))
        async with begin(scheme.format(ground.address)) as way:
            beside = await queue.enqueue(ship, (2,), connection=way.connection)
            child = await queue.enqueue(
                ship, (3,), depends_on=[before, beside], connection=way.connection
            )
            await way.commit()
        queue.embedded = True
        assert await child.result(timeout=30) == 4
        parent, last = (await before.info()).row, (await child.info()).row
        assert parent.finished_at is not None and last.started_at is not None
        assert parent.finished_at <= last.started_at


@pytest.mark.asyncio
async def test_a_connection_to_another_file_is_refused(sqlite: Ground, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "other.db")
    async with AsyncOmniQ(**sqlite.options) as queue:
        with pytest.raises(ConfigError, match="storage_url"):
            await queue.enqueue(ship, (1,), connection=other)
    other.close()


@pytest.mark.asyncio
async def test_a_connection_to_another_database_is_refused(
    postgres: Ground, postgres_url: str
) -> None:
    other = await asyncpg.connect(postgres_url)
    try:
        async with AsyncOmniQ(**postgres.options) as queue:
            with pytest.raises(SchemaError, match="storage_url"):
                await queue.enqueue(ship, (1,), connection=other)
    finally:
        await other.close()


@pytest.mark.asyncio
async def test_places_without_a_database_say_so() -> None:
    async with AsyncOmniQ(storage_type="memory") as queue:
        with pytest.raises(ConfigError, match="PostgreSQL or SQLite"):
            await queue.enqueue(ship, (1,), connection=object())


@pytest.mark.parametrize("ground", ["sqlite", "postgres"], indirect=True)
@pytest.mark.asyncio
async def test_what_is_no_connection_is_refused(ground: Ground) -> None:
    async with AsyncOmniQ(**ground.options) as queue:
        with pytest.raises(ConfigError, match="connection=str"):
            await queue.enqueue(ship, (1,), connection="postgresql://")


def test_the_blocking_queue_takes_no_connection_that_is_awaited(sqlite: Ground) -> None:
    class Awaited:
        async def execute(self, sql: str) -> None: ...

    with (
        OmniQ(**sqlite.options) as queue,
        pytest.raises(ConfigError, match="Awaited is used with await"),
    ):
        queue.enqueue(ship, (1,), connection=Awaited())
