"""What the framework's signals and log tell of tasks, and when."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from omniq.contrib.django import queue
from omniq.contrib.django.backends.framework import (
    TaskResultDoesNotExist,
    task_backends,
    task_finished,
    task_started,
)
from omniq.contrib.django.compat import package
from omniq.contrib.django.runtime import blocking
from tests.contrib.django.shop import declared

LOGGER = str(package())


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    declared.SEEN.clear()
    declared.HANGING.clear()
    declared.LET_GO.clear()


@pytest.mark.parametrize("wanted", [declared.add, declared.add_async])
def test_signals_of_a_success(
    wanted: Any, ended: Callable[[Any], Any], heard: list[Any], caplog: Any
) -> None:
    with caplog.at_level(logging.DEBUG, logger=LOGGER):
        result = ended(wanted.enqueue(1, 2))
    backend = type(task_backends["default"])
    assert [(name, sender, status) for name, sender, id, status in heard if id == result.id] == [
        ("enqueued", backend, "READY"),
        ("started", backend, "RUNNING"),
        ("finished", backend, "SUCCESSFUL"),
    ]
    logged = [r.getMessage() for r in caplog.records if r.name == LOGGER]
    assert "enqueued" in logged[0]
    assert "state=RUNNING" in logged[1] and "state=SUCCESSFUL" in logged[2]


@pytest.mark.parametrize("name", ["third_time", "third_time_async"])
def test_finished_is_told_once_and_retries_are_logged(
    name: str, ended: Callable[[Any], Any], heard: list[Any], caplog: Any
) -> None:
    wanted = getattr(declared, name).using(retries=1)
    with caplog.at_level(logging.INFO, logger=LOGGER):
        result = ended(wanted.enqueue(1))
    assert [kind for kind, _, id, _ in heard if id == result.id] == [
        *("enqueued", "started", "started", "finished")
    ]
    assert heard[-1][3] == "FAILED"
    records = [r for r in caplog.records if r.name == LOGGER]
    (retried,) = [r for r in records if r.levelno == logging.WARNING]
    (failed,) = [r for r in records if r.levelno == logging.ERROR]
    assert "attempt=1" in retried.getMessage() and retried.exc_info
    assert "state=FAILED" in failed.getMessage()
    assert failed.exc_info and isinstance(failed.exc_info[1], LookupError)


@pytest.mark.parametrize("wanted", [declared.hangs, declared.hangs_in_a_thread])
def test_a_timeout_is_told_too(
    wanted: Any,
    ended: Callable[[Any], Any],
    heard: list[Any],
    leap: Callable[[float], None],
    caplog: Any,
) -> None:
    with caplog.at_level(logging.INFO, logger=LOGGER):
        result = wanted.enqueue()
        blocking().start_worker()
        assert declared.HANGING.wait(30)
        leap(601)
        ended(result)
        declared.LET_GO.set()  # what a thread does after that is not told of
        lanes = [t for t in threading.enumerate() if t.name.startswith("omniq-thread-lane")]
        blocking().stop_worker()
        for lane in lanes:
            lane.join(30)
    assert [(name, status) for name, _, id, status in heard if id == result.id] == [
        ("enqueued", "READY"),
        ("started", "RUNNING"),
        ("finished", "FAILED"),
    ]
    (failed,) = [r for r in caplog.records if r.name == LOGGER and r.levelno == logging.ERROR]
    assert failed.exc_info and "longer than its timeout" in str(failed.exc_info[1])


def test_a_task_that_expires_is_told_of(ended: Callable[[Any], Any], heard: list[Any]) -> None:
    result = ended(declared.add.using(ttl=0, delay=3600).enqueue(1, 2))
    blocking().stop_worker()
    assert [(name, status) for name, _, id, status in heard if id == result.id] == [
        ("enqueued", "READY"),
        ("finished", "FAILED"),
    ]


def test_a_receiver_that_raises_does_the_task_no_harm(ended: Callable[[Any], Any]) -> None:
    def receive(**_: Any) -> None:
        raise RuntimeError("a receiver's own trouble")

    for signal in (task_started, task_finished):
        signal.connect(receive)
    try:
        assert ended(declared.add.enqueue(1, 2)).return_value == 3
        assert ended(declared.add_async.enqueue(1, 2)).return_value == 3
    finally:
        for signal in (task_started, task_finished):
            signal.disconnect(receive)


def test_enqueue_on_commit_waits_and_its_id_is_known(real_db: None, heard: list[Any]) -> None:
    with transaction.atomic():
        result = declared.add.enqueue_on_commit(1, 2)  # type: ignore[attr-defined]
        assert queue.counts() == [] and heard == []
        with pytest.raises(TaskResultDoesNotExist):
            result.refresh()
    result.refresh()
    assert [name for name, *_ in heard] == ["enqueued"]


def test_a_rollback_leaves_nothing(real_db: None, heard: list[Any], omniq: Any) -> None:
    omniq(STORAGE_TYPE="memory", ENQUEUE_ON_COMMIT=True)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        declared.add.enqueue(1, 2)
        1 / 0  # noqa: B018
    assert queue.counts() == [] and heard == []


@pytest.mark.asyncio
async def test_on_commit_in_async_code(heard: list[Any]) -> None:
    result = await declared.add.aenqueue_on_commit(1, 2)  # type: ignore[attr-defined]
    await result.arefresh()
    assert [name for name, *_ in heard] == ["enqueued"], "there is no transaction to wait for"
