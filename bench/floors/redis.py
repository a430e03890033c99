"""Redis by redis.asyncio: one short script pops 100 payloads, another keeps their results."""

from __future__ import annotations

import time

from floors.work import BATCH, PAYLOAD, run_all
from redis.asyncio import Redis

from omniq.ids import uuid7

CLAIM = """
local taken = redis.call('ZPOPMIN', KEYS[1], ARGV[1])
local rows = {}
for n = 1, #taken, 2 do
  rows[n] = taken[n]
  rows[n + 1] = redis.call('GET', 'floor:task:' .. taken[n])
end
return rows
"""
SETTLE = """
for n = 1, #ARGV, 2 do
  redis.call('DEL', 'floor:task:' .. ARGV[n])
  redis.call('SET', 'floor:result:' .. ARGV[n], ARGV[n + 1], 'PX', 86400000)
end
"""
INSERT = """
local line = {}
for n = 1, #ARGV, 2 do
  redis.call('SET', 'floor:task:' .. ARGV[n], ARGV[n + 1])
  line[n] = 0
  line[n + 1] = ARGV[n]
end
redis.call('ZADD', KEYS[1], unpack(line))
"""
BULK = 500


async def connect(url: str) -> Redis:
    client: Redis = Redis.from_url(url)
    async for key in client.scan_iter("floor:*", count=5000):
        await client.unlink(key)
    return client


async def insert(client: Redis, tasks: int) -> None:
    """The tightest way: one script stores 500 payloads and their places in the line."""
    put = client.register_script(INSERT)
    for start in range(0, tasks, BULK):
        count = min(BULK, tasks - start)
        await put(keys=["floor:ready"], args=[a for _ in range(count) for a in (uuid7(), PAYLOAD)])


async def insert_plainly(client: Redis, tasks: int) -> None:
    """As people insert in bulk: a pipeline of 500 hashes and their places in the line."""
    for start in range(0, tasks, BULK):
        async with client.pipeline(transaction=True) as pipe:
            ids = [uuid7() for _ in range(min(BULK, tasks - start))]
            for id in ids:
                pipe.hset(f"floor:task:{id}", mapping={"status": 40, "payload": PAYLOAD})
            pipe.zadd("floor:ready", dict.fromkeys(ids, 0))
            await pipe.execute()


async def throughput(url: str, tasks: int) -> float:
    """Seconds for `tasks` no-op coroutines, 100 at a time."""
    client = await connect(url)
    try:
        await insert(client, tasks)
        claim, settle = client.register_script(CLAIM), client.register_script(SETTLE)
        done = 0
        started = time.perf_counter()
        while taken := await claim(keys=["floor:ready"], args=[BATCH]):
            ended = await run_all(zip(taken[::2], taken[1::2], strict=True))
            await settle(args=[a for pair in ended for a in pair])
            done += len(ended)
        taken_seconds = time.perf_counter() - started
        assert done == tasks
        return taken_seconds
    finally:
        await client.aclose()


async def bulk(url: str, tasks: int, *, tight: bool = False) -> float:
    """Seconds to insert `tasks`, 500 a call."""
    client = await connect(url)
    try:
        started = time.perf_counter()
        await (insert if tight else insert_plainly)(client, tasks)
        return time.perf_counter() - started
    finally:
        await client.aclose()
