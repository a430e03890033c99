"""The embedded worker: in processes that serve requests, and in no others."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from omniq import AsyncOmniQ, Status
from tests.contrib.django.project import Project, get

pytestmark = pytest.mark.once

EMBEDDED = 'OMNIQ = {"EMBEDDED_WORKER": True, "GRACE": 20}'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("project"), EMBEDDED)
    made.migrate()
    return made


def test_no_management_command_works(project: Project) -> None:
    left = project.python("""
        from django.core.management import call_command
        from omniq.contrib.django import queue
        handle = queue.enqueue("notes.tasks:add", (1, 2))
        call_command("check")
        call_command("migrate", verbosity=0)
        print(queue.workers(), handle.status().value)
        handle.cancel()
        """)
    assert left.endswith("[] pending\n")


def test_runserver_works_in_the_child_alone(project: Project) -> None:
    with project.start("manage.py", "runserver", "127.0.0.1:0") as server:
        url = server.says(r"development server at (http://\S+?)/\n")[1]
        who = json.loads(get(f"{url}/who/"))
        assert who["server"] == who["worker"] != server.process.pid
        assert json.loads(get(f"{url}/aadd/1/2/")) == {"sum": 3}
        server.send(signal.SIGINT)
        server.ends()


async def stand(project: Project) -> tuple[int, dict[Status, int]]:
    """How many slow tasks have left their note, and how all tasks stand."""
    with closing(sqlite3.connect(project.folder / "db.sqlite3")) as database:
        (notes,) = database.execute("SELECT count(*) FROM notes_note").fetchone()
    async with AsyncOmniQ(base_dir=project.folder / ".omniq", embedded=False) as queue:
        return notes, {each.status: each.count for each in await queue.counts()}


def gunicorn() -> list[str]:
    return ["gunicorn", "--preload", "-b", "127.0.0.1:0", "mysite.wsgi", "--workers=2"]


def uvicorn() -> list[str]:
    return ["uvicorn", "mysite.asgi:application", "--port=0", "--lifespan=on"]


@pytest.mark.parametrize("server", [gunicorn, uvicorn])
@pytest.mark.asyncio
async def test_a_server_works_and_drains(server: Callable[[], list[str]], project: Project) -> None:
    notes, before = await stand(project)
    with project.start("-m", *server()) as serving:
        url = serving.says(r"(?:Listening at:|running on) (http://\S+)")[1]
        who = json.loads(get(f"{url}/who/"))
        assert who["server"] == who["worker"]
        preloaded = server is gunicorn
        assert (who["worker"] == serving.process.pid) is not preloaded, "never the master"
        assert json.loads(get(f"{url}/{'' if preloaded else 'a'}add/1/2/")) == {"sum": 3}
        get(f"{url}/slow/40/")
        serving.send(signal.SIGTERM)
        serving.ends()
        assert "Shutting down: Master" in serving.output or "shutdown complete" in serving.output
        assert "Traceback" not in serving.output
    after, left = await stand(project)
    assert Status.FAILED not in left, left
    assert Status.RUNNING not in left, "nothing was left behind as if it were running"
    waiting = left.get(Status.READY, 0) + left.get(Status.SCHEDULED, 0)
    waiting -= before.get(Status.READY, 0) + before.get(Status.SCHEDULED, 0)
    assert after - notes + waiting == 80, "every task has run once, or waits for the next start"
