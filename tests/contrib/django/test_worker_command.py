"""`omniq_worker` called by a program: which tasks it takes, what it survives, when it leaves."""

from __future__ import annotations

import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core.management import CommandError, call_command, execute_from_command_line
from django.test import override_settings

from omniq.cli.load import load
from omniq.contrib import runner
from omniq.contrib.django import queue
from omniq.contrib.django.backends.framework import TaskResultStatus
from omniq.contrib.django.compat import package
from omniq.contrib.django.workers.host import DjangoHost
from omniq.errors import ConfigError
from omniq.models.status import Status
from tests.contrib.django import errands

Omniq = Callable[..., None]


def work(**options: Any) -> str:
    """Work off what is there; gives what the command says."""
    out = StringIO()
    given = {"batch": True, "verbosity": 1, "stdout": out, "stderr": out, **options}
    call_command("omniq_worker", **given)
    return out.getvalue()


def counts() -> Counter[Status]:
    found: Counter[Status] = Counter()
    for each in queue.counts():
        found[each.status] += each.count
    return found


@pytest.fixture
def backends(omniq: Omniq, tmp_path: Path) -> Iterator[None]:
    """TASKS with several aliases, one of them with a place of its own."""
    ours = "omniq.contrib.django.OmniQBackend"
    omniq(BASE_DIR=tmp_path / "near")
    tasks = {
        "default": {"BACKEND": ours},
        "mail": {"BACKEND": ours, "QUEUES": ["letters", "parcels"]},
        "any": {"BACKEND": ours, "QUEUES": []},
        "far": {"BACKEND": ours, "QUEUES": [], "OPTIONS": {"BASE_DIR": tmp_path / "far"}},
        "dummy": {"BACKEND": f"{package()}.backends.dummy.DummyBackend"},
    }
    with override_settings(TASKS=tasks):
        yield


# -- what it runs --------------------------------------------------------------------------


def test_it_runs_what_was_enqueued() -> None:
    plain, coroutine = queue.enqueue(errands.add, (1, 2)), queue.enqueue(errands.add_async, (3, 4))
    django = errands.double.enqueue(21)
    said = work()
    assert (plain.result(0), coroutine.result(0)) == (3, 7)
    django.refresh()
    assert django.status is TaskResultStatus.SUCCESSFUL and django.return_value == 42
    assert django.attempts == 1 and django.enqueued_at <= django.started_at <= django.finished_at
    assert said.startswith("Working on memory") and said.endswith("Stopped.\n")


def test_without_tasks_it_leaves_at_once(omniq: Omniq, tmp_path: Path) -> None:
    omniq(BASE_DIR=tmp_path)
    assert "Nothing is left that could run now." in work()


def test_a_batch_holds_what_its_tasks_enqueue() -> None:
    queue.enqueue(errands.spread, (8,))
    work()
    assert counts() == {Status.SUCCEEDED: 1 + 2 + 4 + 8}


def test_a_failed_task_does_not_end_a_batch() -> None:
    failing = queue.enqueue(errands.fail)
    for n in range(3):
        queue.enqueue(errands.add, (n, n))
    work(concurrency=1, threads=1)
    assert counts() == {Status.SUCCEEDED: 3, Status.FAILED: 1}
    (error,) = failing.info().errors
    assert error.type == "ValueError" and "this one never works" in (error.traceback or "")


def test_a_retry_is_due_later_and_left_to_others(omniq: Omniq) -> None:
    omniq(STORAGE_TYPE="memory", RETRY_DELAY=3600)
    again = queue.enqueue(errands.fail, retries=1)
    later = queue.enqueue(errands.add, (1, 1), delay=3600)
    work()
    assert counts() == {Status.SCHEDULED: 2}
    assert (again.info().row.attempt, later.info().row.attempt) == (1, 0)


@pytest.mark.parametrize("name", ["leave", "interrupt", "interrupt_async"])
def test_a_task_that_wants_to_end_the_process_fails(name: str) -> None:
    task = queue.enqueue(getattr(errands, name))
    after = queue.enqueue(errands.add, (1, 1))
    work(concurrency=1, threads=1)
    expected = "SystemExit" if name == "leave" else "KeyboardInterrupt"
    assert task.info().row.status is Status.FAILED and task.info().errors[0].type == expected
    assert after.result(0) == 2


def test_values_that_cannot_be_stored_fail_the_task() -> None:
    task, django = queue.enqueue(errands.unsendable), errands.not_json.using(retries=0).enqueue()
    work()
    assert task.info().row.status is Status.FAILED
    assert "NotSerializable" in task.info().errors[0].type
    django.refresh()
    assert django.status is TaskResultStatus.FAILED
    assert django.errors[0].exception_class is TypeError


