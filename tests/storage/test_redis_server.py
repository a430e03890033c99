"""Redis as it really is: restarted, cut off, full, locked, too old, upgraded, a replica short."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from omniq.clock import SYSTEM_CLOCK
from omniq.errors import ConfigError, SchemaError, StorageUnavailable
from omniq.models import Applied, Insert, Status, TaskRow
from omniq.models.filters import TaskFilter
from omniq.storage.redis import AsyncRedisStorage
from tests.conformance import kit
from tests.servers.valkey import PASSWORD, Valkey

pytestmark = pytest.mark.asyncio


def name() -> str:
    """A namespace of one test."""
    return f"t{uuid4().hex[:12]}"


def insert(**fields: object) -> Insert:
    """A task due at once by the server's clock."""
    return kit.insert(at=SYSTEM_CLOCK.now() - 1000, **fields)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    """A server of this test alone."""
    with Valkey(tmp_path) as server:
        yield server


@pytest_asyncio.fixture
async def admin(server: Valkey) -> Redis:
    return Redis.from_url(server.url)


async def test_a_server_killed_and_restarted_keeps_what_it_acknowledged(server: Valkey) -> None:
    units = [insert() for _ in range(20)]
    async with AsyncRedisStorage(server.url) as storage, storage.listen(["queue:q"]) as ear:
        assert (await storage.apply(units)).outcome == [Applied.APPLIED] * 20
        server.kill()
        with pytest.raises(StorageUnavailable):
            await storage.count_tasks()
        server.start()
        found = await storage.get_tasks([unit.row.id for unit in units])
        assert [row.id for row in found] == [unit.row.id for unit in units]
        while await ear.wait(0.01):
            pass
        async with asyncio.timeout(60), storage.twin() as other:
            await storage._post.ready()
            await ear.wait(0.01)
            await other.apply([insert()])
            while "queue:q" not in await ear.wait(5):
                pass


async def test_a_connection_the_server_cut_is_no_trouble(server: Valkey, admin: Redis) -> None:
    async with AsyncRedisStorage(server.url) as storage:
        await storage.apply([insert()])
        await admin.client_kill_filter(_type="normal", skipme=True)
        await asyncio.sleep(0)
        assert len(await kit.take(storage)) == 1
    await admin.aclose()


async def test_a_cancelled_call_leaves_the_next_ones_their_answers(server: Valkey) -> None:
    async with AsyncRedisStorage(server.url, max_connections=2, timeout=60) as storage:
        tasks = [insert() for _ in range(5)]
        await storage.apply(tasks)
        server.pause()
        calls = [asyncio.create_task(storage.get_tasks([tasks[0].row.id])) for _ in range(6)]
        done, _ = await asyncio.wait(calls, timeout=0.05)
        assert not done
        for call in calls[:5]:
            call.cancel()
        server.resume()
        assert [row.id for row in await calls[5]] == [tasks[0].row.id]
        for task in tasks:
            assert [row.id for row in await storage.get_tasks([task.row.id])] == [task.row.id]


async def test_forgotten_scripts_are_sent_again(server: Valkey, admin: Redis) -> None:
    async with AsyncRedisStorage(server.url) as storage:
        await storage.apply([insert()])
        await admin.script_flush()
        assert len(await kit.take(storage)) == 1
    await admin.aclose()


async def test_a_full_server_says_so_and_works_again_with_room(
    server: Valkey, admin: Redis
) -> None:
    async with AsyncRedisStorage(server.url) as storage:
        await storage.apply([insert(), insert()])
        [task] = await kit.take(storage, limit=1)
        used = int((await admin.info("memory"))["used_memory"])
        await admin.config_set("maxmemory", used // 2)
        late = insert()
        with pytest.raises(StorageUnavailable, match="maxmemory"):
            await storage.apply([late])
        # What frees memory in the end goes through even now.
        receipt = await storage.apply([kit.finish(task)])
        assert receipt.outcome == [Applied.APPLIED]
        await admin.config_set("maxmemory", 0)
        assert (await storage.apply([late])).outcome == [Applied.APPLIED]
        assert len((await storage.find_tasks(TaskFilter())).rows) == 3
    await admin.aclose()


async def test_a_replica_says_what_it_is(server: Valkey, admin: Redis) -> None:
    async with AsyncRedisStorage(server.url) as storage:
        await admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StorageUnavailable, match="replica"):
            await storage.apply([insert()])
        await admin.execute_command("REPLICAOF", "NO", "ONE")
        assert (await storage.apply([insert()])).outcome == [Applied.APPLIED]
    await admin.aclose()


