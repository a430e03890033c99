"""What a process puts around every call its workers make."""

from __future__ import annotations

import threading

import pytest
from msgspec.structs import replace

from omniq import AsyncOmniQ
from omniq.errors import TaskFailed
from omniq.queue.engine import Loaded

pytestmark = pytest.mark.asyncio

seen: list[tuple[str, int]] = []


def counted(call: Loaded) -> Loaded:
    """Notes where a call begins and ends, and fills in `rate`."""

    def here(*args: object, **kwargs: object) -> object:
        seen.append(("before", threading.get_ident()))
        try:
            return call.func(*args, **{"rate": 2, **kwargs})
        finally:
            seen.append(("after", threading.get_ident()))

    async def there(*args: object, **kwargs: object) -> object:
        seen.append(("before", threading.get_ident()))
        try:
            return await call.func(*args, **{"rate": 2, **kwargs})
        finally:
            seen.append(("after", threading.get_ident()))

    return replace(call, func=there if call.is_async else here)


def thread_of(rate: int) -> tuple[int, int]:
    return rate, threading.get_ident()


async def doubled(value: int, rate: int) -> int:
    return value * rate


async def broken(rate: int) -> None:
    raise ValueError("no")


@pytest.mark.parametrize("lane", ["async", "thread"])
async def test_it_surrounds_a_plain_function_in_its_own_thread(lane: str) -> None:
    seen.clear()
    async with AsyncOmniQ(storage_type="memory", worker_type=lane) as queue:
        queue.around.append(counted)
        rate, thread = await (await queue.enqueue(thread_of)).result(60)
    assert (rate, seen) == (2, [("before", thread), ("after", thread)])


@pytest.mark.parametrize("lane", ["async", "thread"])
async def test_it_surrounds_a_coroutine_and_a_failure(lane: str) -> None:
    seen.clear()
    async with AsyncOmniQ(storage_type="memory", worker_type=lane) as queue:
        queue.around.append(counted)
        assert await (await queue.enqueue(doubled, (4,))).result(60) == 8
        handle = await queue.enqueue(broken, retries=0)
        with pytest.raises(TaskFailed, match="no"):
            await handle.result(60)
    assert [what for what, _ in seen] == ["before", "after"] * 2


async def test_what_fails_around_a_call_fails_the_task() -> None:
    def refuse(call: Loaded) -> Loaded:
        raise LookupError("nothing to fill in")

    async with AsyncOmniQ(storage_type="memory") as queue:
        queue.around.append(refuse)
        handle = await queue.enqueue(doubled, (4, 2), retries=0)
        with pytest.raises(TaskFailed, match="nothing to fill in"):
            await handle.result(60)