def test_any_exception_can_be_kept() -> None:
    task = queue.enqueue(errands.nested)
    work()
    (error,) = task.info().errors
    assert error.type == "ValueError" and "ValueError('in another')" in (error.traceback or "")


def test_a_function_that_is_gone_is_left_for_a_worker_that_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "LOOKING", 600)
    task = queue.enqueue("tests.contrib.django.errands:missing")
    with pytest.raises(SystemExit) as left:
        work()
    assert left.value.code == 3
    row = task.info().row
    assert row.status is Status.SCHEDULED and row.attempt == 0, "another version may know it"


def test_the_context_says_which_attempt_it_is() -> None:
    result = errands.attempt.enqueue()
    work()
    result.refresh()
    assert result.return_value == 1


# -- which tasks it takes ------------------------------------------------------------------


@pytest.mark.parametrize("given", ["letters", "letters,parcels", ["letters", "parcels"]])
def test_only_the_queues_it_is_told(given: Any) -> None:
    taken = queue.enqueue(errands.add, (1, 1), queue="letters")
    left = queue.enqueue(errands.add, (1, 1))
    said = work(queues=given)
    assert taken.status() == "success" and left.status() == "pending"
    assert "slots; letters" in said
    work(queues="*")
    assert left.status() == "success"


def test_all_queues_but_some() -> None:
    left = queue.enqueue(errands.add, (1, 1), queue="letters")
    taken = queue.enqueue(errands.add, (1, 1))
    assert "every queue but letters, unheard-of" in work(exclude_queues="letters,unheard-of")
    assert taken.status() == "success" and left.status() == "pending"


def test_what_is_left_of_the_queues_it_is_told() -> None:
    left = queue.enqueue(errands.add, (1, 1), queue="letters")
    taken = queue.enqueue(errands.add, (1, 1), queue="parcels")
    work(queues="letters,parcels", exclude_queues="letters")
    assert taken.status() == "success" and left.status() == "pending"
    with pytest.raises(CommandError, match="leaves no queue to serve"):
        work(queues="letters", exclude_queues="letters")


def test_queues_of_the_settings(omniq: Omniq, tmp_path: Path, backends: None) -> None:
    omniq(BASE_DIR=tmp_path, QUEUES=["letters", "parcels"])
    tasks = [queue.enqueue(errands.add, (1, 1), queue=name) for name in ("letters", "parcels")]
    work(queues="default")  # named by a backend
    with pytest.raises(CommandError, match=r"'leters' is not one of OMNIQ.*mean 'letters'"):
        work(queues="leters")
    assert [each.status() for each in tasks] == ["pending", "pending"]
    work(exclude_queues="letters")
    assert [each.status() for each in tasks] == ["pending", "success"]
    work()
    assert tasks[0].status() == "success"


def statuses(*results: Any) -> list[str]:
    for result in results:
        result.refresh()
    return [str(result.status) for result in results]


def test_only_the_queues_of_one_backend(backends: None) -> None:
    usual = errands.double.enqueue(1)
    letter = errands.double.using(backend="mail", queue_name="letters").enqueue(2)
    parcel = errands.double.using(backend="mail", queue_name="parcels").enqueue(3)
    work(backend="mail", queues="parcels")
    assert statuses(usual, letter, parcel) == ["READY", "READY", "SUCCESSFUL"]
    work(backend="mail")
    assert statuses(usual, letter) == ["READY", "SUCCESSFUL"]
    work(backend="any")
    assert statuses(usual) == ["SUCCESSFUL"]


def test_a_backend_with_a_place_of_its_own_is_served_too(backends: None) -> None:
    far, near = errands.double.using(backend="far").enqueue(1), errands.double.enqueue(2)
    work(backend="far")
    assert statuses(far, near) == ["SUCCESSFUL", "READY"]
    other = errands.double.using(backend="far").enqueue(1)
    assert work().count("Working on") == 2
    assert statuses(other, near) == ["SUCCESSFUL", "SUCCESSFUL"]


def test_backends_that_are_not_there_or_not_ours(backends: None) -> None:
    with pytest.raises(CommandError, match="TASKS has no backend 'mial'; did you mean 'mail'"):
        work(backend="mial")
    with pytest.raises(CommandError, match="'dummy' of TASKS is DummyBackend, which keeps"):
        work(backend="dummy")


