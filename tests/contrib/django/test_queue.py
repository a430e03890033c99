"""`queue` and `aqueue`: OmniQ from sync and async Django code."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

import omniq as omniq_package
from omniq import InvalidTask, NotSerializable, SyncInAsync, Task, TaskFailed, TaskNotFound, sync
from omniq.contrib.django import aqueue, queue
from omniq.contrib.django.runtime import blocking
from omniq.errors import DuplicateTask
from tests.contrib.django.conftest import Omniq
from tests.contrib.django.shop.tasks import add, add_async, boom


@pytest.fixture
def working() -> Iterator[None]:
    """Somebody works on the tasks."""
    blocking().start_worker()
    yield
    blocking().stop_worker()


@sync.task("tests.django.queue.letter", queue="letters", retries=0)
def letter(text: str) -> str:
    return text.upper()


@omniq_package.task("tests.django.queue.parcel")
async def parcel(text: str) -> str:
    return text.title()


def test_a_task_and_its_handle(working: None) -> None:
    handle = queue.enqueue(add, (1, 2))
    assert handle.result(30) == 3
    assert handle.status() == "success"
    assert handle.info().row.id == handle == handle.id
    assert handle.cancel() is False
    assert handle.retry() is True
    assert handle.result(30) == 3
    plain = pickle.loads(pickle.dumps(handle))
    assert type(plain) is str and plain == handle


@pytest.mark.asyncio
async def test_the_same_awaited(working: None) -> None:
    handle = await aqueue.enqueue(add_async, (1, 2))
    assert await handle.result(30) == 3
    assert await handle.status() == "success"
    assert (await handle.info()).row.id == handle
    assert await handle.cancel() is False
    assert await handle.retry() is True
    assert await handle.result(30) == 3


def test_looking_and_acting() -> None:
    first, second = queue.enqueue_many([Task(func=add, args=(1, n)) for n in range(2)])
    assert [each.count for each in queue.counts()] == [2]
    assert {row.id for row in queue.find().tasks} == {first, second}
    assert queue.cancel(first, actor="ann")
    assert queue.result(first).status == "cancelled"
    assert any(each.type == "cancelled" for each in queue.events().events)
    assert queue.delete(first) and queue.workers() == queue.metrics() == []
    with pytest.raises(TaskNotFound):
        queue.info("01a20136-4f0a-7000-89fc-aae15d43471e")


@pytest.mark.asyncio
async def test_looking_and_acting_awaited() -> None:
    first, second = await aqueue.enqueue_many([Task(func=add, args=(1, n)) for n in range(2)])
    assert [each.count for each in await aqueue.counts()] == [2]
    assert {row.id for row in (await aqueue.find()).tasks} == {first, second}
    assert await aqueue.cancel(first)
    assert (await aqueue.result(first)).status == "cancelled"
    assert (await aqueue.events()).events
    assert await aqueue.delete(first)
    assert await aqueue.workers() == await aqueue.metrics() == []


def test_results_as_they_come(working: None) -> None:
    handles = [queue.enqueue(add, (n, n)) for n in range(3)]
    failed = queue.enqueue(boom, ("no",), retries=0)
    found = {each.id: each for each in queue.results([*handles, failed])}
    assert sorted(found[handle].value for handle in handles) == [0, 2, 4]
    assert found[failed].error is not None and found[failed].error.message == "no"
    with pytest.raises(TaskFailed, match="ValueError: no"):
        failed.result(30)


@pytest.mark.asyncio
async def test_results_as_they_come_awaited(working: None) -> None:
    handles = [await aqueue.enqueue(add, (n, n)) for n in range(3)]
    assert sorted([each.value async for each in aqueue.results(handles)]) == [0, 2, 4]


@pytest.mark.asyncio
async def test_a_sync_call_in_async_code_says_what_to_write() -> None:
    calls = {
        "enqueue": lambda: queue.enqueue(add, (1, 2)),
        "enqueue_many": lambda: queue.enqueue_many([]),
        "get_result": lambda: queue.get_result("x"),
        "result": lambda: queue.result("x"),
        "info": lambda: queue.info("x"),
        "find": lambda: queue.find(),
        "counts": lambda: queue.counts(),
        "events": lambda: queue.events(),
        "workers": lambda: queue.workers(),
        "metrics": lambda: queue.metrics(),
        "cancel": lambda: queue.cancel("x"),
        "retry": lambda: queue.retry("x"),
        "delete": lambda: queue.delete("x"),
    }
    for name, call in calls.items():
        with pytest.raises(SyncInAsync, match=rf"`queue.{name}\(\)` would block .* running here"):
            call()
        with pytest.raises(SyncInAsync, match=rf"write `await aqueue.{name}\(\.\.\.\)`"):
            call()
    with pytest.raises(SyncInAsync, match=r"write `async for result in aqueue.results\(\.\.\.\)`"):
        queue.results(["x"])


# -- waiting for a commit --------------------------------------------------------------------


def test_a_rollback_forgets_what_waits_for_the_commit(real_db: None) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        queue.enqueue(add, (1, 2), on_commit=True)
        1 / 0  # noqa: B018
    assert queue.counts() == []


def test_a_commit_stores_it_under_the_id_already_known(real_db: None) -> None:
    with transaction.atomic():
        handle = queue.enqueue(add, (1, 2), on_commit=True)
        assert queue.counts() == []
    assert queue.info(handle).row.id == handle


def test_the_setting_says_so_for_all(real_db: None, omniq: Omniq) -> None:
    omniq(STORAGE_TYPE="memory", ENQUEUE_ON_COMMIT=True)
    with transaction.atomic():
        late = queue.enqueue_many([Task(func=add, args=(1, 1)), Task(func=add, args=(2, 2))])
        now = queue.enqueue(add, (1, 2), on_commit=False)
        assert [row.id for row in queue.find().tasks] == [now]
    assert {row.id for row in queue.find().tasks} == {now, *late}
    outside = queue.enqueue(add, (3, 3))
    assert queue.info(outside).row.id == outside


def test_another_databases_commit(real_db: None) -> None:
    with transaction.atomic(using="other"):
        with transaction.atomic():
            queue.enqueue(add, (1, 2), on_commit="other")
        assert queue.counts() == []
    assert len(queue.find().tasks) == 1


def test_what_waits_is_checked_at_once(real_db: None) -> None:
    with transaction.atomic():
        with pytest.raises(NotSerializable, match=r"args\[0\]"):
            queue.enqueue("far.away:function", ((n for n in ()),), on_commit=True)
        with pytest.raises(InvalidTask):
            queue.enqueue(add, (1, 2), queue="no such name", on_commit=True)
    assert queue.counts() == []


@pytest.mark.usefixtures("databases")
class InATestCase(TestCase):
    """As Django's own test cases show it."""

    def test_callbacks_can_be_captured(self) -> None:
        with self.captureOnCommitCallbacks() as callbacks:
            handle = queue.enqueue(add, (1, 2), on_commit=True)
        assert len(callbacks) == 1 and queue.counts() == []
        callbacks[0]()
        assert queue.info(handle).row.id == handle


