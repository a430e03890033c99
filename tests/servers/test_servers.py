"""The servers of the tests: each is what it says it is, and comes back with its data."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import asyncpg
import nats
import pytest
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from tests.servers.nats import Nats
from tests.servers.postgres import Postgres
from tests.servers.s3 import S3
from tests.servers.server import LEASH, PATIENCE
from tests.servers.valkey import Valkey

pytestmark = pytest.mark.asyncio


async def test_postgres_keeps_what_was_committed_over_a_kill(
    private_postgres: Callable[..., Postgres],
) -> None:
    server = private_postgres(max_connections="17")
    db = await asyncpg.connect(server.url)
    assert await db.fetchval("show max_connections") == "17"
    assert await db.fetchval("show fsync") == "on"
    await db.execute("create table kept (n int); insert into kept values (1)")
    server.kill()
    server.start()
    again = await asyncpg.connect(server.url)
    assert await again.fetchval("select n from kept") == 1
    await again.close()
    db.terminate()


async def test_postgres_asks_for_the_password(postgres_url: str) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres_url, password="another")


async def test_valkey_keeps_what_it_was_told_over_a_kill(
    private_redis: Callable[..., Valkey],
) -> None:
    server = private_redis(maxmemory_policy="noeviction")
    async with Redis.from_url(server.url) as db:
        assert (await db.config_get("appendonly"))["appendonly"] == "yes"
        await db.set("kept", 1)
    server.kill()
    server.start()
    async with Redis.from_url(server.url) as db:
        assert await db.get("kept") == b"1"


async def test_a_paused_server_answers_when_it_goes_on(
    private_redis: Callable[..., Valkey],
) -> None:
    server = private_redis()
    async with Redis.from_url(server.url) as db:
        await db.ping()
        server.pause()
        asked = asyncio.ensure_future(db.ping())
        done, _ = await asyncio.wait([asked], timeout=0.2)
        assert not done
        server.resume()
        assert await asked


async def test_nats_keeps_what_it_acknowledged_over_a_kill(
    private_nats: Callable[..., Nats],
) -> None:
    server = private_nats()
    client = await nats.connect(server.url)
    stream = client.jetstream(timeout=PATIENCE)
    await stream.add_stream(name="kept", subjects=["kept"])
    await stream.publish("kept", b"1")
    await client.close()
    server.kill()
    server.start()
    client = await nats.connect(server.url)
    assert (await client.jetstream(timeout=PATIENCE).get_msg("kept", 1)).data == b"1"
    await client.close()


async def test_s3_creates_only_what_is_not_there(s3_server: str) -> None:
    from obstore.exceptions import AlreadyExistsError
    from obstore.store import S3Store

    from tests.servers.s3 import KEY, REGION, SECRET

    store = S3Store(
        "omniq",
        endpoint=s3_server,
        access_key_id=KEY,
        secret_access_key=SECRET,
        region=REGION,
        client_options={"allow_http": True},
    )
    await store.put_async("once", b"1", mode="create")
    with pytest.raises(AlreadyExistsError):
        await store.put_async("once", b"2", mode="create")
    assert bytes(await (await store.get_async("once")).bytes_async()) == b"1"


async def test_s3_of_ones_own_is_empty(private_s3: Callable[[], S3]) -> None:
    assert private_s3().request("GET", "/omniq/once") == 404


async def test_valkey_cluster_has_three_nodes_that_share_the_slots(redis_cluster_url: str) -> None:
    async with RedisCluster.from_url(redis_cluster_url) as db:
        nodes = db.get_primaries()
        assert len(nodes) == 3
        for n in range(30):
            await db.set(f"key-{n}", n)
        assert [await db.get(f"key-{n}") for n in range(30)] == [b"%d" % n for n in range(30)]


async def test_nats_cluster_keeps_three_replicas(nats_cluster_url: str) -> None:
    client = await nats.connect(nats_cluster_url.split(","))
    stream = client.jetstream(timeout=PATIENCE / 2)
    info = await stream.add_stream(name="three", subjects=["three"], num_replicas=3)
    assert info.cluster is not None
    assert len(info.cluster.replicas or []) == 2
    async with asyncio.timeout(60):
        while True:  # a new stream has no leader for a moment, and says so only when asked
            try:
                await stream.publish("three", b"1")
                break
            except (nats.js.errors.NoStreamResponseError, nats.errors.TimeoutError):
                await asyncio.sleep(0.1)
    await stream.delete_stream("three")
    await client.close()


async def test_a_server_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """Killed tests leave nothing behind: not even SIGKILL lets a server go on alone."""
    program = f"""
import os, subprocess, sys
leash = [sys.executable, {str(LEASH)!r}, str(os.getpid()), str(os.geteuid()), "9"]
child = subprocess.Popen([*leash, sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
input()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    watch = os.pidfd_open(child) if hasattr(os, "pidfd_open") else None
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    assert watch is not None
    loop.add_reader(watch, gone.set)
    async with asyncio.timeout(60):
        await gone.wait()
    loop.remove_reader(watch)
    os.close(watch)
    parent.stdin.close()
    parent.stdout.close()