# -- when it leaves ------------------------------------------------------------------------


def test_it_leaves_after_so_many_tasks() -> None:
    for n in range(5):
        queue.enqueue(errands.add, (n, n))
    assert "Ran 2 tasks, as many as wanted." in work(batch=False, max_tasks=2)
    assert counts() == {Status.SUCCEEDED: 2, Status.READY: 3}
    work(max_tasks=100)
    assert counts() == {Status.SUCCEEDED: 5}


@pytest.mark.parametrize(
    "words, said",
    [
        (["--max-tasks", "0"], "0 is not a number greater than zero"),
        (["--max-tasks", "-1"], "-1 is not a number greater than zero"),
        (["--concurrency", "few"], "few is not a number greater than zero"),
        (["--drain-timeout", "long"], "long is not zero or greater, and finite"),
        (["--threads", "0"], "0 is not a number greater than zero"),
        (["--drain-timeout", "-1"], "-1 is not zero or greater, and finite"),
        (["--drain-timeout", "inf"], "inf is not zero or greater, and finite"),
    ],
)
def test_wrong_numbers(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        execute_from_command_line(["manage.py", "omniq_worker", "--batch", *words])
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_a_place_that_nobody_shares_is_refused(omniq: Omniq) -> None:
    omniq(STORAGE_TYPE="memory")
    with pytest.raises(CommandError, match="inside the process that enqueues"):
        work()


def test_called_in_another_thread_it_leaves_signals_alone() -> None:
    task = queue.enqueue(errands.add, (1, 1))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    assert task.result(0) == 2


def test_the_queue_of_this_process_stays_as_it_was() -> None:
    """A worker called by a program closes only what it has opened itself."""
    queue.enqueue(errands.add, (1, 1))
    work()
    assert counts() == {Status.SUCCEEDED: 1}, "kept in memory: closing it would lose them"


@pytest.mark.parametrize("made_by", ["wsgi", "asgi", "asgi with a lifespan"])
def test_the_plain_command_finds_the_project_by_its_application(
    made_by: str, monkeypatch: pytest.MonkeyPatch, omniq: Omniq, tmp_path: Path
) -> None:
    from django.core.asgi import get_asgi_application as asgi
    from django.core.wsgi import get_wsgi_application as wsgi

    from omniq.contrib.django.asgi import get_asgi_application as with_lifespan

    omniq(BASE_DIR=tmp_path)
    made = {"wsgi": wsgi, "asgi": asgi}.get(made_by, with_lifespan)
    module = ModuleType("some_project_wsgi")
    module.application = made()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for target in ("some_project_wsgi", "some_project_wsgi:application"):
        host = load(target)
        assert isinstance(host, DjangoHost)
        assert [each.config.base_dir for each in host.queues] == [tmp_path]
    with pytest.raises(ConfigError, match="TASKS has no backend 'defualt'; did you mean 'default'"):
        load("some_project_wsgi", "defualt")


# -- what it says --------------------------------------------------------------------------


@contextmanager
def unheard() -> Iterator[None]:
    """Loggers without pytest's handlers; and a command leaves them as they were."""
    with pytest.MonkeyPatch.context() as patch:
        loggers = [logging.getLogger(name) for name in ("omniq", package())]
        for logger in loggers:
            patch.setattr(logger, "propagate", False)
            patch.setattr(logger, "handlers", [logging.NullHandler()])
        before = [(logger.level, list(logger.handlers)) for logger in loggers]
        yield
        assert [(logger.level, logger.handlers) for logger in loggers] == before


@pytest.mark.parametrize("verbosity", [0, 1, 2, 3])
def test_verbosity(verbosity: int) -> None:
    result = errands.double.enqueue(1)
    plain = queue.enqueue(errands.add, (1, 1))
    with unheard():
        said = work(verbosity=verbosity)
    if verbosity == 0:
        assert said == ""
        return
    states = [line.partition("state=")[2] for line in said.splitlines() if result.id in line]
    assert [state for state in states if state] == ["RUNNING", "SUCCESSFUL"]
    assert ("] worker " in said) == (verbosity >= 2)
    assert (f"task {plain.id}" in said) == (verbosity == 3)


def test_loggers_that_are_heard_already_are_not_heard_twice() -> None:
    errands.double.enqueue(1)
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    with unheard():
        logger = logging.getLogger(package())
        logger.addHandler(handler)
        said = work()
        logger.removeHandler(handler)
    assert "SUCCESSFUL" in stream.getvalue() and "SUCCESSFUL" not in said
