"""`EagerBackend`: Django's ImmediateBackend with OmniQ's options."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings

from omniq.contrib.django.backends.framework import TaskResultStatus, task_backends
from tests.contrib.django.shop import declared


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    declared.SEEN.clear()
    eager = {"BACKEND": "omniq.contrib.django.EagerBackend", "QUEUES": []}
    with override_settings(TASKS={"default": eager}):
        yield


@pytest.mark.parametrize("wanted", [declared.add, declared.add_async])
def test_it_has_run_when_enqueue_returns(wanted: Any) -> None:
    result = wanted.enqueue(1, b=2)
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 3)
    assert result.attempts == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("wanted", [declared.add, declared.add_async])
async def test_the_same_in_async_code(wanted: Any) -> None:
    assert (await wanted.aenqueue(1, b=2)).return_value == 3


@pytest.mark.asyncio
async def test_a_coroutine_runs_in_the_callers_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    async def sleep(_: float) -> None:
        seen.append((threading.get_ident(), asyncio.get_running_loop()))

    monkeypatch.setattr(declared.asyncio, "sleep", sleep)
    await declared.add_async.aenqueue(1, 2)
    assert seen == [(threading.get_ident(), asyncio.get_running_loop())]


@pytest.mark.parametrize("name", ["third_time", "third_time_async"])
def test_retries_that_a_task_asks_for_are_made_at_once(name: str) -> None:
    wanted = getattr(declared, name).using(retry_delay=3600)
    result = wanted.enqueue(1)
    assert (result.return_value, result.attempts) == (3, 3)
    assert [error.exception_class for error in result.errors] == [LookupError, LookupError]


@pytest.mark.asyncio
async def test_and_in_async_code() -> None:
    result = await declared.third_time_async.aenqueue(1)
    assert (result.return_value, result.attempts) == (3, 3)


@pytest.mark.asyncio
async def test_rules_say_what_is_worth_a_retry() -> None:
    result = await declared.third_time_async.using(never_retry=LookupError).aenqueue(1)
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 1)


def test_a_task_that_names_no_retries_is_run_once() -> None:
    result = declared.give_a_function.enqueue()
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 1)


def test_a_task_that_always_asks_for_another_attempt_is_left_alone() -> None:
    result = declared.again.enqueue()
    assert (result.status, result.attempts) == (TaskResultStatus.FAILED, 100)


def test_on_commit_it_runs_at_the_commit(real_db: None) -> None:
    with transaction.atomic():
        result = declared.add.enqueue_on_commit(1, 2)  # type: ignore[attr-defined]
        assert result.status == TaskResultStatus.READY
    assert result.return_value == 3


def test_it_can_be_had_beside_the_queue() -> None:
    tasks = {
        "default": {"BACKEND": "omniq.contrib.django.OmniQBackend"},
        "now": {"BACKEND": "omniq.contrib.django.EagerBackend"},
    }
    with override_settings(TASKS=tasks):
        assert declared.add.enqueue(1, 2).status == TaskResultStatus.READY
        assert declared.add.using(backend="now").enqueue(1, 2).return_value == 3
        assert len(task_backends.settings) == 2
