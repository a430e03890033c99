"""Rows that cannot be read or trusted fail by themselves; their neighbours run."""

from __future__ import annotations

import msgspec
import pytest

from omniq import AsyncOmniQ, EventType, Task
from omniq.errors import TaskFailed
from omniq.models.filters import EventFilter

pytestmark = pytest.mark.asyncio


def plain(x: int) -> int:
    return x + 1


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x91\x01", b"not msgpack at all"])
async def test_a_row_whose_body_cannot_be_read(queue: AsyncOmniQ, body: bytes) -> None:
    await queue.enqueue(plain, (1,))
    insert = queue.engine.insert(Task(func=plain, args=(1,)))
    row = msgspec.structs.replace(insert.row, body=body)
    await queue.stores.apply([msgspec.structs.replace(insert, row=row)])
    with pytest.raises(TaskFailed):
        await queue.get_result(row.id, 60)
    assert await (await queue.enqueue(plain, (1,))).result(60) == 2


async def test_a_tampered_payload_is_never_opened_nor_tried_again(queue: AsyncOmniQ) -> None:
    await queue.enqueue(plain, (1,))
    insert = queue.engine.insert(Task(func=lambda: "carried by value"))
    body = queue.engine.body(insert.row)
    payload = bytearray(body.payload)
    payload[-1] ^= 1
    forged = msgspec.structs.replace(body, payload=bytes(payload))
    row = msgspec.structs.replace(insert.row, body=msgspec.msgpack.encode(forged))
    await queue.stores.apply([msgspec.structs.replace(insert, row=row)])
    with pytest.raises(TaskFailed, match="UntrustedPayload") as caught:
        await queue.get_result(row.id, 60)
    assert caught.value.attempts == 1
    assert await (await queue.enqueue(plain, (1,))).result(60) == 2


async def test_a_payload_moved_to_another_task_is_refused(queue: AsyncOmniQ) -> None:
    await queue.enqueue(plain, (1,))
    donor = queue.engine.insert(Task(func=lambda: "of another task"))
    insert = queue.engine.insert(Task(func=lambda: "mine"))
    row = msgspec.structs.replace(insert.row, body=donor.row.body)
    await queue.stores.apply([msgspec.structs.replace(insert, row=row)])
    with pytest.raises(TaskFailed, match="UntrustedPayload"):
        await queue.get_result(row.id, 60)


async def test_a_result_over_the_limit_is_not_made_again(queue: AsyncOmniQ) -> None:
    handle = await queue.enqueue(bytes, (2_000_000,))
    with pytest.raises(TaskFailed, match="2000") as caught:
        await handle.result(60)
    assert caught.value.type == "omniq.errors.PayloadTooLarge"
    assert caught.value.attempts == 1


async def test_at_debug_the_start_and_the_enqueueing_are_events_too(queue: AsyncOmniQ) -> None:
    queue.engine.events.level = "DEBUG"
    handle = await queue.enqueue(plain, (1,))
    await handle.result(60)
    page = await queue.events(EventFilter(task=handle.id))
    assert [event.type for event in page.events] == [
        EventType.ENQUEUED,
        EventType.EXECUTING,
        EventType.COMPLETE,
    ]
