"""Enqueued in a transaction of the user's: a rollback leaves no task, a commit exactly one."""

from __future__ import annotations

import asyncio
import pickle
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import pytest

from omniq import AsyncOmniQ, Task, task
from omniq.errors import DuplicateTask, InvalidTask, NotSerializable, TaskNotFound
from omniq.models import ResultStatus, Status
from omniq.models.filters import EventFilter, TaskFilter
from omniq.models.status import EventType
from omniq.storage.sqlite import AsyncSQLiteStorage
from omniq.storage.sqlite.ears import post_of
from omniq.storage.sqlite.foreign import ForeignConnection
from omniq.within import Place, Within, engine_for
from tests.programs import Program

pytestmark = pytest.mark.asyncio


class Database(NamedTuple):
    """A user's database: how they connect, and how OmniQ sees it from either side."""

    connect: Callable[[Path], Any]
    place: Callable[[Any], Place]
    storage: Callable[[Path], AsyncSQLiteStorage]
    nudge: Callable[[Path], None]
    """Have every worker of this process look for work now."""


def _connect_sqlite(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "app.db", isolation_level=None, timeout=30)


# One entry is all it takes to hold another database against the promise.
DATABASES = {
    "sqlite": Database(
        connect=_connect_sqlite,
        place=ForeignConnection,
        storage=lambda folder: AsyncSQLiteStorage(folder / "app.db"),
        nudge=lambda folder: post_of((folder / "app.db").resolve()).hub.alert(),
    ),
}

ran: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    ran.clear()


@task("tests.note", retries=0)
async def note(what: str) -> str:
    ran.append(what)
    return what.upper()


@pytest.fixture(params=list(DATABASES))
def database(request: pytest.FixtureRequest) -> Database:
    return DATABASES[request.param]


@pytest.fixture
async def queue(database: Database, tmp_path: Path) -> AsyncIterator[AsyncOmniQ]:
    """The native side: made before anybody's transaction begins, with a worker that runs."""
    queue = AsyncOmniQ(task_queue=database.storage(tmp_path), base_dir=tmp_path)
    async with queue:
        await queue.start_worker()
        yield queue


@pytest.fixture
def connection(database: Database, queue: AsyncOmniQ, tmp_path: Path) -> Iterator[Any]:
    """The user's own connection to it."""
    connection = database.connect(tmp_path)
    connection.execute("CREATE TABLE orders (name TEXT)")
    yield connection
    connection.close()


@pytest.fixture
def within(database: Database, connection: Any, queue: AsyncOmniQ) -> Within:
    place = database.place(connection)
    return Within(engine_for(queue.config, place.capabilities), place)


def orders(database: Database, folder: Path) -> list[str]:
    other = database.connect(folder)
    try:
        return [name for (name,) in other.execute("SELECT name FROM orders").fetchall()]
    finally:
        other.close()


async def all_ids(queue: AsyncOmniQ) -> list[str]:
    return [row.id for row in (await queue.find(TaskFilter())).tasks]


async def test_a_rollback_leaves_no_task(
    database: Database, within: Within, connection: Any, queue: AsyncOmniQ, tmp_path: Path
) -> None:
    connection.execute("BEGIN")
    connection.execute("INSERT INTO orders VALUES ('one')")
    gone = within.enqueue(note, ("gone",))
    assert within.result(gone).status is ResultStatus.PENDING
    database.nudge(tmp_path)  # the worker asks for work while the task is there, uncommitted
    assert await all_ids(queue) == []
    connection.execute("ROLLBACK")
    # Priorities are strict: had the worker seen the first one, it would have run before this.
    assert await queue.get_result(await queue.enqueue(note, ("marker",), priority=-5), 60)
    assert ran == ["marker"]
    assert orders(database, tmp_path) == []
    with pytest.raises(TaskNotFound):
        within.result(gone)


