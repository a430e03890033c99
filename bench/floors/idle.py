"""From sending a task to its start in another, idle process, by hand.

One trip puts the task where it is kept and wakes the other process, one trip claims it there.
The other process says when it started by the clock all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import nats
from floors.work import PAYLOAD, run
from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig
from redis.asyncio import Redis

from omniq.ids import uuid7

BENCH = Path(__file__).parents[1]
Send = Callable[[], Awaitable[Any]]
Tasks = AsyncIterator[tuple[Any, bytes]]

PUT = """
redis.call('SET', 'floor:task:' .. ARGV[1], ARGV[2])
redis.call('ZADD', 'floor:ready', 0, ARGV[1])
redis.call('PUBLISH', 'floor', '')
"""
TAKE = """
local taken = redis.call('ZPOPMIN', 'floor:ready')
return { taken[1], redis.call('GET', 'floor:task:' .. taken[1]) }
"""
TABLE = """
DROP SCHEMA IF EXISTS floor CASCADE;
CREATE SCHEMA floor;
CREATE TABLE floor.task (id text PRIMARY KEY, status smallint NOT NULL, payload bytea NOT NULL);
CREATE INDEX ready ON floor.task (id) WHERE status = 40;
"""
INSERT = """
WITH put AS (INSERT INTO floor.task VALUES ($1, 40, $2)) SELECT pg_notify('floor', '')
"""
CLAIM = """
UPDATE floor.task SET status = 50 WHERE id = (
    SELECT id FROM floor.task WHERE status = 40 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, payload
"""


# -- who sends -------------------------------------------------------------------------------


@asynccontextmanager
async def sender(place: str, url: str) -> AsyncIterator[Send]:
    """What sends one task."""
    if place == "redis":
        async with Redis.from_url(url) as redis:
            await redis.delete("floor:ready")
            put = redis.register_script(PUT)
            yield lambda: put(args=[uuid7(), PAYLOAD])
    elif place == "postgres":
        connection = await asyncpg.connect(url)
        await connection.execute(TABLE)
        yield lambda: connection.fetchval(INSERT, uuid7(), PAYLOAD)
        await connection.close()
    else:
        client = await nats.connect(url)
        js = client.jetstream()
        await js.add_stream(
            StreamConfig(name="FLOOR", subjects=["floor"], retention=RetentionPolicy.WORK_QUEUE)
        )
        yield lambda: js.publish("floor", PAYLOAD)
        await js.delete_stream("FLOOR")
        await client.close()


# -- who works -------------------------------------------------------------------------------


async def redis_tasks(url: str, stack: AsyncExitStack) -> Tasks:
    client = await stack.enter_async_context(Redis.from_url(url))
    ears = await stack.enter_async_context(client.pubsub(ignore_subscribe_messages=False))
    await ears.subscribe("floor")
    take = client.register_script(TAKE)
    async for message in ears.listen():
        if message["type"] == "subscribe":
            print("ready", flush=True)
        else:
            yield await take()


async def postgres_tasks(url: str, stack: AsyncExitStack) -> Tasks:
    ears, claims = await asyncpg.connect(url), await asyncpg.connect(url)
    heard = asyncio.Event()
    await ears.add_listener("floor", lambda *_: heard.set())
    print("ready", flush=True)
    while True:
        await heard.wait()
        heard.clear()
        row = await claims.fetchrow(CLAIM)
        assert row is not None
        yield row["id"], row["payload"]


async def nats_tasks(url: str, stack: AsyncExitStack) -> Tasks:
    """A message is claimed by being delivered: the ack takes the place of a claim's trip."""
    client = await nats.connect(url)
    line = await client.jetstream().subscribe("floor", config=ConsumerConfig(), manual_ack=True)
    print("ready", flush=True)
    async for message in line.messages:
        await message.ack()
        yield None, message.data


TASKS = {"redis": redis_tasks, "postgres": postgres_tasks, "nats": nats_tasks}


async def work(place: str, url: str) -> None:
    async with AsyncExitStack() as stack:
        async for id, payload in TASKS[place](url, stack):
            print(time.clock_gettime_ns(time.CLOCK_MONOTONIC), flush=True)
            await run(id, payload)


async def latency(place: str, url: str, tasks: int) -> list[float]:
    """Seconds from sending to the start, one at a time."""
    taken = []
    async with sender(place, url) as send:
        pipe = asyncio.subprocess.PIPE
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "floors.idle", place, url), cwd=BENCH, stdout=pipe
        )
        assert worker.stdout is not None
        try:
            assert await worker.stdout.readline() == b"ready\n"
            for n in range(tasks + 20):
                before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
                await send()
                began = int(await worker.stdout.readline())
                if n >= 20:
                    taken.append((began - before) / 1e9)
                await asyncio.sleep(0.06)  # let it fall idle again
        finally:
            worker.terminate()
            await worker.wait()
    return taken


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2]))
