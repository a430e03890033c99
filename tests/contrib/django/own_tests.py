"""Runs Django's own tests of its tasks framework on OmniQ's backends; a program of its own.

    python own_tests.py <the folder `tests` of Django's source distribution> <a folder to write in>

The tests stay as Django wrote them: they name `DummyBackend` and `ImmediateBackend`, and find
`QueuedBackend` (OmniQ's queue) and `EagerBackend` under these names. Those that could pass on
Django's in-memory list only stand in `adapted_tests`, with the reason. Writes one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import django
from django.conf import settings

MODULES = ("test_tasks", "test_dummy_backend", "test_immediate_backend", "test_custom_backend")


def configure(folder: Path) -> None:
    settings.configure(
        SECRET_KEY="tests only",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "omniq.contrib.django",
        ],
        OMNIQ={"STORAGE_TYPE": "sqlite", "BASE_DIR": folder},
        TASKS={"default": {"BACKEND": "omniq.contrib.django.OmniQBackend", "QUEUES": []}},
        USE_TZ=True,
    )
    django.setup()


def main(tests: Path, folder: Path) -> None:
    configure(folder)
    import django.tasks.backends.dummy
    import django.tasks.backends.immediate
    from asgiref.sync import sync_to_async
    from django.tasks import TaskResultStatus, default_task_backend
    from django.tasks.exceptions import TaskResultDoesNotExist
    from django.test.runner import DiscoverRunner

    from omniq.contrib.django import EagerBackend, OmniQBackend, queue
    from omniq.contrib.django.runtime import blocking

    class QueuedBackend(OmniQBackend):
        """OmniQ's backend, with the two things Dummy's tests look at besides the framework."""

        @property
        def results(self) -> list[Any]:
            """Everything that was enqueued, the oldest first."""
            return outside(
                lambda: [self.get_result(row.id) for row in reversed(queue.find().tasks)]
            )

        def clear(self) -> None:
            for row in queue.find().tasks:
                queue.cancel(row.id)
                queue.delete(row.id)

    def outside(function: Callable[[], Any]) -> Any:
        """Call it where no event loop runs: Dummy's list can be looked at from async tests."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return function()
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(function).result()

    def work(id: str) -> None:
        blocking().start_worker()
        for _ in blocking().results([id]):
            pass
        blocking().stop_worker()

    # Dummy's tests of refresh write a status into its list, as a worker would have. Here a
    # worker does.

    def refresh_result(self: Any) -> None:
        result = default_task_backend.enqueue(test_tasks.calculate_meaning_of_life, (), {})
        work(result.id)
        self.assertEqual(result.status, TaskResultStatus.READY)
        result.refresh()
        self.assertEqual(result.status, TaskResultStatus.SUCCESSFUL)
        self.assertEqual(result.return_value, 42)

    async def refresh_result_async(self: Any) -> None:
        result = await default_task_backend.aenqueue(test_tasks.calculate_meaning_of_life, (), {})
        await sync_to_async(work)(result.id)
        self.assertEqual(result.status, TaskResultStatus.READY)
        await result.arefresh()
        self.assertEqual(result.status, TaskResultStatus.SUCCESSFUL)
        self.assertEqual(result.return_value, 42)

    # These ask in an event loop by blocking calls, which a store that is asked for real refuses
    # (SyncInAsync). The same, with the blocking half in a thread.

    async def refresh_unchanged(self: Any) -> None:
        from dataclasses import asdict

        result = await test_tasks.noop_task.aenqueue()
        before = asdict(result)
        await sync_to_async(result.refresh)()
        self.assertEqual(asdict(result), before)
        await result.arefresh()
        self.assertEqual(asdict(result), before)

    async def missing_result(self: Any) -> None:
        for asked in (default_task_backend, test_tasks.noop_task):
            with self.assertRaises(TaskResultDoesNotExist):
                await sync_to_async(asked.get_result)("123")
            with self.assertRaises(TaskResultDoesNotExist):
                await asked.aget_result("123")

    adapted_tests: dict[str, Callable[[Any], Any]] = {
        "test_dummy_backend.DummyBackendTestCase.test_refresh_result": refresh_result,
        "test_dummy_backend.DummyBackendTestCase.test_refresh_result_async": refresh_result_async,
        "test_dummy_backend.DummyBackendTestCase.test_get_missing_result": missing_result,
        "test_tasks.TaskTestCase.test_refresh_result": refresh_unchanged,
        "test_tasks.TaskTestCase.test_get_missing_result": missing_result,
    }

    django.tasks.backends.dummy.DummyBackend = QueuedBackend
    django.tasks.backends.immediate.ImmediateBackend = EagerBackend
    sys.path.insert(0, str(tests))
    from importlib import import_module

    test_tasks = import_module("tasks.tasks")
    for path, adapted in adapted_tests.items():
        module, case, name = path.split(".")
        of = getattr(import_module(f"tasks.{module}"), case)
        assert hasattr(of, name), f"{path} is gone: Django has changed its tests"
        setattr(of, name, adapted)

    class Runner(DiscoverRunner):
        def suite_result(self, suite: Any, result: unittest.TestResult, **kwargs: Any) -> int:
            bad = [*result.failures, *result.errors]
            told = {
                "run": result.testsRun,
                "bad": [f"{test}\n{trace}" for test, trace in bad],
                "skipped": [f"{test}: {why}" for test, why in result.skipped],
                "adapted": sorted(adapted_tests),
                "omniq_tasks": type(test_tasks.noop_task).__name__,
            }
            print(json.dumps(told))
            return len(bad)

    runner = Runner(verbosity=0, interactive=False)
    sys.exit(bool(runner.run_tests([f"tasks.{module}" for module in MODULES])))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
