"""`omniq_status`, `omniq_retry` and `omniq_prune`, wherever the tasks are kept."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from omniq.clock import SYSTEM_CLOCK
from omniq.contrib.django import queue
from omniq.errors import TaskNotFound
from omniq.models.status import Status
from tests.contrib.django import errands

Omniq = Callable[..., None]


@pytest.fixture(params=["own store", "Django's database"])
def kept(request: pytest.FixtureRequest, omniq: Omniq, tmp_path: Path) -> None:
    if request.param == "own store":
        omniq(BASE_DIR=tmp_path)
    else:
        request.getfixturevalue("real_db")
        request.getfixturevalue("omniq_in_db")


def manage(command: str, *words: str, **options: Any) -> str:
    out = StringIO()
    call_command(command, *words, stdout=out, stderr=out, **options)
    return out.getvalue()


def work() -> None:
    manage("omniq_worker", batch=True, verbosity=0)


def counts() -> Counter[Status]:
    found: Counter[Status] = Counter()
    for each in queue.counts():
        found[each.status] += each.count
    return found


def some_of_each() -> None:
    for name in ("letters", "parcels"):
        queue.enqueue(errands.add, (1, 1), queue=name)
        queue.enqueue(errands.fail, queue=name)
    queue.cancel(queue.enqueue(errands.add, (1, 1), queue="letters"))
    work()


# -- status --------------------------------------------------------------------------------


def test_status(kept: None) -> None:
    assert "no tasks yet" in manage("omniq_status")
    some_of_each()
    said = manage("omniq_status", no_color=True)
    lines = [line.split() for line in said.splitlines()]
    assert ["queue", "succeeded", "failed", "cancelled"] in lines
    assert ["letters", "1", "1", "1"] in lines and ["parcels", "1", "1", "0"] in lines
    assert "no workers: nobody works on these tasks now" in said and "\x1b" not in said


def test_status_for_programs(kept: None) -> None:
    some_of_each()
    report = json.loads(manage("omniq_status", json=True))
    assert report["queues"]["parcels"] == {"succeeded": 1, "failed": 1}
    assert report["workers"] == []


def test_colours_are_those_of_django(kept: None) -> None:
    some_of_each()
    assert "\x1b[" in manage("omniq_status", force_color=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_COLORS", "success=magenta")
        assert "\x1b[35m1" in manage("omniq_status", force_color=True)


def test_every_place_is_reported(omniq: Omniq, tmp_path: Path) -> None:
    omniq(BASE_DIR=tmp_path / "near")
    ours = "omniq.contrib.django.OmniQBackend"
    tasks = {
        "default": {"BACKEND": ours},
        "far": {"BACKEND": ours, "OPTIONS": {"BASE_DIR": tmp_path / "far"}},
    }
    with override_settings(TASKS=tasks):
        errands.double.using(backend="far").enqueue(1)
        both = json.loads(manage("omniq_status", json=True))
        assert [each["queues"] for each in both] == [{}, {"default": {"ready": 1}}]
        far = json.loads(manage("omniq_status", json=True, backend="far"))
        assert far["queues"] == {"default": {"ready": 1}}
        with pytest.raises(CommandError, match="TASKS has no backend 'fra'; did you mean 'far'"):
            manage("omniq_status", backend="fra")


# -- retry ---------------------------------------------------------------------------------


def test_tasks_run_again_by_their_ids(kept: None) -> None:
    failed, later = queue.enqueue(errands.fail), queue.enqueue(errands.add, (1, 2), delay=600)
    work()
    said = manage("omniq_retry", str(failed), str(later))
    assert said.splitlines() == [f"{failed} will run again.", f"{later} will run again."]
    work()
    assert later.status() == "success"
    (event,) = (
        e
        for e in queue.events(limit=1000).events
        if e.task == later and e.data and "actor" in e.data
    )
    assert event.data and event.data["actor"] == "manage.py omniq_retry"


def test_tasks_that_cannot_run_again(kept: None) -> None:
    waiting, failed = queue.enqueue(errands.add, (1, 1)), queue.enqueue(errands.fail, queue="x")
    manage("omniq_worker", batch=True, verbosity=0, queues="x")
    out = StringIO()
    with pytest.raises(CommandError, match="2 of 3 tasks cannot run again") as refused:
        call_command("omniq_retry", str(waiting), "nonsense", str(failed), stdout=out, stderr=out)
    assert refused.value.returncode == 1
    assert out.getvalue().splitlines() == [
        f"{waiting}: it is waiting or running: only what has ended can run again (and what is due "
        "later)",
        "nonsense: no task has this id (or it ended so long ago that it is forgotten)",
        f"{failed} will run again.",
    ]


def test_all_failed_tasks_run_again(kept: None) -> None:
    some_of_each()
    assert manage("omniq_retry", failed=True, dry_run=True) == "2 tasks would run again.\n"
    assert counts()[Status.FAILED] == 2
    assert manage("omniq_retry", failed=True, queues="parcels") == "1 task will run again.\n"
    assert counts()[Status.READY] == 1
    assert manage("omniq_retry", failed=True, names="no.such:task") == "0 tasks will run again.\n"
    name = f"{errands.__name__}:fail"
    said = manage("omniq_retry", failed=True, names=name, verbosity=2)
    assert name in said and "1 task will run again." in said
    assert counts()[Status.READY] == 2
    assert manage("omniq_retry", failed=True, verbosity=0) == ""


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "say which tasks: their ids, or --failed"),
        (["--failed", "some-id"], "not both"),
        (["some-id", "--queue", "x"], "--queue and --name go with --failed"),
    ],
)
def test_unclear_wishes(words: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said) as refused:
        manage("omniq_retry", *words)
    assert refused.value.returncode == 2


# -- prune ---------------------------------------------------------------------------------


class Later:
    """A clock so many days ahead."""

    def __init__(self, days: float) -> None:
        self._ahead = round(days * 86_400_000)

    def now(self) -> int:
        return SYSTEM_CLOCK.now() + self._ahead


def prune(in_days: float = 0, **options: Any) -> str:
    from omniq.contrib.django.management.commands import omniq_prune

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(omniq_prune, "SYSTEM_CLOCK", Later(in_days))
        return manage("omniq_prune", **options)


def test_ended_tasks_are_forgotten(kept: None) -> None:
    some_of_each()
    ended = queue.enqueue(errands.add, (1, 1))
    work()
    waiting = queue.enqueue(errands.add, (1, 1))
    assert prune(dry_run=True, min_age_days=0) == "Would forget 6 ended tasks.\n"
    assert prune(min_age_days=0) == "Forgot 6 ended tasks.\n"
    with pytest.raises(TaskNotFound):
        queue.result(ended)
    assert counts() == {Status.READY: 1} and waiting.status() == "pending"
    assert prune(min_age_days=0) == "Forgot 0 ended tasks.\n"


def prune_here() -> str:
    return prune(min_age_days=0)


def test_running_tasks_are_not_forgotten(kept: None) -> None:
    running = queue.enqueue(prune_here)
    work()
    assert running.result(30) == "Forgot 0 ended tasks.\n"


def test_how_old_they_must_be(kept: None) -> None:
    some_of_each()
    assert prune() == "Forgot 0 ended tasks.\n"
    assert prune(13.9) == "Forgot 0 ended tasks.\n"
    assert prune(3, min_age_days=3, failed_min_age_days=10) == "Forgot 3 ended tasks.\n"
    assert counts() == {Status.FAILED: 2}
    assert prune(9.9, min_age_days=3, failed_min_age_days=10) == "Forgot 0 ended tasks.\n"
    assert prune(14.1) == "Forgot 2 ended tasks.\n"


def test_failed_ones_may_be_forgotten_sooner(kept: None) -> None:
    some_of_each()
    assert prune(failed_min_age_days=0) == "Forgot 2 ended tasks.\n"
    assert counts() == {Status.SUCCEEDED: 2, Status.CANCELLED: 1}


def test_only_of_some_queues(kept: None) -> None:
    some_of_each()
    assert prune(min_age_days=0, queues="parcels,other") == "Forgot 2 ended tasks.\n"
    assert {each.queue for each in queue.counts() if each.count} == {"letters"}
    assert prune(min_age_days=0, queues="*", verbosity=0) == ""
    assert not counts().total()


@pytest.mark.parametrize("days", ["-1", "inf", "nan"])
def test_no_age_at_all(days: str) -> None:
    with pytest.raises(CommandError, match=f"argument --min-age-days: {days} is not zero or"):
        manage("omniq_prune", f"--min-age-days={days}")
