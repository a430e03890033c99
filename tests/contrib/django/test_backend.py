"""`OmniQBackend`: Django's tasks, stored, run by a worker, and asked for again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation
from django.test import modify_settings, override_settings
from django.utils import timezone

from omniq import SyncInAsync
from omniq.contrib.django import OmniQBackend, queue
from omniq.contrib.django.backends.framework import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task,
    task_backends,
)
from omniq.contrib.django.compat import package
from omniq.contrib.django.runtime import blocking
from omniq.models.filters import EventFilter
from omniq.models.status import EventType, Status
from omniq.serialization import FUNCTIONS
from tests.contrib.django.shop import declared
from tests.contrib.django.shop.tasks import add as plain_add

LOGGER = str(package())
OMNIQ = "omniq.contrib.django.OmniQBackend"


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    declared.SEEN.clear()


# -- enqueue and results -----------------------------------------------------------------


def test_what_enqueue_gives_is_what_can_be_asked_for_again() -> None:
    result = declared.add.enqueue(1, b=2)
    assert result.status == TaskResultStatus.READY
    assert (result.args, result.kwargs, result.attempts) == ([1], {"b": 2}, 0)
    assert result.enqueued_at is not None and result.started_at is None
    assert declared.add.get_result(result.id) == result


@pytest.mark.asyncio
async def test_the_same_in_async_code() -> None:
    result = await declared.add.aenqueue(1, b=2)
    assert await declared.add.aget_result(result.id) == result
    with pytest.raises(SyncInAsync, match=r"await task.aenqueue\(...\)"):
        declared.add.enqueue(1, 2)
    with pytest.raises(SyncInAsync, match=r"arefresh\(\)"):
        result.refresh()


@pytest.mark.parametrize("wanted", [declared.add, declared.add_async])
def test_a_worker_runs_it(wanted: Any, ended: Callable[[Any], Any]) -> None:
    result = ended(wanted.enqueue(1, b=2))
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 3)
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert result.last_attempted_at == result.started_at
    assert result.attempts == 1 and all(result.worker_ids)
    assert wanted.get_result(result.id) == result


def test_a_failure_is_told_with_its_class_and_traceback(ended: Callable[[Any], Any]) -> None:
    result = ended(declared.boom.enqueue("no luck"))
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[0].exception_class is ValueError
    assert result.errors[0].traceback.endswith("ValueError: no luck\n")
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value


@pytest.mark.parametrize("wanted", [declared.third_time, declared.third_time_async])
def test_every_attempt_is_told(wanted: Any, ended: Callable[[Any], Any]) -> None:
    result = ended(wanted.enqueue(1))
    assert (result.status, result.return_value) == (TaskResultStatus.SUCCESSFUL, 3)
    assert result.attempts == 3 and len(set(result.worker_ids)) == 1
    assert [error.exception_class for error in result.errors] == [LookupError, LookupError]
    assert "attempt 1" in result.errors[0].traceback
    assert result.started_at <= result.last_attempted_at <= result.finished_at


@pytest.mark.parametrize(
    ("wanted", "error"), [(declared.leave, SystemExit), (declared.interrupt, KeyboardInterrupt)]
)
def test_a_task_that_wants_to_end_the_process_fails(
    wanted: Any, error: type[BaseException], ended: Callable[[Any], Any]
) -> None:
    result = ended(wanted.enqueue())
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[0].exception_class is error
    assert ended(declared.add.enqueue(1, 1)).return_value == 2, "its worker goes on"


def test_a_value_that_json_cannot_hold_fails_the_task(ended: Callable[[Any], Any]) -> None:
    result = ended(declared.give_a_function.using(retries=0).enqueue())
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[0].exception_class is TypeError
    assert "Unsupported type" in result.errors[0].traceback


def test_values_are_those_json_would_give(ended: Callable[[Any], Any]) -> None:
    assert ended(declared.give_bytes.enqueue()).return_value == {"data": ["abc", 1]}
    result = declared.whoami.enqueue((1, 2))
    assert result.args == [[1, 2]]


def test_arguments_that_json_cannot_hold_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"Unsupported type: .*must be JSON\. Pass .* an id"):
        declared.add.enqueue(datetime.now(UTC), 1)
    assert queue.counts() == []


def test_the_other_lane_may_be_asked_for(ended: Callable[[Any], Any]) -> None:
    assert ended(declared.add_async.using(worker="thread").enqueue(1, 2)).return_value == 3
    assert ended(declared.add.using(worker="async").enqueue(1, 2)).return_value == 3


def test_the_context_knows_id_and_attempt(ended: Callable[[Any], Any]) -> None:
    result = ended(declared.whoami.enqueue("x"))
    assert result.return_value == [result.id, 1, "RUNNING", "x"]
    result = ended(declared.whoami_async.enqueue())
    assert result.return_value == [result.id, 1]


def test_priority_queue_and_time_are_kept() -> None:
    after = timezone.now() + timedelta(hours=1)
    wanted = declared.add.using(priority=7, queue_name="slow", run_after=after)
    result = wanted.enqueue(1, 2)
    row = queue.info(result.id).row
    assert (row.priority, row.queue, row.run_at) == (7, "slow", round(after.timestamp() * 1000))
    assert row.lane == "thread"
    assert declared.add.get_result(result.id).task == wanted
    assert queue.info(declared.add_async.enqueue(1, 2).id).row.lane == "async"


def test_without_time_zones_times_are_naive() -> None:
    with override_settings(USE_TZ=False):
        after = timezone.now() + timedelta(hours=1)
        result = declared.add.using(run_after=after).enqueue(1, 2)
        assert result.enqueued_at is not None and result.enqueued_at.tzinfo is None
        again = declared.add.get_result(result.id)
    assert again == result
    stamp = timezone.make_aware(after).timestamp()
    assert queue.info(result.id).row.run_at == round(stamp * 1000)


def test_cancelled_and_expired_tasks_have_failed(ended: Callable[[Any], Any]) -> None:
    result = declared.add.using(run_after=timezone.now() + timedelta(hours=1)).enqueue(1, 2)
    assert queue.cancel(result.id)
    result.refresh()
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[-1].exception_class.__name__ == "TaskCancelled"
    late = declared.add.using(ttl=0, delay=3600).enqueue(1, 2)
    assert ended(late).errors[-1].exception_class.__name__ == "TaskExpired"


def test_a_timeout_fails_the_task(ended: Callable[[Any], Any]) -> None:
    result = ended(declared.sleeps.enqueue(30))
    assert result.errors[0].exception_class is TimeoutError
    assert "longer than its timeout of 0.2 s" in result.errors[0].traceback


def test_an_attempt_that_is_to_come_leaves_it_ready(ended: Callable[[Any], Any]) -> None:
    result = declared.again.enqueue()
    declared.add.using(priority=-1).enqueue(1, 1)
    ended(declared.add.using(priority=-2).enqueue(1, 1))
    result.refresh()
    while not result.attempts:
        result.refresh()
    while result.status == TaskResultStatus.RUNNING:
        result.refresh()
    assert (result.status, result.attempts) == (TaskResultStatus.READY, 1)
    assert result.finished_at is None and result.started_at is not None
    assert [error.exception_class_path for error in result.errors] == ["omniq.errors.Retry"]


# -- what is not ours --------------------------------------------------------------------


def test_ids_nobody_knows() -> None:
    for id in ("123", "no such thing", "01890000-0000-7000-8000-000000000000"):
        with pytest.raises(TaskResultDoesNotExist):
            declared.add.get_result(id)


def test_tasks_of_another_backend_do_not_exist_here() -> None:
    both = {"default": {"BACKEND": OMNIQ}, "other": {"BACKEND": OMNIQ}}
    with override_settings(TASKS=both):
        result = declared.add.using(backend="other").enqueue(1, 2)
        assert task_backends["other"].get_result(result.id).backend == "other"
        with pytest.raises(TaskResultDoesNotExist):
            task_backends["default"].get_result(result.id)


def test_omniqs_own_tasks_do_not_exist_here() -> None:
    handle = queue.enqueue(plain_add, (1, 2))
    with pytest.raises(TaskResultDoesNotExist):
        task_backends["default"].get_result(handle)


def test_omniqs_own_queue_takes_django_tasks() -> None:
    handle = queue.enqueue(declared.add, (1, 2))  # type: ignore[call-overload]
    blocking().start_worker()
    assert handle.result(30) == 3
    assert declared.add.get_result(handle).return_value == 3


def test_a_row_that_leads_to_no_task_is_refused() -> None:
    handle = queue.enqueue("tests.contrib.django.shop.declared:SEEN", (1,))
    with pytest.raises(SuspiciousOperation, match="does not point to a Task"):
        task_backends["default"].get_result(handle)


def test_a_task_whose_module_is_gone_is_given_back(tmp_path: Any) -> None:
    # Django's own worker fails it. Here another worker, of a newer release, may know it.
    (tmp_path / "soon_gone.py").write_text(
        "from omniq.contrib.django.backends.framework import task\n@task\ndef passing(): pass\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        result = import_module("soon_gone").passing.enqueue()
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["soon_gone"]
        FUNCTIONS._known.pop("soon_gone:passing")
    (tmp_path / "soon_gone.py").unlink()
    blocking().start_worker()
    while not (events := queue.events(EventFilter(types=(EventType.UNKNOWN_FUNCTION,))).events):
        pass
    assert events[0].task == result.id and "cannot be imported here" in events[0].data["reason"]
    row = queue.info(result.id).row
    assert (row.status, row.attempt) == (Status.SCHEDULED, 0)
    with pytest.raises(ImportError):
        task_backends["default"].get_result(result.id)


def test_a_task_no_worker_would_find_is_refused() -> None:
    with pytest.raises(InvalidTask, match="a plain function stands there"):
        declared.renamed.enqueue()


# -- validation --------------------------------------------------------------------------


def test_what_django_refuses_is_refused() -> None:
    with pytest.raises(InvalidTask, match="priority must be a whole number"):
        declared.add.using(priority=101)
    with pytest.raises(InvalidTask, match="must be an aware datetime"):
        declared.add.using(run_after=datetime.now())
    with pytest.raises(InvalidTask, match="module level"):
        task(lambda: None)
    tasks = {"default": {"BACKEND": OMNIQ, "QUEUES": ["a"]}}
    with override_settings(TASKS=tasks), pytest.raises(InvalidTask, match="Queue 'default'"):
        declared.add.enqueue(1, 2)


def test_a_queue_no_worker_serves_is_refused(omniq: Any) -> None:
    omniq(STORAGE_TYPE="memory", QUEUES=["default", "emails"])
    with pytest.raises(InvalidTask, match=r"'email' is not one of .*did you mean 'emails'"):
        declared.add.using(queue_name="email").enqueue(1, 2)


def test_a_queue_of_no_backend_is_refused() -> None:
    tasks = {"default": {"BACKEND": OMNIQ, "QUEUES": ["default", "emails"]}}
    refused = pytest.raises(InvalidTask, match=r"\"QUEUES\"\] does .*did you mean 'emails'")
    with override_settings(TASKS=tasks), refused:
        declared.add.using(queue_name="email")


def test_names_omniq_cannot_keep_are_refused() -> None:
    with pytest.raises(InvalidTask, match="queue name 'a b' is not allowed"):
        declared.add.using(queue_name="a b")


def test_what_the_backend_can_do() -> None:
    backend = task_backends["default"]
    assert isinstance(backend, OmniQBackend)
    assert backend.supports_defer and backend.supports_async_task
    assert backend.supports_get_result and backend.supports_priority


def test_checks_miss_the_app() -> None:
    with modify_settings(INSTALLED_APPS={"remove": ["omniq.contrib.django"]}):
        (found,) = task_backends["default"].check()
    assert found.id == "omniq.E050" and "INSTALLED_APPS" in found.hint


def test_without_the_app_nothing_is_enqueued() -> None:
    with (
        modify_settings(INSTALLED_APPS={"remove": ["omniq.contrib.django"]}),
        pytest.raises(ImproperlyConfigured, match="to INSTALLED_APPS"),
    ):
        declared.add.enqueue(1, 2)


def test_a_test_case_may_hide_the_app() -> None:
    apps.set_available_apps([])  # what TransactionTestCase.available_apps does
    try:
        assert declared.add.enqueue(1, 2).id
    finally:
        apps.unset_available_apps()


def test_checks_name_a_wrong_option() -> None:
    assert list(task_backends["default"].check()) == []
    tasks = {"default": {"BACKEND": OMNIQ, "OPTIONS": {"STORAGE_TYP": "memory"}}}
    with override_settings(TASKS=tasks):
        (found,) = task_backends["default"].check()
    assert found.id == "omniq.E051"
    assert "TASKS['default'][\"OPTIONS\"] has no key 'STORAGE_TYP'" in found.msg
    assert "STORAGE_TYPE" in found.msg


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"DATABASE": "defualt"}, "[\"DATABASE\"] is 'defualt', which DATABASES does not have"),
        ({"STORAGE_URL": "mysql://db/shop"}, "begins with mysql://"),
    ],
)
def test_checks_name_a_place_that_is_not_there(options: dict[str, Any], says: str) -> None:
    with override_settings(TASKS={"default": {"BACKEND": OMNIQ, "OPTIONS": options}}):
        (found,) = task_backends["default"].check()
    assert found.id == "omniq.E051" and says in found.msg


def test_options_that_are_no_dict() -> None:
    refused = pytest.raises(ImproperlyConfigured, match=r"\"OPTIONS\"\] is a list; a dict")
    tasks = {"default": {"BACKEND": OMNIQ, "OPTIONS": ["DATABASE"]}}
    with override_settings(TASKS=tasks), refused:
        task_backends["default"]


# -- OPTIONS -----------------------------------------------------------------------------


def test_options_overlay_the_settings(tmp_path: Any) -> None:
    tasks = {
        "default": {"BACKEND": OMNIQ},
        "file": {
            "BACKEND": OMNIQ,
            "OPTIONS": {"STORAGE_TYPE": "sqlite", "BASE_DIR": tmp_path / "store"},
        },
        "late": {"BACKEND": OMNIQ, "OPTIONS": {"ENQUEUE_ON_COMMIT": True}},
    }
    with override_settings(TASKS=tasks):
        near = declared.add.enqueue(1, 2)
        far = declared.add.using(backend="file").enqueue(1, 2)
        late = declared.add.using(backend="late").enqueue(1, 2)
        assert (tmp_path / "store").exists()
        assert queue.info(near.id).row.id == near.id
        assert queue.info(late.id).row.id == late.id, "the same settings: the same store"
        with pytest.raises(LookupError):
            queue.info(far.id)
        far.refresh()
        late.refresh()
