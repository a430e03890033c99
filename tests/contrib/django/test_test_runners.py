"""A user's tests under `manage.py test --parallel` and under pytest with pytest-django."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contrib.django.project import Project
from tests.programs import ROOT
from tests.programs import run as run_program

pytestmark = pytest.mark.newer

TASKS = """
from omniq.contrib.django.backends.framework import task

from notes.models import Note


@task
def note(text):
    Note.objects.create(text=text)


@task
async def anote(text):
    await Note.objects.acreate(text=text)
"""

TESTS = """
from functools import partial
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.test import TestCase

from omniq.contrib.django import queue
from omniq.contrib.django.test import OmniQTestCase, OmniQTransactionTestCase, drain

from notes.errands import anote, note
from notes.models import Note


class InTransactions(OmniQTestCase):
    def test_drain(self):
        self.assertNothingEnqueued()
        note.enqueue("sync")
        anote.enqueue("async")
        assert self.drain().succeeded == 2
        assert Note.objects.count() == 2

    def test_nothing_is_left_of_others(self):
        self.test_drain()

    def test_on_commit(self):
        with self.captureOnCommitCallbacks(execute=True):
            transaction.on_commit(partial(note.enqueue, "later"))
            self.assertNothingEnqueued()
        self.assertEnqueued(note, ("later",), times=1)


class Committing(OmniQTransactionTestCase):
    def test_drain(self):
        self.assertNothingEnqueued()
        with transaction.atomic():
            anote.enqueue("real")
        assert self.drain().succeeded == 1
        assert Note.objects.get().text == "real"

    def test_nothing_is_left_of_others(self):
        self.test_drain()


class WithoutHelp(TestCase):
    def test_the_store_of_development_is_left_alone(self):
        result = note.enqueue("plain")
        drain()
        result.refresh()
        assert result.is_finished
        assert not (settings.BASE_DIR / ".omniq").exists()


def test_a_function(db):
    note.enqueue("in a function")
    assert drain().succeeded == 1
    assert Note.objects.get().text == "in a function"
"""

SETTINGS = """
TASKS = {"default": {"BACKEND": "omniq.contrib.django.OmniQBackend"}}
OMNIQ = {"DATABASE": "default"} if __import__("os").environ.get("IN_DB") else {}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    files = {"notes/errands.py": TASKS, "notes/tests.py": TESTS}
    return Project(tmp_path_factory.mktemp("tested"), SETTINGS, files)


@pytest.mark.parametrize("in_db", ["", "1"], ids=["own store", "in Django's database"])
def test_djangos_runner_in_parallel(project: Project, in_db: str) -> None:
    said = project.manage("test", "--parallel", "2", IN_DB=in_db)
    assert "Ran 6 tests" in said and "OK" in said
    assert not Path(project.folder / ".omniq").exists()


def test_pytest_django(project: Project) -> None:
    env = {"DJANGO_SETTINGS_MODULE": "mysite.settings", "IN_DB": "1"}
    (project.folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    paths = [project.folder, ROOT]
    done = run_program(
        ["-m", "pytest", *options, "notes/tests.py"], cwd=project.folder, paths=paths, **env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passed" in done.stdout