async def test_a_write_without_its_replicas_is_unavailable(server: Valkey) -> None:
    async with AsyncRedisStorage(server.url, wait_replicas=1, wait_timeout=0.05) as storage:
        with pytest.raises(StorageUnavailable, match="0 of 1 replicas"):
            await storage.apply([kit.cancel(kit.task_id())])


async def test_a_wrong_password_is_named_and_not_shown(redis_url: str) -> None:
    wrong = redis_url.replace(PASSWORD, "not-this-one")
    with pytest.raises(ConfigError, match="OMNIQ_STORAGE_URL") as caught:
        await AsyncRedisStorage(wrong).open()
    error: BaseException | None = caught.value
    while error is not None:
        assert "not-this-one" not in f"{error}{error!r}"
        error = error.__context__


async def test_a_user_without_rights_is_told_which(server: Valkey, admin: Redis) -> None:
    rights = ("on", ">pw", "~{omniq:*", "&{omniq:*", "+@all")
    await admin.execute_command("ACL", "SETUSER", "some", *rights, "-evalsha", "-eval")
    url = server.url.replace(f":{PASSWORD}@", "some:pw@")
    with pytest.raises(ConfigError, match="evalsha"):
        async with AsyncRedisStorage(url) as storage:
            await storage.count_tasks()
    await admin.execute_command("ACL", "SETUSER", "some", "+evalsha", "+eval", "-config")
    async with AsyncRedisStorage(url, namespace=name()) as storage:
        assert storage.capabilities.durability == "process"
        assert (await storage.apply([insert()])).outcome == [Applied.APPLIED]
    # Without these a batch would be written, and nobody be told of it.
    await admin.execute_command("ACL", "SETUSER", "some", "resetchannels")
    with pytest.raises(ConfigError, match="channel"):
        await AsyncRedisStorage(url).open()
    await admin.execute_command("ACL", "SETUSER", "some", "&{omniq:*", "-time")
    async with AsyncRedisStorage(url) as storage:
        with pytest.raises(ConfigError, match=r"lacks a right.*\+time"):
            await storage.count_tasks()
    await admin.execute_command("ACL", "SETUSER", "some", "resetkeys", "~other:*")
    with pytest.raises(ConfigError, match="right"):
        await AsyncRedisStorage(url).open()
    await admin.aclose()


async def test_a_newer_format_is_refused_at_open_and_while_open(redis_url: str) -> None:
    space, admin = name(), Redis.from_url(redis_url)
    async with AsyncRedisStorage(redis_url, namespace=space) as storage:
        await admin.hset(f"{{omniq:{space}}}:meta", "min_reader", "2")
        with pytest.raises(SchemaError, match="format 2"):
            await storage.apply([insert()])
        with pytest.raises(SchemaError, match="format 2"):
            await storage.twin().open()
    await admin.aclose()


async def test_a_field_of_a_newer_version_is_kept(redis_url: str) -> None:
    """Two versions side by side: what the older one does not know, it does not drop."""
    space, admin = name(), Redis.from_url(redis_url)
    async with AsyncRedisStorage(redis_url, namespace=space) as storage:
        unit = insert()
        await storage.apply([unit])
        key = f"{{omniq:{space}}}:t:{unit.row.id}"
        await admin.hset(key, mapping={"shape": b"\xa5round", "z": "1"})
        [task] = await kit.take(storage)
        await storage.apply([kit.retry(task, 0)])
        [task] = await kit.take(storage)
        await storage.apply([kit.finish(task)])
        assert await admin.hget(key, "shape") == b"\xa5round"
        [row] = await storage.get_tasks([unit.row.id])
        assert isinstance(row, TaskRow)
        assert (row.status, row.attempt) == (Status.SUCCEEDED, 2)
    await admin.aclose()


