"""Opening, closing and giving up at awkward moments: nothing hangs and nothing stays behind."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from omniq import AsyncOmniQ, Task, task
from omniq.errors import OmniQError, ResultTimeout, StorageClosed, StorageUnavailable, TaskNotFound
from omniq.ids import uuid7
from omniq.storage.memory import AsyncMemoryStorage
from tests.waiting import until

pytestmark = pytest.mark.asyncio


def plain(x: int) -> int:
    return x + 1


def others() -> set[str]:
    """What else lives on this loop."""
    return {t.get_name() for t in asyncio.all_tasks() if t is not asyncio.current_task()}


def threads() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if t.name.startswith("omniq")}


@pytest.fixture(params=["memory", "sqlite"])
def closed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncOmniQ:
    return AsyncOmniQ(storage_type=request.param, base_dir=tmp_path, lease=60)


async def nothing_left() -> None:
    """Wait until every task of OmniQ has ended."""
    await until(lambda: not any(name.startswith("omniq") for name in others()))


async def test_a_close_during_the_opening_closes(closed: AsyncOmniQ) -> None:
    opening = asyncio.create_task(closed.open())
    await asyncio.sleep(0)
    await closed.close()
    await opening
    await nothing_left()
    with pytest.raises(StorageClosed):
        await closed.stores.tasks.count_tasks()


async def test_a_close_during_the_start_of_the_worker_stops_it(closed: AsyncOmniQ) -> None:
    await closed.open()
    starting = asyncio.create_task(closed.start_worker())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await closed.close(0)
    await asyncio.gather(starting, return_exceptions=True)
    await nothing_left()


async def test_a_close_during_an_enqueue_leaves_nothing_running(closed: AsyncOmniQ) -> None:
    await closed.open()
    callers = [asyncio.create_task(closed.enqueue(plain, (n,))) for n in range(50)]
    await asyncio.sleep(0)
    await closed.close(0)
    for answer in await asyncio.gather(*callers, return_exceptions=True):
        assert isinstance(answer, str | OmniQError)
    await nothing_left()


async def test_who_waits_while_the_queue_is_closed_is_told_so(closed: AsyncOmniQ) -> None:
    closed.embedded = False
    handle = await closed.enqueue(plain, (1,), delay=60)
    waiting = asyncio.create_task(handle.result())
    listed = asyncio.create_task(anext(closed.results([handle])))  # type: ignore[arg-type]
    assert closed._session is not None
    waiter = closed._session.waiter
    await until(lambda: len(waiter._open.get(handle.id, ())) == 2)
    await closed.close()
    for caller in (waiting, listed):
        with pytest.raises(StorageClosed, match="closed during this wait"):
            await caller
    await nothing_left()


async def test_leaving_results_early_leaves_nobody_waiting(closed: AsyncOmniQ) -> None:
    async with closed as queue:
        queue.embedded = False
        never = await queue.enqueue(plain, (1,), delay=600)
        before = others()
        with pytest.raises(TaskNotFound):
            async for _ in queue.results([never, uuid7()]):
                pass
        assert others() - before <= {"omniq-waiter", "omniq-waiter-ear"}
        with pytest.raises(ResultTimeout):
            await queue.get_result(never, 0.05)
        await queue.cancel(never)
        ended = [r.id async for r in queue.results([never, never, str(never)])]
        assert ended == [never]
        assert [r.id async for r in queue.results(never)] == [never]


async def test_a_timeout_of_zero_reads_what_has_ended(closed: AsyncOmniQ) -> None:
    async with closed as queue:
        handle = await queue.enqueue(plain, (1,))
        assert await handle.result(60) == 2
        assert await handle.result(0) == 2
        later = await queue.enqueue(plain, (1,), delay=60)
        with pytest.raises(ResultTimeout):
            await later.result(0)
        with pytest.raises(TaskNotFound):
            await queue.get_result(uuid7(), 0)


async def test_ten_lives_leave_no_thread_behind(closed: AsyncOmniQ) -> None:
    others = threads()  # the blocking face keeps its loop's thread as long as the process
    for n in range(10):
        async with closed as queue:
            assert await (await queue.enqueue(plain, (n,))).result(60) == n + 1
    await until(lambda: threads() <= others)


async def test_a_waiter_survives_a_place_that_does_not_answer(tmp_path: Path) -> None:
    class Deaf(AsyncMemoryStorage):
        fails = 0

        def listen(self, topics: Any) -> Any:
            if type(self).fails:
                type(self).fails -= 1
                raise StorageUnavailable("cannot listen now")
            return super().listen(topics)

    async with AsyncOmniQ(task_queue=Deaf(), base_dir=tmp_path) as queue:
        Deaf.fails = 1
        handle = await queue.enqueue(plain, (1,), delay=0.01)
        assert await handle.result(60) == 2
        await queue.stop_worker()
        handle = await queue.enqueue(plain, (1,), delay=0.01)
        Deaf.fails = 1
        assert await handle.result(60) == 2


async def test_tasks_do_not_inherit_what_surrounded_the_first_enqueue(closed: AsyncOmniQ) -> None:
    request = contextvars.ContextVar("request", default="nobody's")

    @task(f"tests.{uuid7()}")
    async def whose() -> str:
        return request.get()

    async def first_request() -> str:
        request.set("the first")
        return await (await queue.enqueue(whose)).result(60)

    async with closed as queue:
        assert await asyncio.create_task(first_request()) == "nobody's"
        assert await (await queue.enqueue(whose, worker="thread")).result(60) == "nobody's"


async def test_more_queues_than_one_page_of_names(closed: AsyncOmniQ) -> None:
    async with closed as queue:
        queue.embedded = False
        names = [f"q{n:04d}" for n in range(1100)]
        later = [Task(func=plain, args=(1,), queue=name, delay=600) for name in names[:-1]]
        await queue.enqueue_many(later)
        last = await queue.enqueue(plain, (1,), queue=names[-1])
        await queue.start_worker()
        assert await last.result(60) == 2


SCRIPT = """
import asyncio, sys
from omniq import AsyncOmniQ
async def long():
    runs.set()
    print("running", flush=True)
    await asyncio.sleep(3600)
async def main():
    global runs
    runs = asyncio.Event()
    queue = AsyncOmniQ(base_dir=sys.argv[1], lease=3600)
    handle = await queue.enqueue(long)
    print(handle, flush=True)
    await runs.wait()
    await handle.result(0.5 if sys.argv[2] == "end" else None)
try:
    asyncio.run(main())
except TimeoutError:
    pass
"""


@pytest.mark.parametrize("how", ["end", "interrupt"])
async def test_a_program_that_ends_without_closing_gives_back_what_ran(
    how: str, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    id = process.stdout.readline().strip()
    assert process.stdout.readline() == "running\n"
    if how == "interrupt":
        process.send_signal(2)
    # The task and its lease would last an hour.
    _, errors = await asyncio.to_thread(process.communicate, timeout=60)
    assert "never retrieved" not in errors and "destroyed" not in errors
    async with AsyncOmniQ(base_dir=tmp_path) as queue:
        row = (await queue.info(id)).row
        assert (row.status.name, row.attempt, row.losses) == ("READY", 0, 0)
