"""A small Django project of its own on disk, for what only a fresh process can show."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from urllib.request import urlopen

from tests.programs import PATIENCE, ROOT, Program
from tests.programs import run as run_program

MANAGE = """
import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""

SETTINGS = """
from pathlib import Path

from django import VERSION

BASE_DIR = Path(__file__).parent.parent
SECRET_KEY = "tests only"
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "mysite.urls"
WSGI_APPLICATION = "mysite.wsgi.application"
USE_TZ = True
STATIC_URL = "/static/"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "omniq.contrib.django",
    *([] if VERSION >= (6, 0) else ["django_tasks"]),
    "notes",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "db.sqlite3",
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""

FILES = {
    "manage.py": MANAGE,
    "mysite/__init__.py": "",
    "mysite/settings.py": SETTINGS,
    "mysite/wsgi.py": """
        import os

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

        from django.core.wsgi import get_wsgi_application

        application = get_wsgi_application()
        """,
    "mysite/asgi.py": """
        import os

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")

        from omniq.contrib.django.asgi import get_asgi_application

        application = get_asgi_application()
        """,
    "mysite/urls.py": """
        from django.urls import path

        from notes import views

        urlpatterns = [
            path("", views.hello),
            path("add/<int:a>/<int:b>/", views.add),
            path("aadd/<int:a>/<int:b>/", views.aadd),
            path("slow/<int:number>/", views.slow),
            path("who/", views.who),
        ]
        """,
    "notes/__init__.py": "",
    "notes/models.py": """
        from django.db import models


        class Note(models.Model):
            text = models.CharField(max_length=50)
        """,
    "notes/tasks.py": """
        import asyncio
        import os
        import time
        from pathlib import Path

        from notes.models import Note


        def add(a, b):
            return a + b


        def who():
            return os.getpid()


        def slow(number, seconds=0.2):
            time.sleep(seconds)
            Note.objects.create(text=f"slow {number}")


        async def slow_async(number, seconds=0.2):
            await asyncio.sleep(seconds)
            await Note.objects.acreate(text=f"slow {number}")


        def wait_for(name):
            while not Path(name).exists():
                time.sleep(0.01)
            Note.objects.create(text=name)
        """,
    "notes/views.py": """
        import os

        from django.http import HttpResponse, JsonResponse

        from notes import tasks
        from omniq.contrib.django import aqueue, queue


        def hello(request):
            return HttpResponse("hello")


        def add(request, a, b):
            return JsonResponse({"sum": queue.enqueue(tasks.add, (a, b)).result(50)})


        async def aadd(request, a, b):
            handle = await aqueue.enqueue(tasks.add, (a, b))
            return JsonResponse({"sum": await handle.result(50)})


        def slow(request, number):
            for each in range(number):
                queue.enqueue(tasks.slow, (each,))
                queue.enqueue(tasks.slow_async, (each,))
            return HttpResponse("enqueued")


        def who(request):
            worker = queue.enqueue(tasks.who).result(50)
            return JsonResponse({"server": os.getpid(), "worker": worker})
        """,
}


class Project:
    """`settings` is added to the end of the project's settings; `files` are more files."""

    def __init__(
        self, folder: Path, settings: str = "", files: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        for name, text in {**FILES, **(files or {})}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text).lstrip())
        with (folder / "mysite/settings.py").open("a") as file:
            file.write("\n" + dedent(settings))

    def manage(self, *words: str, **env: str) -> str:
        """Run a management command to its end; an AssertionError unless it ends well."""
        done = run_program(["manage.py", *words], cwd=self.folder, paths=[self.folder, ROOT], **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def migrate(self) -> None:
        """Make the tables, those of apps without migrations too."""
        self.manage("migrate", "--run-syncdb", "-v0")

    def start(self, *command: str, **env: str) -> Program:
        """A program of the project's, for a `with` block."""
        env = {"DJANGO_SETTINGS_MODULE": "mysite.settings", **env}
        return Program(command, cwd=self.folder, env=env, paths=[self.folder, ROOT])

    def python(self, code: str, **env: str) -> str:
        """Run some lines with Django set up; gives what they print."""
        text = "import django\ndjango.setup()\n" + dedent(code)
        env = {"DJANGO_SETTINGS_MODULE": "mysite.settings", **env}
        done = run_program(["-c", text], cwd=self.folder, paths=[self.folder, ROOT], **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def get(url: str) -> str:
    """The body of a page."""
    with urlopen(url, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def alive(pid: int) -> bool:
    """Whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
