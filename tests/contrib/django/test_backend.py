"""`OmniQBackend`: Django's tasks, stored, run by a worker, and asked for again."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import SuspiciousOperation
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from omniq import SyncInAsync
from omniq.contrib.django import OmniQBackend, OmniQTask, queue
from omniq.contrib.django.compat import package
from omniq.contrib.django.framework import (
    InvalidTask,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from omniq.contrib.django.runtime import blocking
from tests.contrib.django.shop import declared
from tests.contrib.django.shop.tasks import add as plain_add

LOGGER = str(package())
OMNIQ = "omniq.contrib.django.OmniQBackend"


@pytest.fixture
def ended() -> Callable[[Any], Any]:
    """Wait until a worker in this process has ended a task, and read its result again.

    The worker starts with the first wait: what is told of the enqueue has been told by then.
    """

    def wait(result: Any) -> Any:
        blocking().start_worker()
        for _ in blocking().results([result.id]):
            pass
        result.refresh()
        return result

    return wait


@pytest.fixture
def heard() -> Iterator[list[tuple[str, Any, str, str]]]:
    """What the framework's signals told: signal, sender, id, status."""
    told: list[tuple[str, Any, str, str]] = []
    signals = {"enqueued": task_enqueued, "started": task_started, "finished": task_finished}
    receivers = []
    for name, signal in signals.items():

        def receive(sender: Any, task_result: Any, name: str = name, **_: Any) -> None:
            told.append((name, sender, task_result.id, str(task_result.status)))

        receivers.append(receive)
        signal.connect(receive)
    yield told
    for signal, receive in zip(signals.values(), receivers, strict=True):
        signal.disconnect(receive)


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
    with pytest.raises(TypeError, match="Unsupported type"):
        declared.add.enqueue(datetime.now(UTC), 1)
    assert queue.counts() == []


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
    assert handle.result(10) == 3
    assert declared.add.get_result(handle).return_value == 3


def test_a_row_that_leads_to_no_task_is_refused() -> None:
    handle = queue.enqueue("tests.contrib.django.shop.declared:SEEN", (1,))
    with pytest.raises(SuspiciousOperation, match="does not point to a Task"):
        task_backends["default"].get_result(handle)


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


def test_names_omniq_cannot_keep_are_refused() -> None:
    with pytest.raises(InvalidTask, match="queue name 'a b' is not allowed"):
        declared.add.using(queue_name="a b")


def test_what_the_backend_can_do() -> None:
    backend = task_backends["default"]
    assert isinstance(backend, OmniQBackend)
    assert backend.supports_defer and backend.supports_async_task
    assert backend.supports_get_result and backend.supports_priority


def test_checks_name_a_wrong_option() -> None:
    assert list(task_backends["default"].check()) == []
    tasks = {"default": {"BACKEND": OMNIQ, "OPTIONS": {"STORAGE_TYP": "memory"}}}
    with override_settings(TASKS=tasks):
        (found,) = task_backends["default"].check()
    assert found.id == "omniq.E051"
    assert "TASKS['default'][\"OPTIONS\"] has no key 'STORAGE_TYP'" in found.msg
    assert "STORAGE_TYPE" in found.msg


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


# -- signals and logs --------------------------------------------------------------------


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


@pytest.mark.parametrize("wanted", [declared.sleeps, declared.sleeps_in_a_thread])
def test_a_timeout_is_told_too(
    wanted: Any, ended: Callable[[Any], Any], heard: list[Any], caplog: Any
) -> None:
    with caplog.at_level(logging.INFO, logger=LOGGER):
        result = ended(wanted.enqueue(0.4))
        blocking().stop_worker()
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


# -- transactions ------------------------------------------------------------------------


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


# -- OmniQ's options ---------------------------------------------------------------------


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
