"""The generated blocking face: same methods, same arguments, blocking answers."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from omniq import (
    AsyncTaskHandle,
    OmniQ,
    ResultTimeout,
    Status,
    SyncInAsync,
    Task,
    TaskFailed,
    TaskHandle,
    TaskQueue,
    storage,
    sync,
)
from omniq._portal import portal
from omniq._twin import Twin
from omniq.ids import uuid7
from omniq.models import Applied, PutDoc, TaskRow
from omniq.models.filters import EventFilter, EventPage, TaskFilter
from omniq.storage import MemoryStorage, SQLiteStorage
from omniq.sync import Ear, Storage, ThreadWorker, WorkerPool

TWINS = [
    twin
    for twin in map(vars(sync).__getitem__, sync.__all__)
    if isinstance(twin, type) and issubclass(twin, Twin)
]


def add(x: int, y: int) -> int:
    return x + y


async def fail(text: str) -> None:
    raise ValueError(text)


async def wait_long() -> None:
    await asyncio.sleep(1000)


@pytest.fixture(params=["memory", "sqlite"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TaskQueue]:
    with TaskQueue(request.param, base_dir=tmp_path) as made:
        yield made


def async_class(twin: type[Twin]) -> type:
    inside = inspect.get_annotations(twin._async.fget)["return"].split("[")[0]  # type: ignore[attr-defined]
    if inside in vars(sync):
        return vars(sync)[inside]  # type: ignore[no-any-return]
    return getattr(storage, inside)  # type: ignore[no-any-return]


def public(cls: type) -> set[str]:
    return {name for name, value in inspect.getmembers(cls) if name[0] != "_" and callable(value)}


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.__name__)
def test_methods_keep_their_names_arguments_and_docstrings(twin: type[Twin]) -> None:
    original = async_class(twin)
    below = public(str) if issubclass(twin, str) else set()
    here = public(twin) - below
    missing = public(original) - below - here
    hidden = {"settled", "configured", "join"}
    assert missing <= hidden, "those are for the rooms below"
    assert here, twin
    for name in here:
        ours, theirs = getattr(twin, name), getattr(original, name)
        assert not inspect.iscoroutinefunction(ours)
        assert list(inspect.signature(ours).parameters.values())[1:] == [
            p.replace(annotation=inspect.signature(ours).parameters[p.name].annotation)
            for p in list(inspect.signature(theirs).parameters.values())[1:]
        ]
        assert inspect.getdoc(ours)


def test_a_task_goes_round(queue: TaskQueue) -> None:
    handle = queue.enqueue(add, (1, 2))
    assert handle.result(60) == 3
    assert queue.get_result(handle) == 3
    assert handle.status() == "success"
    assert handle.info().row.status.final
    assert [task.id for task in queue.find(TaskFilter()).tasks] == [handle]
    assert isinstance(queue.events(EventFilter(task=handle.id)), EventPage)
    assert queue.describe() == queue._async.describe()


def test_errors_are_those_of_the_async_face(queue: TaskQueue) -> None:
    with pytest.raises(TaskFailed, match="no such luck"):
        queue.enqueue(fail, ("no such luck",), retries=0).result(60)
    handle = queue.enqueue(wait_long, worker="async")
    with pytest.raises(ResultTimeout):
        handle.result(0.01)
    assert handle.cancel()


def test_a_handle_is_a_string_with_methods(queue: TaskQueue) -> None:
    handle = queue.enqueue(add, (1, 2))
    assert isinstance(handle, str)
    assert isinstance(handle, TaskHandle)
    assert isinstance(handle._async, AsyncTaskHandle)
    assert handle == handle.id
    assert hash(handle) == hash(handle.id)
    assert repr(handle) == repr(handle.id)
    assert type(pickle.loads(pickle.dumps(handle))) is str
    assert queue.enqueue(len, (handle,)).result(60) == len(handle), "as an argument it is its id"


def test_many_handles_and_results_as_they_come(queue: TaskQueue) -> None:
    handles = queue.enqueue_many([Task(func=add, args=(i, i)) for i in range(5)])
    assert all(type(handle) is TaskHandle for handle in handles)
    found = {result.id: result.value for result in queue.results(handles)}
    assert found == {handle: 2 * i for i, handle in enumerate(handles)}


@sync.task(retries=0)
def shout(text: str, *, times: int = 1) -> str:
    return text.upper() * times


@sync.task
async def whisper(text: str) -> str:
    return text.lower()


def test_a_task_enqueues_itself(queue: TaskQueue) -> None:
    queue.open()
    handle = shout.enqueue("a", times=3)
    assert type(handle) is TaskHandle
    assert handle.result(60) == "AAA"
    assert whisper.enqueue("B").result(60) == "b"
    assert shout("here") == "HERE", "called, it runs here"
    given = queue.enqueue(shout, ("c",))
    assert given.result(60) == "C"
    assert given.info().row.name == handle.info().row.name
    assert given.info().retry == handle.info().retry


@pytest.mark.asyncio
async def test_a_blocking_task_in_a_loop_says_what_to_write() -> None:
    with pytest.raises(SyncInAsync, match=r"`SyncTaskFunction.enqueue\(\)`.* use TaskFunction "):
        shout.enqueue("a")


def test_listening(queue: TaskQueue) -> None:
    with queue.listen({"tasks"}) as ear:
        assert type(ear) is Ear
        queue.enqueue(add, (1, 2), delay=1000)
        assert ear.wait(20) == {"tasks"}


def test_the_embedded_worker_has_a_twin(queue: TaskQueue) -> None:
    worker = queue.start_worker()
    assert type(worker) is WorkerPool
    assert worker.id
    queue.stop_worker()
    assert worker.running == 0


def test_a_worker_on_its_own(tmp_path: Path) -> None:
    with OmniQ(storage_type="sqlite", base_dir=tmp_path, embedded=False) as queue:
        handle = queue.enqueue(add, (3, 4))
        with ThreadWorker(queue, max_workers=2) as worker:
            assert worker.kind == "thread"
            assert handle.result(60) == 7
        assert worker.id == ""


def test_without_with_it_opens_by_itself_and_may_be_closed(tmp_path: Path) -> None:
    queue = TaskQueue("sqlite", base_dir=tmp_path)
    assert queue.enqueue(add, (1, 2)).result(60) == 3
    queue.close()
    queue.close()
    assert queue.enqueue(add, (2, 2)).result(60) == 4, "and opens again"
    queue.close()


def test_blocking_storages_are_parts(tmp_path: Path) -> None:
    place = SQLiteStorage(tmp_path / "tasks.db")
    with OmniQ(task_queue=place, base_dir=tmp_path) as queue:
        assert queue.enqueue(add, (1, 2)).result(60) == 3


@pytest.mark.parametrize("make", [MemoryStorage, lambda: SQLiteStorage(Path("tasks.db"))])
def test_a_storage_by_itself(
    make: Callable[[], Storage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with make() as place:
        receipt = place.apply([PutDoc(kind="k", key="a", value=b"1", expect=0)])
        assert receipt.outcome == [Applied.APPLIED]
        assert [doc.value for doc in place.get_docs("k")] == [b"1"]
        assert place.capabilities.durability in ("none", "process", "power")
        with place.twin() as other:
            assert type(other) is type(place)
            assert [doc.key for doc in other.get_docs("k")] == ["a"]
            assert other.get_tasks([uuid7()]) == list[TaskRow]()


@pytest.mark.asyncio
async def test_inside_a_loop_each_call_says_what_to_write(tmp_path: Path) -> None:
    queue = TaskQueue("memory", base_dir=tmp_path)
    with pytest.raises(SyncInAsync, match=r"`TaskQueue\.enqueue\(\)`.*`await \.+enqueue\("):
        queue.enqueue(add, (1, 2))
    with pytest.raises(SyncInAsync, match=r"`async with AsyncTaskQueue\(\.\.\.\)`"), queue:
        pass
    with pytest.raises(SyncInAsync, match="results"):
        queue.results([])
    assert "memory" in queue.describe().lower()
    handle = await asyncio.to_thread(queue.enqueue, add, (1, 2))
    assert await asyncio.to_thread(handle.result, 20) == 3
    await asyncio.to_thread(queue.close)


def test_what_is_closed_is_no_longer_kept(tmp_path: Path) -> None:
    before = len(portal._owners)
    queue = TaskQueue("memory", base_dir=tmp_path)
    assert len(portal._owners) == before
    queue.open()
    assert len(portal._owners) == before + 1
    queue.close()
    assert len(portal._owners) == before


FORK = """
import os, sys
from omniq import OmniQ, TaskQueue
from omniq.storage import SQLiteStorage