async def test_a_commit_leaves_exactly_one_and_no_worker_sees_it_early(
    database: Database, within: Within, connection: Any, queue: AsyncOmniQ, tmp_path: Path
) -> None:
    """The worker sleeps when the commit comes, and is woken by it."""
    await queue.get_result(await queue.enqueue(note, ("before",)), 60)
    connection.execute("BEGIN")
    connection.execute("INSERT INTO orders VALUES ('one')")
    handle = within.enqueue(note, ("once",))
    database.nudge(tmp_path)
    with pytest.raises(TaskNotFound):
        await queue.result(handle)
    assert ran == ["before"]
    assert orders(database, tmp_path) == []
    connection.execute("COMMIT")
    assert await queue.get_result(handle, 60) == "ONCE"
    assert ran == ["before", "once"]
    assert orders(database, tmp_path) == ["one"]
    assert len(await all_ids(queue)) == 2


async def test_a_worker_of_another_process_is_woken_by_the_commit(
    database: Database, within: Within, connection: Any, queue: AsyncOmniQ, tmp_path: Path
) -> None:
    await queue.stop_worker()
    tmp_path.joinpath("shop.py").write_text(dedent("""
            from omniq import TaskQueue, task

            @task("shop.greet")
            async def greet(name):
                print("hello", name, flush=True)

            if __name__ == "__main__":
                queue = TaskQueue(storage_url="sqlite:///app.db", base_dir=".")
                queue.get_result(queue.enqueue(greet, ("worker",)))
                queue.get_result(queue.enqueue(greet, ("later",), delay=3600))
            """))
    with Program(["shop.py"], cwd=tmp_path) as program:
        program.says("hello worker")
        connection.execute("BEGIN")
        handle = within.enqueue("shop.greet", ("commit",))
        connection.execute("COMMIT")
        program.says("hello commit")
        await queue.get_result(handle, 60)
        assert program.output.count("hello commit") == 1


async def test_a_savepoint_that_is_undone_takes_its_tasks_along(
    within: Within, connection: Any, queue: AsyncOmniQ
) -> None:
    connection.execute("BEGIN")
    kept = within.enqueue(note, ("kept",))
    connection.execute("SAVEPOINT inner")
    within.enqueue(note, ("undone",))
    connection.execute("ROLLBACK TO inner")
    connection.execute("COMMIT")
    assert await queue.get_result(kept, 60) == "KEPT"
    assert await all_ids(queue) == [kept]


async def test_outside_a_transaction_it_is_there_at_once(within: Within, queue: AsyncOmniQ) -> None:
    assert await queue.get_result(within.enqueue(note, ("now",)), 60) == "NOW"


async def test_an_error_in_the_middle_leaves_the_rest(
    within: Within, connection: Any, queue: AsyncOmniQ
) -> None:
    """Whatever enqueue refuses, the user's transaction is whole and can be committed."""
    connection.execute("BEGIN")
    first = within.enqueue(note, ("first",), unique="key", delay=3600)
    with pytest.raises(DuplicateTask, match="key") as refused:
        within.enqueue(note, ("second",), unique="key")
    assert refused.value.holder == first
    with pytest.raises(NotSerializable):
        within.enqueue(note, (threading.Lock(),))
    with pytest.raises(InvalidTask, match="depends_on"):
        within.enqueue(note, ("child",), depends_on="01900000-0000-7000-8000-000000000000")
    with pytest.raises(InvalidTask, match="single argument"):
        within.enqueue(note, "text")
    last = within.enqueue(note, ("last",))
    connection.execute("COMMIT")
    await queue.get_result(last, 60)
    assert sorted(await all_ids(queue)) == sorted([first, last])
    with pytest.raises(DuplicateTask):
        await queue.enqueue(note, ("third",), unique="key")


async def test_refused_among_many_says_which_are_in_the_transaction(
    within: Within, connection: Any, queue: AsyncOmniQ
) -> None:
    connection.execute("BEGIN")
    many = [Task(func=note, args=(str(n),), unique="k" if n in (1, 2) else None) for n in range(4)]
    with pytest.raises(DuplicateTask) as refused:
        within.enqueue_many(many)
    connection.execute("COMMIT")
    assert refused.value.stored[2] is None
    stored = [id for id in refused.value.stored if id is not None]
    assert len(stored) == 3
    assert sorted(await all_ids(queue)) == sorted(stored)


