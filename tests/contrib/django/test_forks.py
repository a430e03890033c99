"""A program that has used the queue forks, its children use it too, and nobody closes anything."""

from __future__ import annotations

import pytest

from omniq.models.status import Status
from tests.contrib.django.project import Project
from tests.contrib.django.served import IN_DATABASE
from tests.programs import ROOT, run

PROGRAM = """
import multiprocessing
import os
import sys

import django

django.setup()

from django.db import connections
from omniq.contrib.django import queue


def use(name):
    task = queue.enqueue("notes.tasks:add", (1, 2), tags=[name])
    try:
        queue.get_result(task, timeout=0.01)  # asked for on OmniQ's own connection
    except TimeoutError:
        print(f"{name} sees {queue.info(task).row.status.value}", flush=True)


use("parent")
connections.close_all()  # as Django wants it before a fork
child = os.fork()
if not child:
    use("child")
    sys.exit(3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
process = multiprocessing.get_context("fork").Process(target=use, args=("process",))
process.start()
process.join()
assert process.exitcode == 0
use("parent again")
print(sorted(row.tags[0] for row in queue.find().tasks))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("forks"))
    made.manage("migrate", "-v0", **IN_DATABASE)
    return made


@pytest.mark.parametrize("env", [{}, IN_DATABASE], ids=["own store", "database"])
def test_parent_and_children_use_the_queue_and_end(project: Project, env: dict[str, str]) -> None:
    # Python 3.12 warns of every fork beside a thread; that is the caller's choice here.
    words = ["-W", "ignore:This process:DeprecationWarning", "-c", PROGRAM]
    settings = {"DJANGO_SETTINGS_MODULE": "mysite.settings", **env}
    done = run(words, cwd=project.folder, paths=[project.folder, ROOT], **settings)
    assert (done.returncode, done.stderr) == (0, "")
    names = ["parent", "child", "process", "parent again"]
    assert done.stdout.splitlines() == [
        *(f"{name} sees {Status.READY.value}" for name in names),
        str(sorted(names)),
    ]
