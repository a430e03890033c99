"""`omniq worker --batch` at its end: what it says of tasks whose function is not there."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path

import pytest
import pytest_asyncio

from omniq import AsyncOmniQ
from omniq.models.filters import TaskFilter
from omniq.models.units import Move
from tests.programs import ROOT, Program, run

pytestmark = [pytest.mark.asyncio, pytest.mark.once]

BATCH = ["-m", "omniq.cli", "worker", "--batch"]
OLD = """
import omniq
from omniq.contrib import runner
runner.LOOKING = 600
queue = omniq.AsyncOmniQ(embedded=False)
"""
NEW = OLD + """
@omniq.task("batch.late")
async def late():
    return "here at last"
"""
SCRIPT = OLD + """
def own():
    return "mine"

import asyncio
asyncio.run(queue.enqueue(own))
"""
AWAY = """
import msgspec
import omniq
from omniq.errors import StorageUnavailable
from omniq.storage.memory import AsyncMemoryStorage

class Away(AsyncMemoryStorage):
    capabilities = msgspec.structs.replace(AsyncMemoryStorage.capabilities, multiprocess=True)
    async def open(self):
        raise StorageUnavailable("the cable is out")

queue = omniq.AsyncOmniQ(event_storage=Away())

@omniq.task("batch.late")
async def late():
    return "nobody hears of it"
"""
LATE = OLD + """
import asyncio

class Late(omniq.AsyncOmniQ):
    async def events(self, *args, **more):
        page = await super().events(*args, **more)
        await asyncio.sleep(2)  # what it tells of comes due meanwhile
        return page

queue = Late()
"""
SEVERAL = """
import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
import omniq
from omniq.contrib import runner

runner.LOOKING = 600

class Watched(runner.WorkerPool):
    async def emptied(self):
        await super().emptied()
        if self.queue is near:
            emptied.set()

@omniq.task("batch.feed")
async def feed():
    await emptied.wait()
    await near.enqueue("batch.late")
    await taken.wait()

@omniq.task("batch.late")
async def late():
    taken.set()
    await asyncio.Event().wait()

class Host:
    def __init__(self):
        self.queues = [near, far]

    @asynccontextmanager
    async def running(self):
        async with AsyncExitStack() as stack:
            for queue in self.queues:
                await stack.enter_async_context(queue)
            await near.enqueue("batch.gone")
            await far.enqueue("batch.feed")
            yield
            for row in (await near.find(omniq.TaskFilter(names=("batch.late",)))).tasks:
                print(row.status.name, row.attempt)

runner.WorkerPool = Watched
emptied, taken = asyncio.Event(), asyncio.Event()
near, far = (omniq.AsyncOmniQ(base_dir=name, embedded=False) for name in ("near", "far"))
wanted = runner.Wanted(batch=True, grace=0.1)
raise SystemExit(runner.run_worker(Host(), wanted, say=print))
"""
MUTE = """
import asyncio
import omniq
from omniq.contrib import runner

class Mute(omniq.AsyncOmniQ):
    async def events(self, *args, **more):
        print("looking", flush=True)
        await asyncio.Event().wait()

