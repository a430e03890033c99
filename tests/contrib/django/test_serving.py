"""The embedded worker: in processes that serve requests, and in no others."""

from __future__ import annotations

import json
import signal

import pytest

from tests.contrib.django.project import Project, get
from tests.programs import free_port

EMBEDDED = 'OMNIQ = {"EMBEDDED_WORKER": True, "GRACE": 20}'


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("project"), EMBEDDED)
    made.migrate()
    return made


def notes(project: Project) -> int:
    return int(project.python("from notes.models import Note; print(Note.objects.count())"))


def statuses(project: Project) -> dict[str, int]:
    text = project.python("""
        import json
        from omniq.contrib.django import queue
        print(json.dumps({each.status.name: each.count for each in queue.counts()}))
        """)
    found: dict[str, int] = json.loads(text)
    return found


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
    port = free_port()
    with project.start("manage.py", "runserver", f"127.0.0.1:{port}") as server:
        server.says("Starting development server|Quit the server")
        url = f"http://127.0.0.1:{port}"
        who = json.loads(get(f"{url}/who/"))
        assert who["server"] == who["worker"] != server.process.pid
        assert json.loads(get(f"{url}/aadd/1/2/")) == {"sum": 3}
        server.send(signal.SIGINT)
        server.ends()


def test_gunicorn_with_preload_works_in_its_children(project: Project) -> None:
    before = notes(project)
    command = ["-m", "gunicorn", "--preload", "-b", "127.0.0.1:0", "mysite.wsgi", "--workers=2"]
    with project.start(*command) as server:
        url = server.says(r"Listening at: (http://\S+)")[1]
        who = json.loads(get(f"{url}/who/"))
        assert server.process.pid not in who.values()
        get(f"{url}/slow/40/")
        server.send(signal.SIGTERM)
        assert server.ends() == 0, server.output
    left = statuses(project)
    done = notes(project) - before
    assert "FAILED" not in left, left
    waiting = left.get("READY", 0) + left.get("SCHEDULED", 0)
    assert done + waiting == 80, "every task has run, or waits for the next start"
    assert left.get("RUNNING", 0) == 0, "nothing was left behind as if it were running"
