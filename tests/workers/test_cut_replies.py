"""A place that fails in the middle: before a call it took no notice of it, after it the answer
is cut off. Nothing is lost by that, and nothing ends twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from omniq import AsyncOmniQ, Task, task
from omniq.errors import ConfigError, StorageUnavailable
from omniq.ids import uuid7
from omniq.models import Status
from omniq.models.filters import Batch, Claim, Held, HeldTask, TaskFilter
from omniq.models.units import Move, Receipt, Unit
from omniq.storage.base import AsyncStorage
from omniq.storage.memory import AsyncMemoryStorage
from omniq.storage.sqlite import AsyncSQLiteStorage
from omniq.workers import pool, pump
from tests.waiting import until

pytestmark = pytest.mark.asyncio


class Fate:
    """What becomes of each call: `plan` gives "", "before" or "after" in turn, then ""."""

    def __init__(self) -> None:
        self.plan: list[str] = []
        self.cut = 0

    async def meet(self, call: Any) -> Any:
        what = self.plan.pop(0) if self.plan else ""
        if what == "before":
            self.cut += 1
            raise StorageUnavailable("cut before")
        answer = await call()
        if what == "after":
            self.cut += 1
            raise StorageUnavailable("cut after")
        return answer


def cutting(kind: type[AsyncStorage], fate: Fate) -> type[Any]:
    """A place of that kind whose exchanges (and heartbeats) meet a fate."""

    class Cut(kind):  # type: ignore[misc, valid-type]
        async def exchange(self, units: Sequence[Unit], claim: Claim) -> tuple[Receipt, Batch]:
            answer: tuple[Receipt, Batch] = await fate.meet(
                lambda: super(Cut, self).exchange(units, claim)
            )
            return answer

        async def extend(self, owner: str, lease: int, held: Sequence[HeldTask]) -> Held:
            answer: Held = await fate.meet(lambda: super(Cut, self).extend(owner, lease, held))
            return answer

    return Cut


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pump asks again without the pause that spares a real server."""
    monkeypatch.setattr(pump, "AGAIN", 0.001)


def queue_on(kind: str, fate: Fate, folder: Path, **options: Any) -> AsyncOmniQ:
    place: AsyncStorage
    if kind == "memory":
        place = cutting(AsyncMemoryStorage, fate)()
    else:
        place = cutting(AsyncSQLiteStorage, fate)(folder / "cut.db")
    return AsyncOmniQ(task_queue=place, base_dir=folder, retry_delay=0.001, **options)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_and_nothing_runs_twice_for_a_cut_reply(
    kind: str, seed: int, tmp_path: Path
) -> None:
    runs: Counter[int] = Counter()
    name = f"tests.{uuid7()}"

    @task(name, retries=1)
    async def count(n: int) -> int:
        runs[n] += 1
        await asyncio.sleep(0)
        if n % 10 == 0 and runs[n] == 1:
            raise ValueError("the first time")
        return n

    fate, rng = Fate(), random.Random(seed)
    async with queue_on(kind, fate, tmp_path, lease=60, async_workers=7) as queue:
        queue.embedded = False
        handles = await queue.enqueue_many([Task(func=count, args=(n,)) for n in range(80)])
        fate.plan = [rng.choice(["", "before", "after"]) for _ in range(60)]
        await queue.start_worker()
        values = [await handle.result(60) for handle in handles]
        assert values == list(range(80))
        assert fate.cut > 20
        # The lease is long: only the claim sent again can have found what was handed out.
        assert dict(runs) == {n: 2 if n % 10 == 0 else 1 for n in range(80)}
        rows = (await queue.find(TaskFilter(), limit=100)).tasks
        assert {(row.status, row.losses) for row in rows} == {(Status.SUCCEEDED, 0)}
        assert {row.attempt for row in rows} == {1, 2}


async def test_a_task_that_went_back_in_line_is_told_to_nobody_as_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its way back is sent twice, since the first answer was lost: the second is refused."""
    fate, runs, told = Fate(), 0, list[Status | None]()

    @task(f"tests.{uuid7()}", retries=1, retry_delay=0.2)
    async def twice() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            fate.plan = ["after"]
            raise ValueError("the first time")

    async with queue_on("memory", fate, tmp_path, lease=60, async_workers=1) as queue:
        queue.embedded = False
        settled = queue.settled

        def tell(moves: list[Move]) -> None:
            told.extend(move.to for move in moves)
            settled(moves)

        monkeypatch.setattr(queue, "settled", tell)
        handle = await queue.enqueue(twice)
        await queue.start_worker()
        await handle.result(60)
        assert (fate.cut, runs) == (1, 2)
        assert Status.CANCELLED not in told


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_claim_whose_answer_is_lost_at_the_stop_is_given_back(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "LEAVING_IN_VAIN", 60.0)  # the store is back in good time
    fate = Fate()
    async with queue_on(kind, fate, tmp_path, lease=60) as queue:
        queue.embedded = False
        handle = await queue.enqueue(asyncio.sleep, (0,), ttl=600)
        fate.plan = ["after"] + ["before"] * 10_000
        worker = await queue.start_worker()
        await until(lambda: fate.cut >= 2)
        row = (await queue.info(handle)).row
        assert (row.status, row.owner) == (Status.RUNNING, worker.id)
        stopping = asyncio.create_task(queue.stop_worker(grace=0))
        await asyncio.sleep(0)
        fate.plan = []
        await stopping
        row = (await queue.info(handle)).row
        assert (row.status, row.attempt, row.losses) == (Status.READY, 0, 0)
        assert row.expires_at is not None  # nobody began it in time


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_place_that_fails_while_it_is_opened_keeps_nothing_open(
    kind: str, tmp_path: Path
) -> None:
    class NoResults(AsyncMemoryStorage):
        async def open(self) -> None:
            raise ConfigError("not like this")

    fate = Fate()
    queue = queue_on(kind, fate, tmp_path, result_storage=NoResults())
    with pytest.raises(ConfigError, match="not like this"):
        await queue.open()
    with pytest.raises(Exception, match="not open"):
        await queue.stores.tasks.count_tasks()


async def test_a_worker_that_is_alive_again_sends_what_came_of_its_tasks(tmp_path: Path) -> None:
    """Its lease ran out without a word from the store; nobody took over, so its ends count."""
    fate = Fate()
    entered, cleaned = asyncio.Event(), asyncio.Event()

    @task(f"tests.{uuid7()}", retries=0)
    async def long() -> None:
        fate.plan = ["before"] * 1_000_000
        entered.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.3)  # several beats fail in this time
            cleaned.set()

    async with queue_on("memory", fate, tmp_path, lease=0.3) as queue:
        queue.embedded = False
        handle = await queue.enqueue(long)
        await queue.start_worker()
        await asyncio.wait_for(entered.wait(), 30)
        await asyncio.wait_for(cleaned.wait(), 30)
        stopping = asyncio.create_task(queue.stop_worker(grace=0))
        await asyncio.sleep(0)
        fate.plan = []
        await stopping
        row = (await queue.info(handle)).row
        assert (row.status, row.attempt, row.losses) == (Status.READY, 0, 0)
