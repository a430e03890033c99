"""Connections that are lent: to one call at a time, never with what another one left in them."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from omniq.clock import ManualClock
from omniq.errors import StorageError, StorageUnavailable
from omniq.storage.postgres import connection
from omniq.storage.postgres import pool as pools
from omniq.storage.postgres.connection import Connection, Database
from omniq.storage.postgres.options import Options, split_url
from omniq.storage.postgres.pool import Pool

from ..conformance import kit
from .postgres_kit import behind, cut, new

pytestmark = pytest.mark.asyncio

HOUR = 3600.0


@asynccontextmanager
async def pool_at(url: str, *, name: str, most: int = 2) -> AsyncIterator[Pool]:
    """A pool whose connections the server knows by `name`."""

    async def connect() -> Connection:
        return await asyncpg.connect(url, server_settings={"application_name": name})

    pool = Pool(connect, most=most, timeout=HOUR)
    try:
        yield pool
    finally:
        pool.terminate()


@pytest.fixture
def name() -> str:
    return f"pool-{uuid4().hex[:12]}"


@pytest.fixture
async def watcher(postgres_url: str) -> AsyncIterator[Connection]:
    async with behind(postgres_url) as connection:
        yield connection


@asynccontextmanager
async def database_at(url: str, **options: Any) -> AsyncIterator[Database]:
    """An open database, with the options a storage would give it."""
    database = Database(split_url(url)[0], "here", Options(**options))
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def until(true: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(60):
        while True:
            if await true():
                return
            await asyncio.sleep(0.005)


async def open_ones(watcher: Connection, name: str) -> int:
    """How many connections of a name the server has."""
    sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
    return int(await watcher.fetchval(sql, name))


async def test_the_one_that_came_back_last_goes_out_first(postgres_url: str, name: str) -> None:
    async with pool_at(postgres_url, name=name) as pool:
        first, second = await pool.take(), await pool.take()
        assert first is not second
        pool.give_back(first)
        pool.give_back(second)
        assert await pool.take() is second
        assert await pool.take() is first


async def test_whoever_finds_none_waits_for_one(postgres_url: str, name: str) -> None:
    async with pool_at(postgres_url, name=name, most=1) as pool:
        only = await pool.take()
        waiting = [asyncio.create_task(pool.take()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        waiting[0].cancel()  # who gives up takes none along
        for task in waiting[1:]:
            pool.give_back(only)
            assert await task is only


async def test_whoever_waits_too_long_is_told(postgres_url: str) -> None:
    async with database_at(postgres_url, pool_max=1, timeout=0.2) as database:
        lent, back = asyncio.Event(), asyncio.Event()

        async def hold(connection: Connection) -> None:
            lent.set()
            await back.wait()

        holding = asyncio.create_task(database.run(hold))
        await lent.wait()
        with pytest.raises(StorageUnavailable, match="does not answer in time"):
            await database.value("SELECT 1")
        back.set()
        await holding
        assert await database.value("SELECT 1") == 1


async def test_a_call_that_is_broken_off_leaves_nothing_to_the_next(
    postgres_url: str, watcher: Connection
) -> None:
    """Its answer would be taken for another's, and the server would go on with it."""
    async with database_at(postgres_url, pool_max=1) as database:
        mark = uuid4().hex
        long = asyncio.create_task(database.value(f"SELECT pg_sleep(3600), '{mark}'"))
        at_it = (
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE $1 AND pid <> pg_backend_pid()"
        )
        running = f"%pg_sleep%{mark}%"

        async def begun() -> bool:
            sql = f"{at_it} AND state = 'active'"
            return bool(await watcher.fetchval(sql, running))

        async def gone() -> bool:
            return not await watcher.fetchval(at_it, running)

        await until(begun)
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        assert await database.value("SELECT 2") == 2
        await until(gone)


async def test_what_the_server_refuses_costs_no_connection(postgres_url: str) -> None:
    async with database_at(postgres_url, pool_max=1) as database:
        before = await database.value("SELECT pg_backend_pid()")
        with pytest.raises(StorageError, match="division by zero"):
            await database.value("SELECT 1 / 0")
        assert await database.value("SELECT pg_backend_pid()") == before


async def test_an_open_transaction_is_not_passed_on(postgres_url: str, name: str) -> None:
    async with pool_at(postgres_url, name=name) as pool:
        connection = await pool.take()
        await connection.execute("BEGIN")
        pool.give_back(connection)
        other = await pool.take()
        assert other is not connection
        assert not other.is_in_transaction()


async def test_one_that_was_cut_is_not_lent_again(
    postgres_url: str, watcher: Connection, name: str
) -> None:
    async with pool_at(postgres_url, name=name) as pool:
        connections = [await pool.take() for _ in range(2)]
        for connection in connections:
            pool.give_back(connection)
        assert await cut(watcher, name) == 2

        async def noticed() -> bool:
            return all(connection.is_closed() for connection in connections)

        await until(noticed)
        assert await (await pool.take()).fetchval("SELECT 1") == 1


async def test_those_of_before_do_not_come_back(
    postgres_url: str, watcher: Connection, name: str
) -> None:
    """After a restart of the server each of them would fail one call more."""
    async with pool_at(postgres_url, name=name) as pool:
        lent, idle = await pool.take(), await pool.take()
        pool.give_back(idle)
        pool.forget()
        pool.give_back(lent)

        async def gone() -> bool:
            return await open_ones(watcher, name) == 0

        await until(gone)
        assert (await pool.take()) not in (lent, idle)


