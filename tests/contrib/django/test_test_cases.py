"""`omniq.contrib.django.test`: a user's Django tests, run as Django's runner runs them."""

from __future__ import annotations

import unittest
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import TestCase, override_settings

from omniq.contrib.django import aqueue, queue
from omniq.contrib.django.backends.framework import TaskResultStatus, task_finished
from omniq.contrib.django.test import (
    OmniQTestCase,
    OmniQTestMixin,
    OmniQTransactionTestCase,
    aassert_enqueued,
    adrain,
    assert_enqueued,
    drain,
    fresh_store,
    run_until_empty,
)
from omniq.errors import SyncInAsync
from tests.contrib.django.shop import declared, errands
from tests.contrib.django.shop.models import Order
from tests.contrib.django.shop.tasks import pay, pay_async

pytestmark = pytest.mark.usefixtures("databases")


@pytest.fixture(params=["native", "in_db"], autouse=True)
def _kept(request: pytest.FixtureRequest, omniq: Any, tmp_path: Any) -> None:
    """Each test with tasks in a store of their own, and in the database of Django's."""
    declared.SEEN.clear()
    if request.param == "in_db":
        request.getfixturevalue("omniq_in_db")
    else:
        omniq(STORAGE_TYPE="sqlite", BASE_DIR=tmp_path)


