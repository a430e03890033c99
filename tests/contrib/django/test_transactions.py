"""Enqueued inside Django's transactions: they commit and roll back together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, TestCase, TransactionTestCase, override_settings
from django.urls import path

from omniq import Task, task
from omniq._portal import portal
from omniq.contrib.django import aqueue, queue
from omniq.contrib.django.database import within
from omniq.contrib.django.runtime import blocking
from omniq.contrib.django.tables import make
from omniq.contrib.django.test import drain
from omniq.errors import (
    DuplicateTask,
    NotSerializable,
    ResultTimeout,
    StorageUnavailable,
    TaskCancelled,
    TaskNotFound,
)
from omniq.models import ResultStatus
from omniq.storage.postgres.guest import GuestPostgresStorage
from omniq.storage.sqlite.ears import post_of
from tests.contrib.django.shop.models import Order


class Kind(NamedTuple):
    """A kind of database Django has here: its alias, and how to have its workers look now."""

    alias: str
    nudge: Callable[[str], object]


def _nudge_sqlite(alias: str) -> object:
    name = Path(connections[alias].settings_dict["NAME"]).resolve()
    return portal.call(post_of(name).hub.alert)


def _nudge_postgres(_: str) -> object:
    native = blocking()._async.stores.tasks
    assert isinstance(native, GuestPostgresStorage)
    return portal.call(native._post.hub.alert)


# One entry is all it takes to hold another database against the promise.
KINDS = {"sqlite": Kind("default", _nudge_sqlite), "postgres": Kind("postgres", _nudge_postgres)}


class Router:
    """Everything is in one database."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def db_for_read(self, model: object, **_: object) -> str:
        return self.alias

    db_for_write = db_for_read


ran: list[str] = []


@task("tests.django.note", retries=0)
def note(number: str) -> str:
    ran.append(number)
    return f"{number}: {Order.objects.filter(number=number).count()}"


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Iterator[Kind]:
    """Orders are in that database, too."""
    kind = KINDS[request.param]
    if kind.alias != "default":
        request.getfixturevalue(f"{kind.alias}_db")
    with override_settings(DATABASE_ROUTERS=[Router(kind.alias)]):
        yield kind


@pytest.fixture
def kept(kind: Kind, real_db: None, omniq: Callable[..., None], tmp_path: Path) -> Kind:
    """Tasks are kept in that database, and commits there are real."""
    ran.clear()
    omniq(DATABASE=kind.alias, BASE_DIR=tmp_path)
    make(kind.alias)
    _orders(kind.alias)
    return kind


@pytest.fixture
def working(kept: Kind) -> Iterator[Kind]:
    """With a worker in this process that has started before anything is enqueued."""
    worker = blocking().start_worker()
    yield kept
    worker.stop(0)


def _orders(alias: str) -> None:
    """The shop has no migrations: its one table is made here."""
    connection = connections[alias]
    if Order._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Order)


class Broken(Exception):
    pass


def test_a_rollback_leaves_no_task(working: Kind) -> None:
    with pytest.raises(Broken), transaction.atomic(using=working.alias):
        Order.objects.create(number="A")
        gone = queue.enqueue(note, ("A",))
        assert queue.result(gone).status is ResultStatus.PENDING
        working.nudge(working.alias)
        raise Broken
    assert queue.enqueue(note, ("marker",), priority=-5).result(20) == "marker: 0"
    assert ran == ["marker"]
    assert not Order.objects.filter(number="A").exists()
    with pytest.raises(TaskNotFound):
        queue.result(gone)


def test_a_commit_leaves_exactly_one_and_no_worker_sees_it_early(working: Kind) -> None:
    assert queue.enqueue(note, ("before",)).result(20) == "before: 0"
    with transaction.atomic(using=working.alias):
        handle = queue.enqueue(note, ("B",))
        working.nudge(working.alias)
        Order.objects.create(number="B")
        assert blocking().counts() == [c for c in queue.counts() if c.status.final]
    # The task finds the order that was saved after it was enqueued.
    assert handle.result(20) == "B: 1"
    assert ran == ["before", "B"]
    assert len(queue.find().tasks) == 2


