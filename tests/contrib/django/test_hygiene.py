"""Connections around tasks: none inherited, none left behind, none shared."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.db.utils import ProgrammingError
from django.utils import timezone, translation

from omniq import Snooze, TaskFailed
from omniq.contrib.django import queue
from omniq.contrib.django.runtime import blocking
from omniq.contrib.django.workers import hygiene
from omniq.queue.engine import Loaded
from tests.contrib.django.conftest import Omniq
from tests.contrib.django.shop.models import Order
from tests.waiting import blocking_until

seen: list[Any] = []
"""What tasks of the running test have noted."""


@pytest.fixture
def one_thread(real_db: None, omniq: Omniq) -> Iterator[None]:
    """A worker of one thread, so that each task meets what the one before has left."""
    seen.clear()
    omniq(STORAGE_TYPE="memory", THREAD_WORKERS=1, RETRIES=0)
    blocking().start_worker()
    yield
    blocking().stop_worker()


@pytest.fixture
def kept_open(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """CONN_MAX_AGE keeps connections for the next task."""
    settings: dict[str, Any] = connections.settings["default"]
    monkeypatch.setitem(settings, "CONN_MAX_AGE", 600)
    return settings


def done(function: Any, *args: Any) -> Any:
    """Run it as a task and wait for its result."""
    return queue.enqueue(function, args).result(30)


def count() -> int:
    seen.append(connection.connection)
    number = Order.objects.count()
    seen.append(connection.connection)
    return number


def here() -> None:
    seen.append(threading.current_thread())


async def acount() -> int:
    seen.append(await sync_to_async(lambda: connections["default"])())
    return await Order.objects.acount()


def test_a_connection_ends_with_its_task(one_thread: None) -> None:
    done(count)
    done(count)
    assert seen[0] is None and seen[2] is None, "the task found the connection of another"
    with pytest.raises(Exception, match="closed"):
        seen[1].execute("SELECT 1")


def test_max_age_keeps_it_for_the_next_task(one_thread: None, kept_open: object) -> None:
    done(count)
    done(count)
    assert seen[1] is not None
    assert seen[2] is seen[1]


def test_and_no_longer_than_its_thread(one_thread: None, kept_open: object) -> None:
    done(count)
    done(here)
    blocking().stop_worker()
    seen[2].join(30)
    gc.collect()
    with pytest.raises(Exception, match="closed"):
        seen[1].execute("SELECT 1")


def sever() -> None:
    """As a server does that restarts: the driver's connection is dead, and nobody was told."""
    connection.ensure_connection()
    connection.connection.close()


