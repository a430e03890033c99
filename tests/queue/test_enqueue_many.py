"""Many tasks at once, some of which the place refuses."""

from __future__ import annotations

import traceback

import pytest

from omniq import AsyncOmniQ, OmniQ, Task
from omniq.errors import DuplicateTask, InvalidTask
from omniq.ids import uuid7


async def double(x: int) -> int:
    return 2 * x


def some(*keys: str | None) -> list[Task]:
    return [Task(func=double, args=(n,), unique=key) for n, key in enumerate(keys)]


@pytest.mark.asyncio
async def test_a_taken_key_refuses_one_task_and_no_other() -> None:
    async with AsyncOmniQ(storage_type="memory") as queue:
        holder = await queue.enqueue(double, (1,), unique="b", delay=60)
        tasks = some("a", "b", None, "a")
        with pytest.raises(DuplicateTask) as caught:
            await queue.enqueue_many(tasks)
        error = caught.value
        assert (error.key, error.holder) == ("b", holder)
        assert error.stored == (tasks[0].id, None, tasks[2].id, None)
        told = "".join(traceback.format_exception(error))
        assert "2 of 4 tasks were stored: see error.stored" in told
        # They run like any other, although the call has raised.
        assert [await queue.get_result(id, 60) for id in error.stored if id] == [0, 4]


@pytest.mark.asyncio
async def test_a_missing_parent_too() -> None:
    async with AsyncOmniQ(storage_type="memory") as queue:
        orphan = Task(func=double, args=(1,), depends_on=[uuid7()])
        fine = Task(func=double, args=(2,))
        with pytest.raises(InvalidTask, match="no task has the id") as caught:
            await queue.enqueue_many([orphan, fine])
        assert caught.value.stored == (None, fine.id)


@pytest.mark.asyncio
async def test_one_alone_speaks_of_itself_only() -> None:
    async with AsyncOmniQ(storage_type="memory") as queue:
        await queue.enqueue(double, (1,), unique="a", delay=60)
        with pytest.raises(DuplicateTask) as caught:
            await queue.enqueue(double, (1,), unique="a")
        assert caught.value.stored == ()
        assert not hasattr(caught.value, "__notes__")


def test_the_blocking_face_tells_the_same() -> None:
    with OmniQ(storage_type="memory") as queue:
        tasks = some("a", "a")
        with pytest.raises(DuplicateTask) as caught:
            queue.enqueue_many(tasks)
        assert caught.value.stored == (tasks[0].id, None)
        assert queue.get_result(tasks[0].id, 10) == 0
