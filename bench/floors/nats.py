"""NATS by nats-py: a message holds 100 tasks, one for their results is published, then the ack.

The ack is waited for, as an end is on every other floor: one that is only sent is not durable, and
a message whose ack was lost is worked on again.

One message per task is the way people know, and several times slower than what OmniQ does
(5,000 a second where this does 38,000): no floor to be proud of.
"""

from __future__ import annotations

import time
from contextlib import suppress

import nats
from floors.work import BATCH, PAYLOAD, decode, encode, run_all
from nats.js import JetStreamContext
from nats.js.api import RetentionPolicy, StreamConfig
from nats.js.errors import NotFoundError

from omniq.ids import uuid7


async def insert(js: JetStreamContext, tasks: int) -> None:
    for start in range(0, tasks, BATCH):
        rows = [(uuid7(), PAYLOAD) for _ in range(min(BATCH, tasks - start))]
        await js.publish("floor.task", encode(rows))


async def throughput(url: str, tasks: int) -> float:
    """Seconds for `tasks` no-op coroutines, 100 at a time."""
    client = await nats.connect(url)
    try:
        js = client.jetstream()
        for name in ("FLOOR_TASK", "FLOOR_RESULT"):
            with suppress(NotFoundError):
                await js.delete_stream(name)
        await js.add_stream(
            StreamConfig(
                name="FLOOR_TASK", subjects=["floor.task"], retention=RetentionPolicy.WORK_QUEUE
            )
        )
        await js.add_stream(StreamConfig(name="FLOOR_RESULT", subjects=["floor.result"]))
        await insert(js, tasks)
        line = await js.pull_subscribe("floor.task", "floor")
        done = 0
        started = time.perf_counter()
        while done < tasks:
            (message,) = await line.fetch(1, timeout=5)
            ended = await run_all(decode(message.data))
            await js.publish("floor.result", encode(ended))
            await message.ack_sync()
            done += len(ended)
        await client.flush()
        return time.perf_counter() - started
    finally:
        await client.close()
