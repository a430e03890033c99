"""Opening: tables made once and by many at once, two versions side by side, and what is refused."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest

from omniq.clock import ManualClock
from omniq.errors import ConfigError, SchemaError, StorageUnavailable, UnknownOption
from omniq.models import Status
from omniq.storage.durability import Promise
from omniq.storage.postgres import AsyncPostgresStorage
from omniq.storage.postgres.options import schema_of as schema_named
from omniq.storage.postgres.promise import promise_of

from ..conformance import kit
from ..servers.postgres import Postgres
from .postgres_kit import behind, new, schema_of

pytestmark = pytest.mark.asyncio

SECRET = "hunter2-hunter2"
SOUND = {
    "server_version": "16.2",
    "synchronous_commit": "on",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_standby_names": "",
}


# ---- tables


async def test_many_processes_may_make_the_tables_at_once(postgres_url: str) -> None:
    first = new(postgres_url, pool_min=0, pool_max=1)
    storages = [first, *(first.twin() for _ in range(7))]
    await asyncio.gather(*(storage.open() for storage in storages))
    try:
        await asyncio.gather(*(kit.add(storage) for storage in storages))
        assert len(await kit.find_ids(first)) == len(storages)
    finally:
        await asyncio.gather(*(storage.close() for storage in storages))


async def test_a_worker_goes_on_beside_a_newer_one(postgres_url: str, clock: ManualClock) -> None:
    """A newer OmniQ adds a column and functions of its own; the old one keeps what it knows."""
    async with new(postgres_url, clock=clock) as old, behind(postgres_url) as connection:
        running = await kit.add_running(old, owner="old")
        schema = schema_of(old)
        await connection.execute(f"""
            ALTER TABLE {schema}.task ADD COLUMN colour text NOT NULL DEFAULT 'red';
            CREATE FUNCTION {schema}.claim_v2() RETURNS text LANGUAGE sql AS $$ SELECT 'new' $$;
            INSERT INTO {schema}.omniq_schema (version, oldest) VALUES (2, 1);
            UPDATE {schema}.task SET colour = 'blue';
            """)
        async with old.twin() as opened_after:
            for storage in (old, opened_after):
                task = await kit.add(storage)
                _, batch = await storage.exchange([], kit.claim(owner="old"))
                assert kit.ids(batch.tasks) == [task.id]
                await kit.apply(storage, kit.finish(batch.tasks[0]))
                assert await kit.status(storage, task.id) is Status.SUCCEEDED
        await kit.apply(old, kit.finish(running))
        colour = f"SELECT colour FROM {schema}.task WHERE id = $1"
        assert await connection.fetchval(colour, running.id) == "blue", "a field it does not know"


async def test_tables_of_a_newer_omniq_are_refused(postgres_url: str) -> None:
    async with new(postgres_url) as storage, behind(postgres_url) as connection:
        newer = f"INSERT INTO {schema_of(storage)}.omniq_schema (version, oldest) VALUES (9, 9)"
        await connection.execute(newer)
        with pytest.raises(SchemaError, match=r"newer OmniQ.*OMNIQ_STORAGE_URL"):
            await storage.twin().open()


async def test_tables_that_were_dropped_are_told_from_trouble_that_passes(
    postgres_url: str,
) -> None:
    async with new(postgres_url) as storage, behind(postgres_url) as connection:
        await connection.execute(f"DROP SCHEMA {schema_of(storage)} CASCADE")
        with pytest.raises(SchemaError, match="dropped"):
            await storage.apply([kit.insert()])


async def test_namespaces_do_not_see_each_other(postgres_url: str) -> None:
    async with new(postgres_url) as one, new(postgres_url) as other:
        await kit.add(one)
        assert await kit.find_ids(other) == []


# ---- rights and addresses


@asynccontextmanager
async def role(url: str, *rights: str) -> AsyncIterator[str]:
    """The URL of a new role that may do little."""
    name = f"r{uuid4().hex[:12]}"
    async with behind(url) as connection:
        await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
        for right in rights:
            await connection.execute(right.replace("{role}", name))
        try:
            yield address(url, user=name, password=SECRET)
        finally:
            await connection.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def address(url: str, *, user: str, password: str, port: int | None = None) -> str:
    parts = urlsplit(url)
    return urlunsplit(
        parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{port or parts.port}")
    )


async def test_a_role_without_rights_is_told_which_grant_it_needs(postgres_url: str) -> None:
    async with role(postgres_url) as url:
        with pytest.raises(ConfigError, match=r"GRANT CREATE ON DATABASE.*OMNIQ_STORAGE_URL") as e:
            await new(url).open()
        unseen(e.value)


async def test_a_role_that_may_not_use_the_tables_of_another_is_told_so(postgres_url: str) -> None:
    async with new(postgres_url) as storage, role(postgres_url) as url:
        with pytest.raises(ConfigError, match="GRANT USAGE ON SCHEMA"):
            await new(url, namespace=storage.namespace).open()


async def test_a_schema_made_by_the_administrator_is_enough(postgres_url: str) -> None:
    namespace = f"t{uuid4().hex[:12]}"
    made = f'CREATE SCHEMA "{schema_named(namespace)}" AUTHORIZATION {{role}}'
    async with role(postgres_url, made) as url, new(url, namespace=namespace) as storage:
        await kit.add(storage)


async def test_a_wrong_password_is_a_setting_to_change(
    private_postgres: Callable[[], Postgres],
) -> None:
    server = private_postgres()
    with pytest.raises(ConfigError, match=r"user or password.*OMNIQ_STORAGE_URL") as caught:
        await new(address(server.url, user="omniq", password=SECRET)).open()
    unseen(caught.value)


async def test_a_server_that_is_not_there_may_come_later(postgres_url: str) -> None:
    url = address(postgres_url, user="me", password=SECRET, port=1)
    with pytest.raises(StorageUnavailable, match=r"cannot be reached.*OMNIQ_STORAGE_URL") as caught:
        await new(url).open()
    unseen(caught.value)


async def test_a_database_that_is_not_there_is_a_setting_to_change(postgres_url: str) -> None:
    url = urlunsplit(urlsplit(postgres_url)._replace(path="/nowhere"))
    with pytest.raises(ConfigError, match=r"does not exist.*OMNIQ_STORAGE_URL"):
        await new(url).open()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"mysql://me:{SECRET}@host/db", "scheme"),
        (f"postgresql://me:{SECRET}@host:port/db", "no URL"),
        (f"postgresql://me:{SECRET}@host/d b", "space"),
        ("", "scheme"),
        (f"postgresql://me:{SECRET}@host/db?pool_max=many", "whole number"),
        (f"postgresql://me:{SECRET}@host/db?pool_max=0", "pool_max=0"),
    ],
)
async def test_a_wrong_url_is_refused_before_anything_connects(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        AsyncPostgresStorage(url)
    unseen(caught.value)


async def test_an_unknown_option_is_told_with_the_nearest_known_one() -> None:
    with pytest.raises(UnknownOption, match="did you mean 'sslmode'"):
        AsyncPostgresStorage("postgresql://host/db?ssl_mode=require")
    with pytest.raises(UnknownOption, match="did you mean 'pool_max'"):
        AsyncPostgresStorage("postgresql://host/db?pool_mx=3")


@pytest.mark.parametrize("namespace", ["", "..", "a b", 'x"; DROP SCHEMA public; --', "a" * 65])
async def test_a_namespace_that_is_no_plain_word_is_refused(namespace: str) -> None:
    with pytest.raises(ConfigError, match="OMNIQ_NAMESPACE"):
        AsyncPostgresStorage("postgresql://host/db", namespace=namespace)


async def test_schemas_of_long_namespaces_stay_apart() -> None:
    names = {schema_named("n" * 63 + end) for end in "ab"} | {schema_named("n" * 58)}
    assert len(names) == 3
    assert all(len(name) <= 63 for name in names)


async def test_nobody_reads_a_password(postgres_url: str) -> None:
    storage = AsyncPostgresStorage(f"postgresql://me:{SECRET}@host:5433/db?password={SECRET}")
    assert SECRET not in storage.describe() + repr(storage)
    assert storage.describe() == "PostgreSQL host:5433/db, schema omniq"


def unseen(error: BaseException) -> None:
    """The secret is in no text of an error, its causes included."""
    assert SECRET not in "".join(traceback.format_exception(error))


# ---- durability


async def test_what_the_server_keeps_is_said_once(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="omniq.storage"):
        async with new(postgres_url) as storage, storage.twin():
            assert storage.capabilities.durability == "power"
    [line] = [r.getMessage() for r in caplog.records if storage.describe() in r.getMessage()]
    assert "survives a loss of power" in line
    assert "synchronous_commit=on" in line


async def test_strict_refuses_a_server_that_may_lose_what_it_acknowledged(
    postgres_url: str,
) -> None:
    lax = "ALTER ROLE {role} SET synchronous_commit = off"
    namespace = f"t{uuid4().hex[:12]}"
    made = f'CREATE SCHEMA "{schema_named(namespace)}" AUTHORIZATION {{role}}'
    async with role(postgres_url, lax, made) as url:
        with pytest.raises(ConfigError, match=r"strict.*synchronous_commit=off.*ALTER ROLE"):
            await new(url, namespace=namespace, durability="strict").open()
        async with new(url, namespace=namespace) as storage:
            assert storage.capabilities.durability == "process"
    async with new(postgres_url, durability="strict") as storage:
        assert storage.capabilities.durability == "power"


@pytest.mark.parametrize(
    ("changed", "grade", "undone"),
    [
        ({}, "power", ()),
        ({"synchronous_standby_names": "ANY 1 (a, b)"}, "replicated", ()),
        ({"synchronous_standby_names": "a", "synchronous_commit": "local"}, "power", ()),
        ({"synchronous_commit": "off"}, "process", ("synchronous_commit=off",)),
        ({"fsync": "off"}, "process", ("fsync=off",)),
        ({"full_page_writes": "off"}, "process", ("full_page_writes=off",)),
    ],
)
async def test_the_promise_is_what_the_settings_leave(
    changed: dict[str, str], grade: str, undone: tuple[str, ...]
) -> None:
    promise: Promise = promise_of("here", SOUND | changed)
    assert promise.grade == grade
    assert tuple(text.split(":")[0] for text in promise.undone) == undone
