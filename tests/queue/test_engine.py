"""Options: what is said with the task wins, then the function's own, then the configuration."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from omniq import AsyncOmniQ, RetryPolicy, Task, task
from omniq.errors import ConfigError, InvalidTask, PayloadTooLarge, UnknownOption
from omniq.ids import uuid7
from omniq.models.task import EnqueueOptions

pytestmark = pytest.mark.asyncio


@task("engine.own", queue="own", priority=3, retries=7, timeout=9, ttl=60, tags=["a"])
async def own() -> None: ...


@task("engine.plain")
def plain() -> None: ...


@pytest.fixture
async def queue() -> AsyncIterator[AsyncOmniQ]:
    made = AsyncOmniQ(storage_type="memory", retries=1, timeout=5.0)
    made.embedded = False
    async with made:
        yield made


async def test_the_configuration_speaks_for_functions_that_say_nothing(queue: AsyncOmniQ) -> None:
    info = await queue.info(await queue.enqueue(plain))
    row = info.row
    assert (row.queue, row.priority, row.lane, row.tags) == ("default", 0, "thread", ())
    assert (info.timeout, info.retry.retries if info.retry else None) == (5.0, 1)


async def test_the_functions_own_options_win_over_the_configuration(queue: AsyncOmniQ) -> None:
    info = await queue.info(await queue.enqueue(own))
    row = info.row
    assert (row.queue, row.priority, row.lane, row.tags) == ("own", 3, "async", ("a",))
    assert (info.timeout, info.retry.retries if info.retry else None) == (9.0, 7)
    assert row.expires_at == row.created_at + 60_000


async def test_what_is_said_with_the_task_wins_over_all(queue: AsyncOmniQ) -> None:
    handle = await queue.enqueue(
        own,
        queue="said",
        priority=-1,
        timeout=timedelta(seconds=2),
        ttl=None,
        retries=RetryPolicy(retries=2),
        tags=("b", "c"),
        worker="thread",
        metadata={"user": 5},
    )
    info = await queue.info(handle)
    row = info.row
    assert (row.queue, row.priority, row.lane, row.tags) == ("said", -1, "thread", ("b", "c"))
    assert (info.timeout, info.retry) == (2.0, RetryPolicy(retries=2))
    assert (row.expires_at, info.metadata) == (None, {"user": 5})


async def test_a_task_object_says_the_same_as_options(queue: AsyncOmniQ) -> None:
    made = Task(func=own, queue="said", priority=9)
    handle = await queue.enqueue(made)
    assert handle == made.id
    assert (await queue.info(handle)).row.priority == 9
    with pytest.raises(InvalidTask, match="set it on the Task"):
        await queue.enqueue(made, priority=1)


async def test_tasks_are_equal_and_sorted_by_id() -> None:
    first = Task(func=plain)
    same, later = Task(func=own, id=first.id), Task(func=plain)
    assert first == same
    assert len({first, same, later}) == 2
    assert sorted([later, first]) == [first, later]


async def test_every_option_of_enqueue_is_a_field_of_task() -> None:
    fields = set(Task.__struct_fields__) - {"func", "args", "kwargs"}
    assert set(EnqueueOptions.__annotations__) == fields


async def test_enqueueing_one_id_twice_stores_one_task(queue: AsyncOmniQ) -> None:
    made = Task(func=plain)
    assert await queue.enqueue(made) == await queue.enqueue(made)
    assert sum(count.count for count in await queue.counts()) == 1


async def test_a_moment_needs_a_time_zone_and_no_delay_besides(queue: AsyncOmniQ) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    row = (await queue.info(await queue.enqueue(plain, run_at=moment))).row
    assert row.run_at == int(moment.timestamp() * 1000)
    with pytest.raises(InvalidTask, match="time zone"):
        await queue.enqueue(plain, run_at=datetime(2030, 1, 1))
    with pytest.raises(InvalidTask, match="not both"):
        await queue.enqueue(plain, run_at=moment, delay=1)


async def test_a_payload_over_the_limit_names_its_largest_argument() -> None:
    async with AsyncOmniQ(storage_type="memory", max_payload=1000) as queue:
        with pytest.raises(PayloadTooLarge, match=r"args\[1\]") as caught:
            await queue.enqueue(print, ("small", "x" * 2000))
        assert caught.value.limit == 1000
        assert sum(count.count for count in await queue.counts()) == 0


async def test_an_unknown_option_of_the_decorator_is_refused_at_once() -> None:
    with pytest.raises(UnknownOption, match="did you mean 'retries'"):
        task("x", retrys=1)(plain)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="exception classes"):
        task("x", retry_on=[5])(plain)  # type: ignore[list-item]


async def test_a_task_enqueues_itself_on_the_open_queue(queue: AsyncOmniQ) -> None:
    handle = await own.enqueue()
    assert (await queue.info(handle)).row.queue == "own"
    assert await own() is None  # a call is a call


async def test_a_queue_works_on_one_loop_after_the_other(tmp_path: Path) -> None:
    import asyncio

    kept = AsyncOmniQ(base_dir=tmp_path)

    async def add(x: int, y: int) -> int:
        return x + y

    async def once() -> int:
        handle = await kept.enqueue(add, (1, 2))
        return await handle.result(60)

    for _ in range(2):
        assert await asyncio.to_thread(asyncio.run, once()) == 3


async def test_parts_cannot_be_given_twice() -> None:
    from omniq.backend import MemoryBackend
    from omniq.storage import AsyncMemoryStorage

    with pytest.raises(ConfigError, match="both say"):
        AsyncOmniQ(backend=MemoryBackend(), task_queue=AsyncMemoryStorage())


async def test_results_and_events_may_live_elsewhere(tmp_path: Path) -> None:
    from omniq.storage import AsyncMemoryStorage

    async def add(x: int, y: int) -> int:
        return x + y

    results, events = AsyncMemoryStorage(), AsyncMemoryStorage()
    queue = AsyncOmniQ(base_dir=tmp_path, result_storage=results, event_storage=events)
    async with queue:
        handle = await queue.enqueue(add, (1, 2))
        assert await handle.result(60) == 3
        assert (await queue.result(handle)).value == 3
        assert await results.get_results([handle.id])
        assert not await queue.stores.tasks.get_results([handle.id])  # type: ignore[attr-defined]
        assert (await queue.events()).events


async def test_ids_are_checked_when_they_are_chosen_by_hand(queue: AsyncOmniQ) -> None:
    chosen = uuid7()
    assert await queue.enqueue(plain, id=chosen) == chosen
    with pytest.raises(InvalidTask, match="uuid7"):
        await queue.enqueue(Task(func=plain, id="mine"))