def test_an_inner_block_that_fails_takes_its_tasks_along(working: Kind) -> None:
    with transaction.atomic(using=working.alias):
        outer = queue.enqueue(note, ("outer",))
        with pytest.raises(Broken), transaction.atomic(using=working.alias):
            queue.enqueue(note, ("inner",))
            raise Broken
        with transaction.atomic(using=working.alias):
            second = queue.enqueue_many([Task(func=note, args=("second",))])
    assert [queue.get_result(id, 20) for id in (outer, *second)] == ["outer: 0", "second: 0"]
    assert sorted(ran) == ["outer", "second"]


def test_outside_of_a_block_it_is_there_at_once(working: Kind) -> None:
    assert queue.enqueue(note, ("now",)).result(20) == "now: 0"


def test_what_is_refused_does_not_break_the_block(kept: Kind) -> None:
    with transaction.atomic(using=kept.alias):
        first = queue.enqueue(note, ("1",), unique="one")
        with pytest.raises(DuplicateTask) as refused:
            queue.enqueue(note, ("2",), unique="one")
        Order.objects.create(number="1")
    assert refused.value.holder == first
    assert [row.id for row in queue.find().tasks] == [first]
    assert Order.objects.filter(number="1").exists()


def test_a_broken_block_refuses_tasks_as_it_refuses_queries(kept: Kind) -> None:
    error = transaction.TransactionManagementError
    with transaction.atomic(using=kept.alias):
        with pytest.raises(Broken), transaction.atomic(using=kept.alias, savepoint=False):
            raise Broken
        with pytest.raises(error, match="until the end of the 'atomic' block"):
            queue.enqueue(note, ("never",))
    assert queue.counts() == []


def test_two_threads_cannot_both_hold_a_key(kept: Kind) -> None:
    """The second one waits for the first one's commit, and is told who was quicker."""
    asking = threading.Event()

    def second() -> str:
        asking.set()
        try:
            with pytest.raises(DuplicateTask) as refused:
                queue.enqueue(note, ("2",), unique="one")
            return refused.value.holder
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic(using=kept.alias):
            first = queue.enqueue(note, ("1",), unique="one")
            holder = pool.submit(second)
            asking.wait(20)
        assert holder.result(20) == first


def test_a_thread_has_a_transaction_of_its_own(kept: Kind) -> None:
    def elsewhere() -> int:
        try:
            return len(queue.find().tasks)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool, transaction.atomic(using=kept.alias):
        queue.enqueue(note, ("mine",))
        assert len(queue.find().tasks) == 1
        assert pool.submit(elsewhere).result(20) == 0


def shop(request: HttpRequest, fail: int) -> HttpResponse:
    handle = queue.enqueue(note, (request.path,))
    if fail:
        raise Broken
    return HttpResponse(str(handle))


async def shop_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(await aqueue.enqueue(note, (request.path,))))


urlpatterns = [path("shop/<int:fail>", shop), path("async", shop_async)]


@override_settings(ROOT_URLCONF=__name__)
def test_a_request_is_one_transaction_if_the_project_says_so(
    kept: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections[kept.alias].settings_dict, "ATOMIC_REQUESTS", True)
    client = Client(raise_request_exception=False)
    assert client.get("/shop/1").status_code == 500
    assert queue.counts() == []
    id = client.get("/shop/0").content.decode()
    assert [row.id for row in queue.find().tasks] == [id]


@override_settings(ROOT_URLCONF=__name__)
async def test_an_async_view_enqueues_there_too(kept: Kind) -> None:
    from django.test import AsyncClient

    id = (await AsyncClient().get("/async")).content.decode()
    assert [row.id for row in (await aqueue.find()).tasks] == [id]
    await sync_to_async(connections.close_all)()


