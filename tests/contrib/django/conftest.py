"""One Django for all tests of a process: configured here, its databases made when first asked for.

* `db`: the test runs in a transaction that is rolled back, as in Django's TestCase.
* `real_db`: it commits, and the tables are emptied behind it, as in TransactionTestCase.
* `postgres_db`: one more database, on PostgreSQL, for the tests of a module.
* `omniq(**keys)`: other `OMNIQ` settings for the rest of the test. Without it tasks are kept in
  memory, and every test starts with a queue of its own.
* `omniq_in_db`: the same with `DATABASE="default"`.
* `ended(result)` waits until a worker has ended a task of Django's framework; `heard` is what the
  framework's signals told; `leap(seconds)` brings timeouts about.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import django
import pytest
from django.conf import settings

from omniq.contrib.django.compat import package
from omniq.decorator import set_fallback

FOLDER = Path(tempfile.mkdtemp(prefix="omniq-django-"))


def _database(name: str) -> dict[str, Any]:
    """A file even in tests: threads and native workers need to see the same one."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": FOLDER / f"{name}.sqlite3",
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        "TEST": {"NAME": FOLDER / f"test_{name}.sqlite3"},
    }


if not settings.configured:
    settings.configure(
        SECRET_KEY="tests only",
        ALLOWED_HOSTS=["*"],
        BASE_DIR=FOLDER,
        DATABASES={"default": _database("default"), "other": _database("other")},
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            *(["django_tasks"] if package() == "django_tasks" else []),
            "omniq.contrib.django",
            "tests.contrib.django.shop",
        ],
        LOGGING_CONFIG=None,
        MIDDLEWARE=[
            "django.middleware.security.SecurityMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        OMNIQ={"STORAGE_TYPE": "memory"},
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF="tests.contrib.django.urls",
        STATIC_URL="/static/",
        TASKS={"default": {"BACKEND": "omniq.contrib.django.OmniQBackend", "QUEUES": []}},
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
        USE_TZ=True,
    )
    django.setup()

FALLBACK = set_fallback(None)
"""Set while a test of Django runs: the others share this process, and have no Django."""


def pytest_sessionfinish() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)


@pytest.fixture(scope="session")
def _test_environment() -> Iterator[None]:
    from django.test.utils import setup_test_environment, teardown_test_environment

    setup_test_environment(debug=False)
    yield
    teardown_test_environment()


@pytest.fixture(scope="session")
def databases(_test_environment: None) -> Iterator[None]:
    """The test databases, migrated."""
    from django.test.utils import setup_databases, teardown_databases

    made = setup_databases(verbosity=0, interactive=False)
    yield
    teardown_databases(made, verbosity=0)


@pytest.fixture
def db(databases: None) -> Iterator[None]:
    """A transaction around the test, on every database, that is rolled back."""
    from django.db import connections, transaction

    with ExitStack() as stack:
        for alias in connections:
            stack.enter_context(transaction.atomic(using=alias))
            stack.callback(transaction.set_rollback, True, using=alias)
        yield


@pytest.fixture
def real_db(databases: None) -> Iterator[None]:
    """Commits are real; every table is emptied when the test is over."""
    from django.core.management import call_command
    from django.db import connections

    yield
    for alias in connections:
        call_command(
            "flush", database=alias, verbosity=0, interactive=False, inhibit_post_migrate=True
        )
        connections[alias].close()


@pytest.fixture(scope="module")
def postgres_db(databases: None, postgres_url: str) -> Iterator[str]:
    """The alias of one more test database, on PostgreSQL, without tables of OmniQ's."""
    from django.db import connections

    server = urlsplit(postgres_url)
    connections.settings["postgres"] = connections.settings["default"] | {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop",
        "USER": server.username or "",
        "PASSWORD": server.password or "",
        "HOST": server.hostname or "",
        "PORT": server.port or "",
        "OPTIONS": {},
        "TEST": connections.settings["default"]["TEST"] | {"NAME": f"test_shop_{os.getpid()}"},
    }
    creation = connections["postgres"].creation
    # From 6.1 on nothing is serialized unless asked for, and the word is on its way out.
    quickly = {} if django.VERSION >= (6, 1) else {"serialize": False}
    creation.create_test_db(verbosity=0, autoclobber=True, **quickly)
    yield "postgres"
    creation.destroy_test_db("shop", verbosity=0)
    del connections["postgres"]
    del connections.settings["postgres"]


@pytest.fixture(autouse=True)
def _own_queue() -> Iterator[None]:
    from omniq.contrib.django.runtime import reset

    reset()
    set_fallback(FALLBACK)
    yield
    set_fallback(None)
    reset()


Omniq = Callable[..., None]


@pytest.fixture
def omniq() -> Iterator[Omniq]:
    """`omniq(STORAGE_TYPE="sqlite", ...)`: `settings.OMNIQ` for the rest of the test."""
    from django.test import override_settings

    with ExitStack() as stack:

        def change(**keys: Any) -> None:
            stack.enter_context(override_settings(OMNIQ=keys))

        yield change


@pytest.fixture
def omniq_in_db(databases: None, omniq: Omniq, tmp_path: Path) -> None:
    """Tasks are kept in the default database."""
    from omniq.contrib.django.tables import make

    omniq(DATABASE="default", BASE_DIR=tmp_path)
    make("default")


@pytest.fixture
def ended() -> Callable[[Any], Any]:
    """Wait until a worker in this process has ended a task, and read its result again.

    The worker starts with the first wait: what is told of the enqueue has been told by then.
    """

    from omniq.contrib.django.runtime import blocking

    def wait(result: Any) -> Any:
        blocking().start_worker()
        for _ in blocking().results([result.id]):
            pass
        result.refresh()
        return result

    return wait


@pytest.fixture
def leap(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """`leap(seconds)`: for the timers of OmniQ's loop, and for attempts, that time has passed."""
    from omniq._portal import portal
    from omniq.contrib.django.backends import attempt

    def leap(seconds: float) -> None:
        def ahead() -> float:
            return monotonic() + seconds

        monkeypatch.setattr(attempt, "monotonic", ahead)
        portal.call(lambda: setattr(asyncio.get_running_loop(), "time", ahead))

    yield leap
    portal.close()  # the next test has a loop whose time is that of all


@pytest.fixture
def heard() -> Iterator[list[tuple[str, Any, str, str]]]:
    """What the framework's signals told: signal, sender, id, status."""
    from omniq.contrib.django.backends.framework import task_enqueued, task_finished, task_started

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
