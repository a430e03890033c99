"""OmniQ's options on tasks of Django's framework."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from omniq.contrib.django import OmniQTask, queue
from omniq.contrib.django.backends.framework import (
    InvalidTask,
    task,
)
from tests.contrib.django.shop import declared


def test_the_decorator_takes_omniqs_options() -> None:
    assert isinstance(declared.everything, OmniQTask)
    info = queue.info(declared.everything.enqueue().id)
    assert info.retry is not None
    assert (info.retry.retries, info.retry.delay) == (5, 0.5)
    assert (info.retry.only, info.retry.never) == (("LookupError",), ("KeyError",))
    assert info.timeout == 30
    assert info.row.expires_at == info.row.created_at + 60_000
    assert info.row.tags == ("a", "b") and info.row.lane == "async"
    assert info.row.unique is not None and info.row.unique.key == "only-one"
    assert info.metadata["tenant"] == "x"


def test_using_takes_them_too_and_keeps_the_others() -> None:
    wanted = declared.everything.using(retries=1, unique=None, timeout=None, priority=3)
    info = queue.info(wanted.enqueue().id)
    assert info.retry is not None
    assert (info.retry.retries, info.retry.delay, info.timeout) == (1, 0.5, None)
    assert info.row.unique is None and info.row.priority == 3
    assert declared.everything.retries == 5  # type: ignore[attr-defined]


def test_run_after_may_be_a_length_of_time() -> None:
    before = timezone.now().timestamp() * 1000
    wanted = declared.add.using(run_after=timedelta(hours=1))  # type: ignore[arg-type]
    row = queue.info(wanted.enqueue(1, 2).id).row
    assert 3_600_000 <= row.run_at - before < 3_660_000
    fixed = wanted.using(run_after=timezone.now())
    assert fixed.run_after is not None and fixed.delay is None  # type: ignore[attr-defined]


def test_an_option_nobody_knows() -> None:
    with pytest.raises(TypeError, match="no option 'retrys'; did you mean 'retries'"):
        task(retrys=3)(declared.no_task)
    with pytest.raises(TypeError, match="no option 'time_out'; did you mean 'timeout'"):
        declared.add.using(time_out=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retries": -1}, "retries=-1"),
        ({"timeout": 0}, "a task needs some time"),
        ({"worker": "thred"}, "did you mean 'thread'"),
        ({"tags": "a"}, "give a list of tags"),
        ({"ttl": "soon"}, "ttl='soon'"),
        ({"retry_on": 3}, "retry_on"),
        ({"unique": ""}, "is no key"),
        ({"metadata": {"x": object()}}, "a dict of plain values"),
    ],
)
def test_an_option_that_makes_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidTask, match=said):
        declared.add.using(**options)


def test_tasks_and_results_can_be_pickled() -> None:
    for wanted in (declared.add, declared.add.using(priority=3, retries=7)):
        assert pickle.loads(pickle.dumps(wanted)) == wanted
    result = declared.add.enqueue(1, 2)
    assert pickle.loads(pickle.dumps(result)) == result
