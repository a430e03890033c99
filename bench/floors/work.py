"""The work of every floor: the same no-op coroutine, payload and batch as OmniQ's own runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec

encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode
BATCH = 100
PAYLOAD = encode([[5, 10], {}])


async def noop(x: int, y: int) -> int:
    return x + y


async def run(id: Any, payload: bytes) -> tuple[Any, bytes]:
    """Run one task: its id and its result's bytes."""
    args, kwargs = decode(payload)
    return id, encode(await noop(*args, **kwargs))


async def run_all(rows: Iterable[tuple[Any, bytes]]) -> list[tuple[Any, bytes]]:
    """Run a claimed batch at once."""
    return await asyncio.gather(*(run(id, payload) for id, payload in rows))
