"""What callers say wrongly is refused with a word on what was meant, before anything is stored."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, get_args

import pytest

from omniq import AsyncOmniQ, Task, task
from omniq.errors import ConfigError, InvalidTask, OmniQError
from omniq.ids import uuid7
from omniq.models.config import WorkerConfig
from omniq.models.filters import TaskFilter
from omniq.models.row import Dep, Unique
from omniq.models.task import LANES, RetryPolicy, WorkerKind
from omniq.workers import WorkerPool
from omniq.workers import worker as lanes

pytestmark = pytest.mark.asyncio

NAN, INF = float("nan"), float("inf")


def plain(x: int = 0, **more: int) -> int:
    return x + 1


BAD: list[tuple[str, dict[str, Any]]] = [
    ("retries", {"retries": "3"}),
    ("retries", {"retries": True}),
    ("retries", {"retries": 1.5}),
    ("retries", {"retries": RetryPolicy(retries=-1)}),
    ("retry_delay", {"retries": RetryPolicy(delay=NAN)}),
    ("max_delay", {"retries": RetryPolicy(max_delay=INF)}),
    ("factor", {"retries": RetryPolicy(factor=1e300)}),
    ("jitter", {"retries": RetryPolicy(jitter=-1)}),
    ("delay", {"delay": "1"}),
    ("delay", {"delay": NAN}),
    ("timeout", {"timeout": NAN}),
    ("timeout", {"timeout": True}),
    ("ttl", {"ttl": INF}),
    ("result_ttl", {"result_ttl": "1"}),
    ("priority", {"priority": True}),
    ("priority", {"priority": 1.0}),
    ("run_at", {"run_at": "2030-01-01"}),
    ("tags", {"tags": "abc"}),
    ("tags", {"tags": [1]}),
    ("tags", {"tags": ["caf\udce9"]}),
    ("tags", {"tags": 5}),
    ("unique", {"unique": 5}),
    ("unique", {"unique": ""}),
    ("unique", {"unique": Unique("k", free="never")}),  # type: ignore[arg-type]
    ("depends_on", {"depends_on": 5}),
    ("depends_on", {"depends_on": [5]}),
    ("depends_on", {"depends_on": Dep("x", need="luck")}),  # type: ignore[arg-type]
    ("metadata", {"metadata": "abc"}),
    ("metadata", {"metadata": {"a": object()}}),
    ("metadata", {"metadata": {1: 2}}),
    ("did you mean 'thread'", {"worker": "treads"}),
    ("worker", {"worker": 5}),
    ("queue", {"queue": 5}),
    ("queue", {"queue": ["a"]}),
    ("queue", {"queue": "a/../b"}),
    ("queue", {"queue": "grün"}),
    ("queue", {"queue": "a\n"}),
    ("id", {"id": 5}),
]


@pytest.mark.parametrize(("says", "options"), BAD, ids=lambda v: str(v)[:40])
async def test_options_of_wrong_kinds(says: str, options: dict[str, Any], bare: AsyncOmniQ) -> None:
    with pytest.raises(InvalidTask, match=says):
        await bare.enqueue(plain, (1,), **options)
    with pytest.raises(InvalidTask, match=says):
        await bare.enqueue_many([Task(func=plain), Task(func=plain, **options), Task(func=plain)])
    assert (await bare.find(TaskFilter())).tasks == []


@pytest.fixture
async def bare(tmp_path: Path) -> Any:
    queue = AsyncOmniQ(storage_type="memory", base_dir=tmp_path)
    queue.embedded = False
    async with queue:
        yield queue


async def test_arguments_of_wrong_shapes(bare: AsyncOmniQ) -> None:
    for args in ("abc", {"x": 1}, (n for n in (1, 2)), 5, {1}):
        with pytest.raises(InvalidTask, match="args must be a tuple"):
            await bare.enqueue(plain, args)  # type: ignore[arg-type]
        with pytest.raises(InvalidTask, match="args must be a tuple"):
            await bare.enqueue_many([Task(func=plain, args=args)])  # type: ignore[arg-type]
    for kwargs in ({1: 2}, [("a", 1)], "ab"):
        with pytest.raises(InvalidTask, match="kwargs"):
            await bare.enqueue(plain, (), kwargs)  # type: ignore[arg-type]
    with pytest.raises(InvalidTask, match="write Task"):
        await bare.enqueue_many([Task(func=plain), plain])  # type: ignore[list-item]
    assert (await bare.find(TaskFilter())).tasks == []


async def test_what_a_decorator_says_wrongly(bare: AsyncOmniQ) -> None:
    with pytest.raises(InvalidTask, match="tags"):
        task(f"tests.{uuid7()}", tags="abc")(plain)
    for options in ({"retries": "3"}, {"retry_delay": "x"}, {"retry_delay": NAN}, {"worker": "x"}):

        def func() -> None: ...

        made = task(f"tests.{uuid7()}", **options)(func)  # type: ignore[call-overload]
        with pytest.raises(OmniQError):
            await bare.enqueue(made)


async def test_enums_are_the_values_they_stand_for(bare: AsyncOmniQ, tmp_path: Path) -> None:
    class Queue(StrEnum):
        MAIL = "mail"

    class Level(IntEnum):
        HIGH = 7

    async with AsyncOmniQ(storage_type="sqlite", base_dir=tmp_path) as other:
        for queue in (bare, other):
            handle = await queue.enqueue(
                plain, (1,), queue=Queue.MAIL, priority=Level.HIGH, tags=[Queue.MAIL], unique="k"
            )
            row = (await queue.info(handle)).row
            assert (row.queue, row.priority, row.tags) == ("mail", 7, ("mail",))
            assert type(row.queue) is str
            child = await queue.enqueue(plain, (1,), depends_on=[Dep(handle), handle, handle.id])
            assert (await queue.info(child)).row.waiting <= 1
    with pytest.raises(OmniQError):
        await bare.enqueue(plain, (1,), unique="k")


@pytest.mark.parametrize("kind", ["process", "gevent"])
async def test_a_planned_lane_is_refused_alike_everywhere(kind: Any) -> None:
    text = "is not there yet: use 'thread' or 'async'"
    with pytest.raises(InvalidTask, match=f"worker='{kind}' {text}"):
        async with AsyncOmniQ(storage_type="memory") as queue:
            await queue.enqueue(plain, worker=kind)
    with pytest.raises(ConfigError, match=f"worker type '{kind}' {text}"):
        WorkerPool.configured(queue, WorkerConfig(default=kind))


async def test_the_lanes_that_are_there_are_those_workers_have() -> None:
    assert set(lanes.LANES) == set(LANES) < set(get_args(WorkerKind))