async def test_everything_a_task_can_say_is_kept(
    within: Within, connection: Any, queue: AsyncOmniQ
) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    connection.execute("BEGIN")
    tasks = within.enqueue_many(
        [
            Task(func=note, args=("low",), priority=-1),
            Task(func=note, args=("high",), priority=9),
            Task(func=note, args=("later",), run_at=later, tags=["nightly"], metadata={"a": 1}),
        ]
    )
    child = within.enqueue(note, ("child",), depends_on=tasks[:2], queue="other")
    assert child.info().row.status is Status.WAITING
    assert within.find(TaskFilter(tag="nightly")).tasks[0].id == tasks[2]
    assert {(c.queue, c.status): c.count for c in within.counts()} == {
        ("default", Status.READY): 2,
        ("default", Status.SCHEDULED): 1,
        ("other", Status.WAITING): 1,
    }
    connection.execute("COMMIT")
    assert await queue.get_result(child, 60) == "CHILD"  # a queue no worker had heard of
    assert ran == ["high", "low", "child"]
    info = within.info(tasks[2])
    assert info.metadata == {"a": 1}
    assert info.row.run_at == round(later.timestamp() * 1000)
    assert within.result(tasks[0]).value == "LOW"
    assert [card.id for card in within.workers()] == [card.id for card in await queue.workers()]


async def test_more_than_one_batch_is_one_transaction(
    within: Within, connection: Any, queue: AsyncOmniQ
) -> None:
    tasks = [Task(func=note, args=(str(n),), delay=3600) for n in range(1_100)]
    connection.execute("BEGIN")
    assert within.enqueue_many(tasks) == [task.id for task in tasks]
    connection.execute("ROLLBACK")
    assert await queue.counts() == []
    connection.execute("BEGIN")
    within.enqueue_many(tasks)
    connection.execute("COMMIT")
    assert [count.count for count in await queue.counts()] == [1_100]
    # The same ids again are the same tasks.
    within.enqueue_many([*tasks[:2], tasks[0]])
    assert [count.count for count in await queue.counts()] == [1_100]


async def test_what_is_done_by_hand_is_done_with_the_commit(
    within: Within, connection: Any, queue: AsyncOmniQ
) -> None:
    done = await queue.enqueue(note, ("done",))
    await queue.get_result(done, 60)
    connection.execute("BEGIN")
    own = within.enqueue(note, ("own",))
    assert own.cancel()
    assert own.status() is ResultStatus.CANCELLED
    assert not own.cancel()
    assert within.delete(done, actor="ada")
    connection.execute("COMMIT")
    with pytest.raises(TaskNotFound):
        await queue.result(done)
    assert not await queue.cancel(own)
    connection.execute("BEGIN")
    assert own.retry()
    connection.execute("ROLLBACK")
    assert (await queue.result(own)).status is ResultStatus.CANCELLED
    assert within.retry(own)
    assert await queue.get_result(own, 60) == "OWN"
    page = within.events(EventFilter(task=done, types=(EventType.ACTION,)))
    assert [event.data for event in page.events] == [{"action": "delete", "actor": "ada"}]
    assert ran == ["done", "own"]


async def test_a_running_task_is_asked_to_stop_when_it_is_committed(
    within: Within, connection: Any, queue: AsyncOmniQ
) -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    @task("tests.long")
    async def long() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    handle = await queue.enqueue(long)
    await started.wait()
    connection.execute("BEGIN")
    assert within.cancel(handle)
    assert not stopped.is_set()
    connection.execute("COMMIT")
    async with asyncio.timeout(60):
        await stopped.wait()


async def test_a_handle_is_its_id(within: Within, connection: Any) -> None:
    connection.execute("BEGIN")
    parent = within.enqueue(note, ("parent",))
    child = within.enqueue(note, (parent,), depends_on=parent)
    assert child.info().arguments is not None
    assert within.info(child).arguments.value["args"] == [str(parent)]  # type: ignore[union-attr]
    assert type(pickle.loads(pickle.dumps(parent))) is str
    assert type(parent.id) is str
    connection.execute("ROLLBACK")
    assert "app.db" in within.describe()