def test_a_transaction_that_read_too_early_is_told_what_to_do(
    kept: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django's own default is BEGIN; the setting named in the message avoids it."""
    blocking().counts()  # opened natively, a file is in WAL mode for good
    sqlite = connections[kept.alias].vendor == "sqlite"
    if sqlite:
        monkeypatch.setattr(connections[kept.alias], "transaction_mode", None)
    with transaction.atomic(using=kept.alias):
        list(Order.objects.all())
        blocking().enqueue(note, ("native",))
        if sqlite:
            message = r"only read so far.*'transaction_mode': 'IMMEDIATE'"
            with pytest.raises(StorageUnavailable, match=message):
                queue.enqueue(note, ("late",))
        else:
            queue.enqueue(note, ("late",))
    with transaction.atomic(using=kept.alias):
        queue.enqueue(note, ("first",))
        list(Order.objects.all())
    found = ["'first'", "'native'"] if sqlite else ["'first'", "'late'", "'native'"]
    assert sorted(row.preview for row in queue.find().tasks) == found


def test_a_result_is_not_waited_for_where_it_cannot_come(working: Kind) -> None:
    """The worker could not even settle it: the database belongs to this transaction."""
    done = queue.enqueue(note, ("done",))
    assert done.result(20) == "done: 0"
    with transaction.atomic(using=working.alias):
        fresh = queue.enqueue(note, ("fresh",))
        with pytest.raises(ResultTimeout, match="as long as this transaction is open"):
            fresh.result()
        with pytest.raises(ResultTimeout):
            list(queue.results([done, fresh]))
        assert done.result() == "done: 0"
        assert [result.value for result in queue.results([done])] == ["done: 0"]
        failed = queue.enqueue(note, ("cancelled",))
        failed.cancel()
        with pytest.raises(TaskCancelled):
            failed.result()
    assert fresh.result(20) == "fresh: 0"


async def test_nor_in_async_code(kept: Kind) -> None:
    """As in an async test of a TestCase, whose transaction is that of the thread behind it."""
    handle = await aqueue.enqueue(note, ("never",))
    atomic = transaction.atomic(using=kept.alias)
    await sync_to_async(atomic.__enter__)()
    try:
        with pytest.raises(ResultTimeout):
            await handle.result()
        with pytest.raises(ResultTimeout):
            [result async for result in aqueue.results([handle])]
    finally:
        await sync_to_async(atomic.__exit__)(None, None, None)
        await sync_to_async(connections.close_all)()


def test_a_task_may_wait_for_the_commit_of_another_database(kept: Kind) -> None:
    with transaction.atomic(using="other"), transaction.atomic(using=kept.alias):
        with pytest.raises(NotSerializable):
            queue.enqueue(note, (threading.Lock(),), on_commit="other")
        handle = queue.enqueue(note, ("other",), on_commit="other")
        assert queue.counts() == []
    assert [row.id for row in queue.find().tasks] == [handle]


def test_the_place_is_told_in_words(kept: Kind) -> None:
    assert "in the caller's transactions" in within().describe()


@pytest.fixture
def omniq_in_postgres(postgres_db: str, omniq: Callable[..., None], tmp_path: Path) -> None:
    omniq(DATABASE=postgres_db, BASE_DIR=tmp_path)
    make(postgres_db)


@pytest.mark.usefixtures("omniq_in_db")
class InATestCase(TestCase):
    """Each test begins without the tasks of the one before: all is rolled back between them."""

    databases = "__all__"

    def test_one(self) -> None:
        with self.captureOnCommitCallbacks() as callbacks:
            handle = queue.enqueue(note, ("one",))
        assert callbacks == []
        assert [row.id for row in queue.find().tasks] == [handle]

    def test_two(self) -> None:
        handle = queue.enqueue(note, ("two",))
        assert [row.id for row in queue.find().tasks] == [handle]


@pytest.mark.usefixtures("omniq_in_db")
class InATransactionTestCase(TransactionTestCase):
    """Commits are real there, and every test begins with empty tables."""

    serialized_rollback = True

    def test_one(self) -> None:
        handle = queue.enqueue(note, ("one",), unique="key")
        assert [row.id for row in queue.find().tasks] == [handle]

    def test_two(self) -> None:
        handle = queue.enqueue(note, ("two",), unique="key")
        assert [row.id for row in queue.find().tasks] == [handle]


@pytest.mark.usefixtures("omniq_in_postgres")
class InATestCaseOnPostgres(InATestCase):
    def test_what_is_ready_runs_in_this_transaction(self) -> None:
        handle = queue.enqueue(note, ("three",))
        assert drain().succeeded == 1
        assert queue.result(handle).value == "three: 0"
        assert queue.retry(handle) and queue.cancel(handle)
        assert queue.result(handle).status is ResultStatus.CANCELLED
        assert [(row.key, row.value) for row in within().place.get_docs("queue")] == [
            ("default", b"")
        ]
        assert "cancelled" in [event.type for event in queue.events().events]


def test_nothing_of_those_test_cases_is_left(kept: Kind) -> None:
    assert queue.find().tasks == []
