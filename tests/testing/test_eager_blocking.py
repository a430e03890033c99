"""Tasks of a blocking queue, run as they are enqueued."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from omniq import OmniQ, ResultStatus, Task
from omniq.sync import task
from omniq.testing import eager, enqueued
from tests.testing import work


@pytest.fixture
def blocking() -> Iterator[OmniQ]:
    with OmniQ(storage_type="memory") as queue:
        yield queue


def test_a_blocking_queue_runs_plain_functions_in_the_calling_thread(blocking: OmniQ) -> None:
    work.local.value = "of this thread"
    token = work.who.set("the test")
    with eager(blocking):
        assert blocking.enqueue(work.sees).result() == ("the test", "of this thread")
        assert work.who.get() == "the test"
        assert blocking.enqueue(work.thread).result() == threading.get_ident()
        assert blocking.enqueue(work.double, (2,)).result() == 4
        handles = blocking.enqueue_many([Task(func=work.thread), Task(func=work.add, args=(1,))])
        assert [handle.result() for handle in handles] == [threading.get_ident(), 2]
    work.who.reset(token)
    del work.local.value


def test_a_blocking_task_may_enqueue_another(blocking: OmniQ) -> None:
    with eager(blocking, raise_errors=True):
        assert blocking.enqueue(_outer).result() == [threading.get_ident()] * 2
        with pytest.raises(work.Broken, match="plainly"):
            blocking.enqueue(work.breaks_plainly, retries=0)


@task
def inner() -> int:
    return threading.get_ident()


def _outer() -> list[int]:
    return [inner.enqueue().result(), threading.get_ident()]


def test_an_interrupt_of_a_blocking_task_is_the_callers(blocking: OmniQ) -> None:
    with eager(blocking):
        with pytest.raises(KeyboardInterrupt):
            blocking.enqueue(_interrupted)
        (task,) = enqueued(blocking)
        assert blocking.result(task.id).status is ResultStatus.PENDING


def test_a_task_that_exits_has_failed(blocking: OmniQ) -> None:
    with eager(blocking):
        assert blocking.enqueue(_exits, retries=0).status() is ResultStatus.ERROR
        assert blocking.enqueue(_stops_iteration, retries=0).status() is ResultStatus.ERROR


def _stops_iteration() -> None:
    raise StopIteration


def _interrupted() -> None:
    raise KeyboardInterrupt


def _exits() -> None:
    raise SystemExit(3)


def test_blocking_calls_of_other_threads_run_there(blocking: OmniQ) -> None:
    found: list[tuple[int, int]] = []

    def enqueue() -> None:
        found.append((blocking.enqueue(work.thread).result(), threading.get_ident()))

    with eager(blocking):
        threads = [threading.Thread(target=enqueue) for _ in range(3)]
        for thread in threads:
            thread.start()
            thread.join(10)
    assert len(found) == 3
    assert all(ran == called for ran, called in found)