def add(x, y):
    return x + y

def child(call):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        call()
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

"""


@pytest.mark.parametrize(
    "make", ["TaskQueue('sqlite')", "OmniQ(task_queue=SQLiteStorage('tasks.db'))"]
)
def test_after_a_fork_the_child_has_connections_of_its_own(make: str, tmp_path: Path) -> None:
    body = f"""
        queue = {make}
        mine = queue.enqueue(add, (1, 2))
        print(mine.result(60))
        child(lambda: print(queue.enqueue(add, (3, 4)).result(60), mine.result(60)))
        print(queue.enqueue(add, (5, 6)).result(60))
        """
    ignore = "ignore:This process:DeprecationWarning"  # forking beside threads is the point
    done = subprocess.run(
        [sys.executable, "-W", ignore, "-c", FORK + dedent(body)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n7 3\n0\n11\n", "")


def test_at_exit_running_tasks_are_given_back(tmp_path: Path) -> None:
    """The worker is stopped before the connections it needs for that are closed."""
    program = """
import asyncio, threading
from omniq import TaskQueue

async def forever():
    running.set()
    await asyncio.Event().wait()

running = threading.Event()
queue = TaskQueue("sqlite")
handle = queue.enqueue(forever)
running.wait(20)
assert queue.info(handle).row.attempt == 1
print(handle)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    with OmniQ(base_dir=tmp_path / ".omniq", embedded=False) as queue:
        row = queue.info(done.stdout.strip()).row
        assert (row.status, row.attempt) == (Status.READY, 0)
        assert queue.workers() == [], "and the worker took its leave"