def run(case: type[unittest.TestCase]) -> None:
    """Run a test case class as a user's runner would; its failures are ours."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case)(result)
    assert result.testsRun
    for _, trace in [*result.errors, *result.failures]:
        pytest.fail(trace)


def test_tasks_run_in_the_tests_transaction() -> None:
    class Paying(OmniQTestCase):
        def test_sync_and_async_tasks(self) -> None:
            for number in ("a", "b"):
                Order.objects.create(number=number)
            queue.enqueue(pay, ("a",))
            queue.enqueue(pay_async, ("b",))
            assert self.drain().succeeded == 2
            assert Order.objects.filter(paid=True).count() == 2

    run(Paying)
    assert not Order.objects.exists()


def test_each_test_starts_with_nothing_enqueued() -> None:
    class Twice(OmniQTestCase):
        def test_one(self) -> None:
            self.assertNothingEnqueued()
            declared.add.enqueue(1, 2)
            self.assertEnqueued(declared.add, (1, 2), times=1)

        def test_two(self) -> None:
            self.test_one()

    run(Twice)
    assert queue.counts() == []


def test_django_tasks_and_their_results() -> None:
    class Results(OmniQTestCase):
        def test_all_that_may_become_of_a_task(self) -> None:
            good, bad = declared.add_async.enqueue(1, 2), declared.boom.enqueue("no luck")
            later = declared.third_time.using(retry_delay=3600).enqueue(1)
            ran = self.drain()
            assert (ran.succeeded, ran.failed, ran.again) == (1, 1, 1)
            for result in (good, bad, later):
                result.refresh()
            assert good.return_value == 3
            assert bad.errors[0].exception_class is ValueError
            assert later.status == TaskResultStatus.READY
            assert self.run_until_empty().succeeded == 1
            later.refresh()
            assert (later.return_value, later.attempts) == (3, 3)

        def test_until(self) -> None:
            hour = declared.add.using(run_after=timedelta(hours=1)).enqueue(1, 2)  # type: ignore[arg-type]
            assert self.drain(until=timedelta(minutes=59)).runs == ()
            assert self.drain(until=timedelta(minutes=61)).succeeded == 1
            hour.refresh()
            assert hour.is_finished

        def test_errors_can_be_raised(self) -> None:
            declared.boom.enqueue("no luck")
            with self.assertRaisesRegex(ValueError, "no luck"):
                self.drain(raise_errors=True)

        def test_tasks_that_enqueue_tasks(self) -> None:
            errands.chain.enqueue(3)
            assert [run.name.rpartition(":")[2] for run in self.drain().runs] == ["chain"] * 4

        def test_ends_that_no_attempt_sees_are_told(self) -> None:
            heard = []

            def receive(task_result: Any, **_: Any) -> None:
                heard.append((task_result.id, str(task_result.status)))

            task_finished.connect(receive)
            try:
                late = declared.sleeps.enqueue(30)
                never = declared.add.using(ttl=0, delay=3600).enqueue(1, 2)
                good = declared.add.enqueue(1, 2)
                self.drain()
            finally:
                task_finished.disconnect(receive)
            assert sorted(heard) == sorted(
                [(late.id, "FAILED"), (never.id, "FAILED"), (good.id, "SUCCESSFUL")]
            )

        def test_a_limit(self) -> None:
            errands.chain.enqueue(3)
            assert self.drain(limit=2).succeeded == 2
            assert self.drain().succeeded == 2

    run(Results)


def test_what_a_task_does_on_commit_is_done_when_it_ends() -> None:
    class Committing(OmniQTestCase):
        def test_once_only(self) -> None:
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                errands.enqueue_on_commit.enqueue()
                assert self.drain().succeeded == 2
                self.assertEnqueued(declared.add, (5, 6), times=1)
            assert callbacks == []
            self.assertEnqueued(declared.add, (5, 6), times=1)

    run(Committing)


def test_an_error_of_the_database_in_a_task_leaves_the_test_usable() -> None:
    class Breaking(OmniQTestCase):
        def test_the_transaction_goes_on(self) -> None:
            Order.objects.create(number="taken")
            result = errands.take_a_taken_number.enqueue()
            assert self.drain().failed == 1
            result.refresh()
            assert result.errors[0].exception_class is IntegrityError
            assert Order.objects.count() == 1

    run(Breaking)


def test_capturing_what_waits_for_the_commit() -> None:
    class Waiting(OmniQTestCase):
        def test_executed(self) -> None:
            with self.captureOnCommitCallbacks(execute=True):
                queue.enqueue(pay, ("a",), on_commit=True)
                self.assertNothingEnqueued()
            self.assertEnqueued(pay, ("a",))
            assert self.drain().succeeded == 1

        def test_not_executed(self) -> None:
            with self.captureOnCommitCallbacks() as callbacks:
                queue.enqueue(pay, ("a",), on_commit=True)
            assert len(callbacks) == 1
            self.assertNothingEnqueued()

    run(Waiting)


def test_with_real_commits() -> None:
    class Real(OmniQTransactionTestCase):
        def test_rollback_and_commit(self) -> None:
            with self.assertRaises(ZeroDivisionError), transaction.atomic():
                declared.add.using(priority=1).enqueue_on_commit(1, 2)  # type: ignore[attr-defined]
                1 / 0  # noqa: B018
            self.assertNothingEnqueued()
            with transaction.atomic():
                declared.add.enqueue_on_commit(1, 2)  # type: ignore[attr-defined]
            assert self.drain().succeeded == 1
            assert self.run_until_empty().runs == ()

        def test_and_nothing_is_left_of_it(self) -> None:
            self.assertNothingEnqueued()
            errands.take_a_taken_number.enqueue()
            self.drain()

    run(Real)
    assert queue.counts() == []


def test_async_tests() -> None:
    class Awaiting(OmniQTestCase):
        async def test_adrain(self) -> None:
            await Order.objects.acreate(number="a")
            handle = await aqueue.enqueue(pay_async, ("a",))
            await aassert_enqueued(pay_async, times=1)
            await self.aassertEnqueued(pay_async, times=1)
            assert len(await self.aenqueued()) == 1
            assert (await adrain()).succeeded == 1
            assert (await aqueue.result(handle)).value == 1
            assert (await Order.objects.aget(number="a")).paid
            with self.assertRaisesRegex(SyncInAsync, r"await adrain\(...\)"):
                self.drain()

        async def test_the_same_as_methods(self) -> None:
            await self.aassertNothingEnqueued()
            await aqueue.enqueue(pay_async, ("a",), delay=60)
            assert (await self.adrain()).runs == ()
            assert len((await self.arun_until_empty()).runs) == 1

    run(Awaiting)


def test_the_eager_backend_in_a_test_case() -> None:
    eager = {"default": {"BACKEND": "omniq.contrib.django.EagerBackend"}}

    @override_settings(TASKS=eager)
    class Eager(OmniQTestMixin, TestCase):
        def test_it_has_run(self) -> None:
            assert declared.add.enqueue(1, 2).return_value == 3
            self.assertNothingEnqueued()

    run(Eager)


def test_every_backend_is_drained(tmp_path: Any) -> None:
    backend = "omniq.contrib.django.OmniQBackend"
    far = {"STORAGE_TYPE": "sqlite", "BASE_DIR": tmp_path / "far", "DATABASE": None}
    tasks = {"default": {"BACKEND": backend}, "far": {"BACKEND": backend, "OPTIONS": far}}

    @override_settings(TASKS=tasks)
    class Both(OmniQTestCase):
        def test_both(self) -> None:
            near = declared.add.enqueue(1, 2)
            far = declared.add.using(backend="far").enqueue(3, 4)
            self.assertEnqueued(declared.add, times=2)
            assert self.drain().succeeded == 2
            near.refresh()
            far.refresh()
            assert (near.return_value, far.return_value) == (3, 7)

    run(Both)
    assert not (tmp_path / "far").exists(), "the store of the settings was left alone"


@pytest.mark.usefixtures("db")
def test_without_test_cases() -> None:
    with fresh_store():
        declared.everything.enqueue()
        (task,) = assert_enqueued(
            declared.everything, unique="only-one", tags=["a"], metadata={"tenant": "x"}
        )
        assert task.row.lane == "async"
        with pytest.raises(AssertionError, match=r"everything\(\).*<- unique was 'only-one'"):
            assert_enqueued(declared.everything, unique="another")
        with pytest.raises(TypeError, match="no option 'uniqe'; did you mean 'unique'"):
            assert_enqueued(declared.everything, uniqe="x")  # type: ignore[call-arg]
        assert drain().succeeded == 1
        assert run_until_empty().runs == ()