async def test_results_leave_by_themselves(redis_url: str) -> None:
    """With the server's own clock nobody has to sweep them."""
    space, admin = name(), Redis.from_url(redis_url)
    async with AsyncRedisStorage(redis_url, namespace=space) as storage:
        await storage.apply([insert()])
        [task] = await kit.take(storage)
        until = SYSTEM_CLOCK.now() + 60_000
        await storage.apply([kit.finish(task, until=until)])
        assert await admin.pexpiretime(f"{{omniq:{space}}}:v:{task.id}") == until
    await admin.aclose()


@pytest.mark.parametrize("version", ["5.0.14", "6.0.20"])
async def test_an_old_server_is_refused_with_its_version(redis_url: str, version: str) -> None:
    async with _Aged(redis_url, version) as url:
        with pytest.raises(ConfigError, match=rf"Redis {version}.*too old.*6\.2"):
            await AsyncRedisStorage(url).open()


async def test_what_a_crash_would_take_is_warned_of_and_refused_when_strict(
    server: Valkey, admin: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await admin.config_set("appendonly", "no")
    await admin.config_set("maxmemory-policy", "allkeys-lru")
    with caplog.at_level(logging.INFO, logger="omniq.storage"):
        async with AsyncRedisStorage(server.url) as storage:
            assert storage.capabilities.durability == "none"
    assert "set appendonly yes" in caplog.text
    assert "set maxmemory-policy noeviction" in caplog.text
    assert PASSWORD not in caplog.text
    with pytest.raises(ConfigError, match="appendonly yes"):
        await AsyncRedisStorage(server.url, durability="strict").open()
    await admin.config_set("maxmemory-policy", "noeviction")
    await admin.config_set("appendonly", "yes")
    await admin.config_set("appendfsync", "everysec")  # every second is not every write
    with pytest.raises(ConfigError, match="appendfsync always"):
        await AsyncRedisStorage(server.url, durability="strict").open()
    await admin.config_set("appendfsync", "always")
    async with AsyncRedisStorage(server.url, durability="strict") as storage:
        assert storage.capabilities.durability == "power"
    await admin.aclose()


async def test_a_cluster_is_entered_by_any_node(redis_cluster_url: str) -> None:
    """Each namespace lies in one slot, on one of the nodes."""
    for number in range(6):
        url = f"{redis_cluster_url}?cluster=true"
        async with AsyncRedisStorage(url, namespace=f"{name()}{number}") as storage:
            async with storage.listen(["queue:q"]) as ear, storage.twin() as other:
                await ear.wait(0)
                await other.apply([insert()])
                while "queue:q" not in await ear.wait(5):
                    pass
            assert len(await kit.take(storage)) == 1


class _Aged:
    """A way to a real server on which it says another version."""

    def __init__(self, url: str, version: str) -> None:
        self._host, _, port = url.rpartition("@")[2].partition("/")[0].partition(":")
        self._port, self._version = int(port), version.encode()
        self._url = url

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return self._url.replace(f":{self._port}", f":{port}")

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection(self._host, self._port)

        async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(self._change(data))
                await sink.drain()
            sink.close()

        try:
            await asyncio.gather(pass_on(reader, outer), pass_on(inner, writer))
        finally:
            for end in (outer, writer):
                end.close()

    def _change(self, data: bytes) -> bytes:
        if b"redis_version:" not in data:
            return data
        body = b"# Server\r\nredis_version:" + self._version + b"\r\n"
        return b"$%d\r\n%s\r\n" % (len(body), body)