queue = Mute()
runner.LOOKING = {patience}
"""


@pytest_asyncio.fixture
async def queue(tmp_path: Path) -> AsyncIterator[AsyncOmniQ]:
    async with AsyncOmniQ(base_dir=tmp_path / ".omniq", embedded=False) as queue:
        yield queue


async def test_what_it_could_run_is_not_left(
    tmp_path: Path, queue: AsyncOmniQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker's want of a function is not its own; a script's functions stay at home."""
    errands = tmp_path / "errands"
    errands.mkdir()
    for path, text in {
        tmp_path / "old.py": OLD,
        tmp_path / "new.py": NEW,
        tmp_path / "script.py": SCRIPT,
        errands / "batch_errands.py": "def fetch():\n    return 'fetched'\n",
    }.items():
        path.write_text(text)
    monkeypatch.syspath_prepend(errands)
    named = await queue.enqueue("batch.late")
    signed = await queue.enqueue(import_module("batch_errands").fetch)
    assert run(["script.py"], cwd=tmp_path, paths=[ROOT / "src"]).returncode == 0
    own = TaskFilter(names=(f"{(tmp_path / 'script.py').resolve()}:own",))
    (scripts,) = (await queue.find(own)).tasks

    old = run([*BATCH, "old:queue"], cwd=tmp_path)
    assert old.returncode == 3 and old.stderr.count("\nLeft: 1 task (") == 3, old.stderr
    for id in (named.id, signed.id, scripts.id):  # so far ahead that nobody tries them now
        row = (await queue.info(id)).row
        move = Move(id=id, expect=(row.status,), patch={"run_at": row.run_at + 600_000})
        await queue.stores.apply([move])
    new = run([*BATCH, "new:queue"], cwd=tmp_path, paths=[errands])
    assert new.returncode == 3 and new.stderr.count("\nLeft: ") == 1, new.stderr
    assert f"Left: 1 task ({scripts.id}), since task function 'own' belongs to" in new.stderr
    await queue.cancel(scripts.id)
    new = run([*BATCH, "new:queue"], cwd=tmp_path, paths=[errands])
    assert new.returncode == 0 and "Left: " not in new.stderr, new.stderr


async def test_what_comes_due_during_the_look_is_left_too(
    tmp_path: Path, queue: AsyncOmniQ
) -> None:
    """Nobody takes it then: it would be on its way, and neither run nor told of."""
    (tmp_path / "work.py").write_text(LATE)
    gone = await queue.enqueue("batch.late")
    ran = run([*BATCH, "work:queue"], cwd=tmp_path)
    assert ran.returncode == 3 and f"\nLeft: 1 task ({gone.id})" in ran.stderr, ran.stderr


async def test_what_an_emptied_queue_took_again_gets_the_grace_of_a_stop(tmp_path: Path) -> None:
    """One of several queues was empty before the others, and went on working."""
    (tmp_path / "work.py").write_text(SEVERAL)
    ran = run(["work.py"], cwd=tmp_path)
    assert ran.returncode == 3, ran.stderr
    _, _, told = ran.stdout.partition("Nothing is left that could run now.\n")
    stopping, left, late, stopped = told.splitlines()
    assert stopping.startswith("Stopping: 1 running task may go on for 0.1 s; ")
    assert left.startswith("Left: 1 task (") and "function 'batch.gone' is not" in left
    assert late == "READY 0", "back in line, at no cost"
    assert stopped == "Stopped."


async def test_it_says_if_it_cannot_tell(tmp_path: Path, queue: AsyncOmniQ) -> None:
    """A place of events that is down never stopped a task, and does not fail what ran them."""
    (tmp_path / "work.py").write_text(AWAY)
    task = await queue.enqueue("batch.late")
    ran = run([*BATCH, "work:queue"], cwd=tmp_path)
    assert ran.returncode == 0 and await task.status() == "success", ran.stderr
    told = ran.stderr[ran.stderr.index("Nothing is left that could run now.") :]
    assert "It cannot be told whether tasks wait for a function" in told
    assert "the cable is out" in told and told.endswith("Stopped.\n")


async def test_it_does_not_look_for_ever(tmp_path: Path, queue: AsyncOmniQ) -> None:
    (tmp_path / "work.py").write_text(MUTE.format(patience=0.1))
    ran = run([*BATCH, "work:queue"], cwd=tmp_path)
    assert ran.returncode == 0 and ran.stderr.endswith("Stopped.\n"), ran.stderr
    assert "It cannot be told whether tasks wait for a function" in ran.stderr


async def test_a_signal_ends_the_look(tmp_path: Path, queue: AsyncOmniQ) -> None:
    (tmp_path / "work.py").write_text(MUTE.format(patience=600))
    with Program([*BATCH, "work:queue"], cwd=tmp_path) as worker:
        worker.says("looking")
        worker.send(signal.SIGINT)
        assert worker.ends() == 0
    assert "Stopping: " in worker.output and worker.output.endswith("Stopped.\n")
