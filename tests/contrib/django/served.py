"""A project that enqueues, waits and shows its dashboard, and every kind of server for it."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx

from omniq import AsyncOmniQ
from omniq.storage.sqlite.guest import GuestSQLiteStorage
from tests.contrib.django.project import Project
from tests.programs import PATIENCE, Program, free_port

SETTINGS = 'DEBUG = False\nOMNIQ = {"EMBEDDED_WORKER": True}'
IN_DATABASE = {"OMNIQ_DATABASE": "default"}
FILES = {
    "mysite/urls.py": """
        from django.urls import include, path

        from notes import views
        from omniq.dashboard import live

        live.LIFE = 3600.0  # a server that waited for its pages would do so for ever

        urlpatterns = [
            path("where/", views.where),
            path("start/<str:mark>/", views.start),
            path("astart/<str:mark>/", views.astart),
            path("wait/<str:mark>/", views.wait),
            path("await/<str:mark>/", views.wait_async),
            path("omniq/", include("omniq.contrib.django.urls")),
        ]
        """,
    "mysite/plain.py": """
        from django.core.asgi import get_asgi_application

        application = get_asgi_application()
        """,
    "mysite/uwsgi.py": """
        import sys

        import pyuwsgi

        pyuwsgi.run(sys.argv[1:])
        """,
    "notes/tasks.py": """
        import asyncio
        import os
        import time

        from notes.models import Note
        from omniq import task


        def seconds_of(mark):
            # Some outlast any grace, so they have to be given back; run again, they are quick.
            return 600 if mark.startswith("long") and not os.environ.get("AGAIN") else 0.01


        @task("note")
        def note(mark):
            Note.objects.create(text=f"began {mark}")
            time.sleep(seconds_of(mark))
            Note.objects.create(text=f"ended {mark}")
            return os.getpid()


        @task("anote")
        async def anote(mark):
            await Note.objects.acreate(text=f"began {mark}")
            await asyncio.sleep(seconds_of(mark))
            await Note.objects.acreate(text=f"ended {mark}")
            return os.getpid()
        """,
    "notes/views.py": """
        import os

        from asgiref.sync import sync_to_async
        from django.db import transaction
        from django.http import JsonResponse

        from notes.models import Note
        from notes.tasks import anote, note
        from omniq.contrib.django import aqueue, queue


        def where(request):
            return JsonResponse({"pid": os.getpid()})


        def start(request, mark):
            function = anote if "async" in mark else note
            with transaction.atomic():
                Note.objects.create(text=f"asked {mark}")
                task = queue.enqueue(function, (mark,))
            return JsonResponse({"id": task, "pid": os.getpid()})


        async def astart(request, mark):
            function = anote if "async" in mark else note
            await Note.objects.acreate(text=f"asked {mark}")
            task = await aqueue.enqueue(function, (mark,))
            return JsonResponse({"id": task, "pid": os.getpid()})


        def wait(request, mark):
            pid = queue.enqueue(note, (mark,)).result(50)
            return JsonResponse({"worker": pid, "notes": Note.objects.count()})


        async def wait_async(request, mark):
            task = await aqueue.enqueue(anote, (mark,))
            pid = await task.result(50)
            return JsonResponse({"worker": pid, "notes": await Note.objects.acount()})
        """,
}


class Kind(NamedTuple):
    """A server: its command, what it says when it serves, and how it is set up."""

    command: str
    ready: str
    env: Mapping[str, str] = {}

    @property
    def is_async(self) -> bool:
        return "wsgi" not in self.command

    @property
    def alone(self) -> Kind:
        """With one process."""
        command = self.command.replace("--workers=2", "--workers=1")
        return self._replace(command=command, ready=self.ready.replace("{2}", ""))


@dataclass
class Site:
    """A server that is up."""

    project: Project
    server: Program
    url: str

    def client(self, **cookies: str) -> httpx.Client:
        """A visitor who has a new connection for each request, so that every process gets some."""
        once = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(base_url=self.url, timeout=PATIENCE, limits=once, cookies=cookies)


@contextmanager
def serving(project: Project, kind: Kind, **env: str) -> Iterator[Site]:
    """A server that is up; on leaving the block all its processes are gone."""
    port = free_port()
    command = kind.command.format(port=port, address=f"127.0.0.1:{port}").split()
    with project.start(*command, **kind.env, **env) as server:
        try:
            server.says(kind.ready)
            yield Site(project, server, f"http://127.0.0.1:{port}")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.process.pid, signal.SIGKILL)


GUNICORN = "-m gunicorn mysite.wsgi --no-control-socket --bind={address} --workers=2"
KINDS = {
    "sync": Kind(f"{GUNICORN} --preload", "Listening at", IN_DATABASE),
    "gthread": Kind(f"{GUNICORN} -k gthread --threads=4", "Listening at"),
    "gevent": Kind(f"{GUNICORN} -k gevent", "Listening at", IN_DATABASE),
    "uwsgi": Kind(
        "-m mysite.uwsgi --http-socket={address} --module=mysite.wsgi --master --processes=2 "
        "--threads=4 --die-on-term --need-app",
        "spawned uWSGI worker 2",
    ),
    "uvicorn": Kind(
        "-m uvicorn mysite.asgi:application --port={port} --workers=2 --lifespan=on",
        "(?s)(?:startup complete.*){2}",
    ),
    "granian": Kind(
        "-m granian mysite.asgi:application --interface=asgi --port={port} --workers=2",
        "(?s)(?:Started worker.*){2}",
        IN_DATABASE,
    ),
    "plain": Kind("-m uvicorn mysite.plain:application --port={port}", "startup complete"),
}


def made(folder: Path) -> tuple[Project, str]:
    """The project with its tables, and the session of somebody who is staff."""
    project = Project(folder, SETTINGS, FILES)
    said = project.python(
        """
        from django.contrib.auth import SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY
        from django.contrib.auth.models import User
        from django.contrib.sessions.backends.db import SessionStore
        from django.core.management import call_command

        call_command("migrate", "--run-syncdb", verbosity=0)
        ada = User.objects.create_superuser("ada")
        session = SessionStore()
        session[SESSION_KEY] = str(ada.pk)
        session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        session[HASH_SESSION_KEY] = ada.get_session_auth_hash()
        session.save()
        print(session.session_key)
        """,
        **IN_DATABASE,
    )
    return project, said.split()[-1]


def queue_of(project: Project, kind: Kind) -> AsyncOmniQ:
    """The server's queue, seen from here."""
    home = project.folder / ".omniq"
    if "OMNIQ_DATABASE" not in kind.env:
        return AsyncOmniQ(base_dir=home, embedded=False)
    storage = GuestSQLiteStorage(project.folder / "db.sqlite3", remedy="migrate")
    return AsyncOmniQ(base_dir=home, task_queue=storage, embedded=False)


def notes_in(project: Project) -> Counter[str]:
    """How often each note was written."""
    with closing(sqlite3.connect(project.folder / "db.sqlite3")) as database:
        return Counter(text for (text,) in database.execute("SELECT text FROM notes_note"))