def test_a_dead_connection_is_replaced(
    one_thread: None, kept_open: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert done(count) == 0
    done(sever)
    assert done(count) == 0
    assert "is given up: Cannot operate on a closed database" in caplog.text


def leave_atomic() -> None:
    transaction.atomic().__enter__()
    Order.objects.create(number="half")


def leave_begun() -> None:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE")
    Order.objects.create(number="half")


def leave_autocommit_off() -> None:
    transaction.set_autocommit(False)
    Order.objects.create(number="half")


@pytest.mark.parametrize("leave", [leave_atomic, leave_begun])
def test_a_transaction_left_open_is_rolled_back(
    leave: Any, one_thread: None, kept_open: object, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="omniq.django"):
        done(leave)
    assert "inside a transaction on database 'default' that it had begun" in caplog.text
    assert done(count) == 0
    assert Order.objects.count() == 0, "nobody else waits for a lock, or sees the half of it"


def test_autocommit_turned_off_is_on_for_the_next(one_thread: None, kept_open: object) -> None:
    done(leave_autocommit_off)
    assert done(lambda: transaction.get_autocommit()) is True


def put_order(number: str) -> bool:
    with transaction.atomic():
        Order.objects.create(number=number)
    return True


def fail_inside() -> None:
    with transaction.atomic():
        Order.objects.create(number="half")
        raise ZeroDivisionError


def test_an_error_inside_a_transaction_rolls_back(one_thread: None, kept_open: object) -> None:
    with pytest.raises(TaskFailed, match="ZeroDivisionError"):
        done(fail_inside)
    assert done(put_order, "whole")
    assert [order.number for order in Order.objects.all()] == ["whole"]


def speak(language: str) -> str:
    before = translation.get_language()
    translation.activate(language)
    timezone.activate("Asia/Tokyo")
    return f"{before} {timezone.get_current_timezone_name()}"


def test_language_and_time_zone_do_not_leak(one_thread: None) -> None:
    done(speak, "de")
    assert done(speak, "fr").startswith("en-us")
    assert done(lambda: timezone.get_current_timezone_name()) == "America/Chicago"


def queries() -> int:
    connection.force_debug_cursor = True
    Order.objects.count()
    number = len(connection.queries_log)
    connection.force_debug_cursor = False
    return number


def test_recorded_queries_do_not_pile_up(one_thread: None, kept_open: object) -> None:
    assert [done(queries) for _ in range(2)] == [1, 1]


# -- async tasks ---------------------------------------------------------------------------


def test_an_async_task_leaves_no_connection(one_thread: None, kept_open: object) -> None:
    assert done(acount) == 0
    assert seen[0].connection is None


async def agree(number: int) -> int:
    """Ends only once this many are inside the ORM's threads at the same time."""
    return await sync_to_async(meet)(number)


def meet(number: int) -> int:
    return gate.wait(30)


gate = threading.Barrier(1)


def test_async_tasks_do_not_wait_for_each_other_in_one_thread(one_thread: None) -> None:
    global gate
    gate = threading.Barrier(5)
    handles = [queue.enqueue(agree, (5,)) for _ in range(5)]
    assert sorted(handle.result(60) for handle in handles) == [0, 1, 2, 3, 4]


async def same_thread() -> bool:
    threads = [await sync_to_async(threading.get_ident)() for _ in range(3)]
    return len(set(threads)) == 1


def test_one_async_task_keeps_to_one_thread(one_thread: None) -> None:
    assert done(same_thread) is True


async def hang() -> None:
    seen.append(await sync_to_async(open_connection)())
    seen.append(asyncio.current_task())
    started.set()
    await asyncio.Event().wait()


def open_connection() -> Any:
    connection.ensure_connection()
    return connections["default"]


started = threading.Event()


def test_a_cancelled_one_leaves_no_connection_either(one_thread: None, kept_open: object) -> None:
    started.clear()
    handle = queue.enqueue(hang)
    assert started.wait(30)
    assert seen[0].connection is not None
    assert handle.cancel()
    with pytest.raises(Exception, match="cancelled"):
        handle.result(30)
    blocking_until(lambda: seen[0].connection is None)


# -- at the end of the process ---------------------------------------------------------------


def refused() -> None:
    raise LookupError("no row") from RuntimeError(
        "cannot schedule new futures after interpreter shutdown"
    )


async def arefused() -> None:
    raise RuntimeError("can't create new thread at interpreter shutdown")


async def acall(function: Any) -> Any:
    return await hygiene.clean(Loaded(function, (), {}, True)).func()


def test_what_python_refuses_at_its_end_is_for_the_next_process() -> None:
    with pytest.raises(Snooze) as sync_task:
        hygiene.clean(Loaded(refused, (), {}, False)).func()
    with pytest.raises(Snooze) as async_task:
        asyncio.run(acall(arefused))
    assert sync_task.value.delay == async_task.value.delay == 0


# -- inside a caller's transaction ---------------------------------------------------------


@contextmanager
def as_postgresql_does(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a transaction other databases say that autocommit is off; SQLite's wrapper does not."""
    monkeypatch.setattr(connection, "get_autocommit", lambda: not connection.in_atomic_block)
    yield


def test_a_task_called_in_a_test_leaves_its_transaction(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    Order.objects.create(number="mine")
    call = hygiene.clean(Loaded(Order.objects.count, (), {}, False))
    with as_postgresql_does(monkeypatch):
        assert call.func() == 1
    assert connection.in_atomic_block
    assert Order.objects.count() == 1
    raw = connection.connection
    assert raw is not None and raw.in_transaction


def test_a_connection_that_cannot_be_closed_is_given_up(
    databases: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connection.ensure_connection()
    wrapper = connections["default"]

    def broken() -> None:
        raise ProgrammingError("the network is gone")

    monkeypatch.setattr(wrapper, "close_if_unusable_or_obsolete", broken)
    hygiene.end([])
    assert connections["default"] is not wrapper
    assert "is given up" in caplog.text
    wrapper.close()