@pytest.mark.asyncio
async def test_async_code_waits_for_the_commit_of_its_thread(real_db: None) -> None:
    from asgiref.sync import sync_to_async

    block = transaction.atomic()
    await sync_to_async(block.__enter__)()
    handle = await aqueue.enqueue(add, (1, 2), on_commit=True)
    assert await aqueue.counts() == []
    await sync_to_async(block.__exit__)(None, None, None)
    assert (await aqueue.info(handle)).row.id == handle


# -- what is refused -------------------------------------------------------------------------


def test_an_unknown_queue_where_queues_are_listed(omniq: Omniq) -> None:
    omniq(STORAGE_TYPE="memory", QUEUES=["default", "emails"])
    queue.enqueue(add, (1, 2))
    queue.enqueue(add, (1, 2), queue="emails")
    with pytest.raises(InvalidTask, match=r"'email' is not one of .*; did you mean 'emails'\?"):
        queue.enqueue(add, (1, 2), queue="email")
    with pytest.raises(InvalidTask, match="'letters' is not one of"):
        queue.enqueue(letter, ("a",))
    omniq(STORAGE_TYPE="memory")
    queue.enqueue(add, (1, 2), queue="email")


def test_a_duplicate_names_its_holder() -> None:
    first = queue.enqueue(add, (1, 2), unique="key")
    with pytest.raises(DuplicateTask) as refused:
        queue.enqueue(add, (1, 2), unique="key")
    assert refused.value.holder == first


def test_wrong_settings_say_so_at_first_use(omniq: Omniq) -> None:
    omniq(STORAGE_TYP="memory")
    with pytest.raises(ImproperlyConfigured, match="did you mean 'STORAGE_TYPE'"):
        queue.counts()


# -- functions that enqueue themselves ---------------------------------------------------------


def test_a_function_enqueues_itself_on_this_queue(working: None) -> None:
    assert letter.enqueue("hi").result(30) == "HI"


@pytest.mark.asyncio
async def test_an_async_function_does_so_too(working: None) -> None:
    assert await (await parcel.enqueue("hi")).result(30) == "Hi"


def test_in_the_transaction_if_tasks_are_kept_there(real_db: None, omniq_in_db: None) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        letter.enqueue("hi")
        assert len(queue.find().tasks) == 1
        1 / 0  # noqa: B018
    assert len(queue.find().tasks) == 0
    with transaction.atomic():
        handle = letter.enqueue("hi")
    assert queue.info(handle).row.queue == "letters"


def test_an_enqueue_asks_the_database_little(db: None, omniq_in_db: None) -> None:
    from django.db import connection

    queue.enqueue(add, (1, 2))
    with CaptureQueriesContext(connection) as captured:
        queue.enqueue(add, (1, 2))
    assert len(captured) == 0, "it goes past Django's cursors, on the same connection"
