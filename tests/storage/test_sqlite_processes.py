"""Several processes, killed processes, forked ones, and programs that just end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from omniq.errors import StorageError
from omniq.ids import uuid7
from omniq.models import Insert, Status, TaskRow
from omniq.models.filters import Claim, Slot
from omniq.storage.sqlite import AsyncSQLiteStorage

pytestmark = pytest.mark.asyncio

HEAD = """
import asyncio, sys
from omniq.ids import uuid7
from omniq.models import Fence, Insert, Move, Status, TaskRow, Value
from omniq.models.filters import Claim, Slot
from omniq.storage.sqlite import AsyncSQLiteStorage

def task():
    return Insert(TaskRow(id=uuid7(), queue="q", lane="async", name="f", status=Status.READY))
"""

WORKER = """
async def main(path, owner):
    taken = []
    async with AsyncSQLiteStorage(path) as storage:
        print("open", flush=True)
        sys.stdin.readline()
        moves = []
        while True:
            claim = Claim(owner=owner, request=uuid7(), slots=(Slot("q", "async", 7),),
                          limit=7, lease=30_000)
            receipt, batch = await storage.exchange(moves, claim)
            assert all(outcome == 1 for outcome in receipt.outcome), receipt
            if not batch.tasks:
                break
            taken += [t.id for t in batch.tasks]
            moves = [Move(id=t.id, expect=(Status.RUNNING,), fence=Fence(t.epoch, t.claim),
                          to=Status.SUCCEEDED, result=Value(owner.encode(), None))
                     for t in batch.tasks]
    print("\\n".join(taken))
asyncio.run(main(*sys.argv[1:]))
"""

WRITER = """
async def main(path):
    async with AsyncSQLiteStorage(path) as storage:
        while True:
            units = [task() for _ in range(3)]
            await storage.apply(units)
            print("\\n".join(u.row.id for u in units), flush=True)
asyncio.run(main(*sys.argv[1:]))
"""

NEVER_CLOSED = """
async def main(path):
    # Development mode tells of every step of the loop that took a tenth of a second.
    asyncio.get_running_loop().slow_callback_duration = 1000
    storage = AsyncSQLiteStorage(path)
    await storage.open()
    ear = storage.listen({"queue:q"})
    await storage.apply([task()])
    assert await ear.wait(30) == {"queue:q"}
    # Still under way when the loop is closed:
    late = asyncio.ensure_future(storage.apply([task() for _ in range(200)]))
    listening = asyncio.ensure_future(ear.wait())
    await asyncio.sleep(0)
    return storage
kept = asyncio.run(main(*sys.argv[1:]))
"""


def start(program: str, *args: object, flags: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, *flags, "-c", HEAD + program, *map(str, args)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


async def add(storage: AsyncSQLiteStorage, count: int) -> set[str]:
    rows = [
        TaskRow(id=uuid7(), queue="q", lane="async", name="f", status=Status.READY)
        for _ in range(count)
    ]
    await storage.apply([Insert(row) for row in rows])
    return {row.id for row in rows}


async def test_two_processes_share_2000_tasks_and_none_is_given_twice(db_path: Path) -> None:
    async with AsyncSQLiteStorage(db_path) as storage:
        ids = await add(storage, 2000)
        workers = [start(WORKER, db_path, f"w{n}") for n in range(2)]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "open\n"
        answers = await asyncio.gather(
            *(asyncio.to_thread(worker.communicate, "go\n") for worker in workers)
        )
        taken = [out.split() for out, _ in answers]
        assert [err for _, err in answers] == ["", ""]
        assert len(taken[0]) + len(taken[1]) == 2000
        assert {*taken[0], *taken[1]} == ids
        for n, share in enumerate(taken):
            results = await storage.get_results(share)
            assert {r.value for r in results} <= {f"w{n}".encode()}
            assert len(results) == len(share)


async def test_a_killed_writer_loses_nothing_it_was_told_is_kept(db_path: Path) -> None:
    writer = start(WRITER, db_path)
    assert writer.stdout is not None
    told = [writer.stdout.readline().strip() for _ in range(300)]
    os.kill(writer.pid, signal.SIGKILL)
    # Not by communicate(), which knows nothing of what readline() has read ahead.
    told += [line for line in writer.stdout.read().split("\n") if len(line) == 36]
    writer.communicate()
    async with AsyncSQLiteStorage(db_path) as storage:
        assert [row.id for row in await storage.get_tasks(told)] == told
        check = await storage._write.run(lambda c: c.execute("PRAGMA integrity_check").fetchall())
        assert check == [("ok",)]


@pytest.mark.parametrize("flags", [(), ("-X", "dev", "-W", "error")], ids=["plain", "strict"])
async def test_a_program_may_end_without_closing(db_path: Path, flags: tuple[str, ...]) -> None:
    program = start(NEVER_CLOSED, db_path, flags=flags)
    out, err = await asyncio.to_thread(program.communicate, None, 110)
    assert (program.returncode, out, err) == (0, "", "")
    async with AsyncSQLiteStorage(db_path) as storage:
        [count] = await storage.count_tasks()
        assert count.count in (1, 201), "a batch is kept as a whole, or not at all"


async def test_an_ear_hears_another_process(db_path: Path) -> None:
    """Commits of this process meanwhile do not hide those of the other."""
    async with AsyncSQLiteStorage(db_path) as storage, storage.listen({"queue:q"}) as ear:
        for _ in range(3):
            other = start(_ADD_ONE, db_path)
            assert await ear.wait(60) == {"queue:q"}
            await asyncio.to_thread(other.communicate)
            await add(storage, 1)
            while await ear.wait(0.1):
                pass


_ADD_ONE = """
async def main(path):
    async with AsyncSQLiteStorage(path) as storage:
        await storage.apply([task()])
asyncio.run(main(*sys.argv[1:]))
"""


async def test_idle_workers_write_nothing_and_so_wake_nobody(db_path: Path) -> None:
    storage, other = AsyncSQLiteStorage(db_path), AsyncSQLiteStorage(db_path)
    async with storage, other:
        claim = Claim(
            owner="w", request="r", slots=(Slot("q", "async", 1),), limit=1, lease=30_000, chores=5
        )
        await storage.claim(claim)
        await other._others_wrote()
        await storage.claim(claim)
        assert await other._others_wrote() is False
        await add(storage, 1)
        assert await other._others_wrote() is True


async def test_a_forked_child_is_told_to_open_its_own(db_path: Path) -> None:
    async with AsyncSQLiteStorage(db_path) as storage:
        pid = os.fork()
        if pid == 0:  # pragma: no cover - in the child
            code = 1
            try:
                storage.apply([]).send(None)
            except StorageError as error:
                code = 0 if "fork" in str(error) else 2
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert await storage.count_tasks() == []


async def test_many_open_one_new_file_at_once(db_path: Path) -> None:
    storages = [AsyncSQLiteStorage(db_path) for _ in range(8)]
    await asyncio.gather(*(storage.open() for storage in storages))
    await asyncio.gather(*(add(storage, 5) for storage in storages))
    [count] = await storages[0].count_tasks()
    assert count.count == 40
    await asyncio.gather(*(storage.close() for storage in storages))


async def test_a_cancelled_call_is_still_done_and_signalled(db_path: Path) -> None:
    async with AsyncSQLiteStorage(db_path) as storage, storage.listen({"queue:q"}) as ear:
        call = asyncio.ensure_future(add(storage, 1))
        await asyncio.sleep(0)
        call.cancel()
        assert await ear.wait(60) == {"queue:q"}
        [count] = await storage.count_tasks()
        assert count.count == 1