async def test_what_nobody_needs_is_closed(
    postgres_url: str, watcher: Connection, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself: the next call may come in the morning."""
    monkeypatch.setattr(pools, "IDLE", 0.05)
    async with pool_at(postgres_url, name=name, most=4) as pool:
        made: list[Connection] = []
        connect = pool._connect

        async def counted() -> Connection:
            made.append(await connect())
            return made[-1]

        monkeypatch.setattr(pool, "_connect", counted)
        await pool.open(3)
        assert len(made) == 3

        async def gone() -> bool:
            return await open_ones(watcher, name) == 0

        await until(gone)
        assert await (await pool.take()).fetchval("SELECT 1") == 1


async def test_one_that_was_idle_for_long_is_not_lent(postgres_url: str, name: str) -> None:
    """A firewall may have forgotten it, and then the call would wait in vain."""
    async with pool_at(postgres_url, name=name) as pool:
        old, new = await pool.take(), await pool.take()
        pool.give_back(old)
        pool._idle[0] = pool._idle[0]._replace(since=time.monotonic() - pools.IDLE)
        pool.give_back(new)
        assert await pool.take() is new
        assert (await pool.take()) not in (old, new)


async def test_what_is_about_to_say_goodbye_is_ended_too(postgres_url: str, name: str) -> None:
    async with pool_at(postgres_url, name=name) as pool:
        connection = await pool.take()
        pool.give_back(connection)
        pool.forget()
        pool.terminate()
        assert connection.is_closed()


async def test_closing_waits_for_what_is_under_way(
    postgres_url: str, watcher: Connection, name: str
) -> None:
    async with pool_at(postgres_url, name=name) as pool:
        lent, idle = await pool.take(), await pool.take()
        pool.give_back(idle)
        closing = asyncio.create_task(pool.close())
        for _ in range(10):
            assert await watcher.fetchval("SELECT 1") == 1
        assert await lent.fetchval("SELECT 1") == 1
        assert not closing.done()
        pool.give_back(lent)
        await closing
        assert lent.is_closed()
        assert idle.is_closed()


async def test_no_connection_is_lost_where_calls_are_broken_off_at_any_step(
    postgres_url: str,
) -> None:
    async with database_at(postgres_url, pool_max=2) as database:
        for steps in range(25):
            calls = [asyncio.create_task(database.value("SELECT 1")) for _ in range(4)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for call in calls[::2]:
                call.cancel()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert answers[1::2] == [1, 1]
        async with asyncio.timeout(60):
            both = await asyncio.gather(
                *(database.value("SELECT 1, pg_sleep(0.01)") for _ in range(2))
            )
        assert both == [1, 1]


async def test_nothing_is_written_once_it_is_closed(
    postgres_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call that was under way fails; it is not sent again."""
    monkeypatch.setattr(connection, "LEAVING", 0.1)
    storage = new(postgres_url, clock=clock)
    async with behind(postgres_url) as other:
        await storage.open()
        async with other.transaction():
            await other.execute(f'LOCK TABLE "{storage._schema}".task IN ACCESS EXCLUSIVE MODE')
            call = asyncio.create_task(storage.apply([kit.insert()]))
            waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE $1 = ANY (pg_blocking_pids(pid)))"

            async def waits() -> bool:
                return bool(await other.fetchval(waiting, other.get_server_pid()))

            await until(waits)
            await storage.close()
            with pytest.raises(StorageUnavailable):
                await call
            # Its session may still wait for the lock, and would go on behind our back.
            ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE $1 = ANY "
            await other.fetch(f"{ending} (pg_blocking_pids(pid))", other.get_server_pid())
        assert await other.fetchval(f'SELECT count(*) FROM "{storage._schema}".task') == 0


async def test_a_close_that_is_cut_short_leaves_nothing_open(
    postgres_url: str, watcher: Connection, name: str
) -> None:
    url, _ = split_url(postgres_url)
    database = Database(f"{url}?application_name={name}", "here", Options(pool_max=2))
    await database.open()
    lent = asyncio.Event()

    async def hold(connection: Connection) -> None:
        lent.set()
        await connection.fetchval("SELECT pg_sleep(3600)")

    call = asyncio.create_task(database.run(hold))
    await lent.wait()
    assert await database.value("SELECT 1") == 1
    closing = asyncio.create_task(database.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    with pytest.raises(StorageError):
        await call

    async def gone() -> bool:
        # The server sees that nobody is there any more once the sleeper wakes.
        sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
        return not await watcher.fetchval(f"{sql} AND query NOT LIKE '%pg_sleep%'", name)

    await until(gone)
    await watcher.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = $1", name
    )


async def test_a_call_that_is_broken_off_costs_no_connection_and_makes_no_noise(
    postgres_url: str,
) -> None:
    noise: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: noise.append(what))
    async with database_at(postgres_url, pool_max=1) as database:
        before = await database.value("SELECT pg_backend_pid()")
        for steps in range(8):
            call = asyncio.create_task(database.value("SELECT pg_sleep(3600)"))
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
        assert await database.value("SELECT pg_backend_pid()") == before
    gc.collect()
    assert not noise


async def test_what_a_forked_child_lets_go_stays_with_its_parent(postgres_url: str) -> None:
    async with new(postgres_url) as storage:
        await storage.count_tasks()
        child = os.fork()
        if not child:
            try:
                storage._database._pool = None
                gc.collect()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        async with asyncio.timeout(60):
            assert await storage.count_tasks() == []
