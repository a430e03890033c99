"""Tasks in a PostgreSQL database of Django's: its tables, its workers, its tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from django.core.management import call_command
from django.db import connections, transaction
from django.test import override_settings

from omniq._portal import portal
from omniq.contrib.django import queue
from omniq.contrib.django.checks import check_deployment, check_settings
from omniq.contrib.django.database import native_storage, trouble, within
from omniq.contrib.django.runtime import blocking
from omniq.contrib.django.tables import make
from omniq.errors import ConfigError, SchemaError, StorageUnavailable
from omniq.storage.postgres.guest import GuestPostgresStorage
from tests.contrib.django.people import signed_in
from tests.contrib.django.project import Project
from tests.contrib.django.shop.tasks import add

pytestmark = pytest.mark.newer

Omniq = Callable[..., None]
TABLES = {"doc", "edge", "event", "omniq_schema", "owner", "result", "task", "uniq"}


def tables(schema: str = "omniq") -> set[str]:
    with connections["postgres"].cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema])
        return {name for (name,) in cursor.fetchall()}


def call(*args: str, **options: Any) -> str:
    out = StringIO()
    call_command(*args, stdout=out, database="postgres", **{"verbosity": 0} | options)
    return out.getvalue()


@pytest.fixture
def here(postgres_db: str, omniq: Omniq, tmp_path: Path) -> Iterator[str]:
    """Tasks are to be kept there; the tables are not made yet, and gone afterwards."""
    omniq(DATABASE=postgres_db, BASE_DIR=tmp_path)
    yield postgres_db
    blocking().close()
    call("migrate", "omniq", "zero")
    with connections[postgres_db].cursor() as cursor:
        cursor.execute("DROP SCHEMA IF EXISTS omniq CASCADE")
    connections[postgres_db].close()


@pytest.fixture
def made(here: str) -> str:
    call("migrate")
    return here


def test_migrations_make_and_remove_the_tables(here: str) -> None:
    call("migrate", "omniq")  # applied when nothing was kept there, and made up for
    assert tables() == TABLES
    call("migrate", "omniq", "zero")
    assert tables() == set()
    shown = call("sqlmigrate", "omniq", "0001")
    assert 'CREATE SCHEMA "omniq";' in shown
    assert all(f'CREATE TABLE "omniq".{name} (' in shown for name in TABLES)
    call("migrate", "omniq")
    assert tables() == TABLES
    assert call("sqlmigrate", "omniq", "0001", backwards=True).count("DROP SCHEMA") == 1


def test_each_namespace_has_tables_of_its_own(here: str, omniq: Omniq, tmp_path: Path) -> None:
    backend = {
        "BACKEND": "omniq.contrib.django.OmniQBackend",
        "OPTIONS": {"DATABASE": here, "NAMESPACE": "letters"},
    }
    with override_settings(TASKS={"default": backend}):
        call("migrate")
        assert tables() == tables("omniq_letters") == TABLES
        omniq(DATABASE=here, NAMESPACE="letters", BASE_DIR=tmp_path)
        queue.enqueue(add, (1, 2))
        assert blocking().counts() == queue.counts() != []
        omniq(DATABASE=here, BASE_DIR=tmp_path)
        assert blocking().counts() == queue.counts() == []
        call("migrate", "omniq", "zero")
        assert tables("omniq_letters") == set()


def test_flush_forgets_the_tasks(made: str) -> None:
    queue.enqueue(add, (1, 2), unique="key")
    call("flush", interactive=False)
    assert tables() == TABLES
    assert queue.find().tasks == []
    queue.enqueue(add, (1, 2), unique="key")


def test_missing_tables_name_the_command(here: str) -> None:
    for ask in (queue.counts, blocking().counts):
        with pytest.raises(SchemaError, match=r"no tables of OmniQ.*migrate --database postgres`"):
            ask()
    assert tables() == set()


def test_newer_tables_are_refused(made: str) -> None:
    with connections[made].cursor() as cursor:
        cursor.execute("INSERT INTO omniq.omniq_schema (version, oldest) VALUES (999, 999)")
    connections[made].close()
    for ask in (queue.counts, blocking().counts):
        with pytest.raises(SchemaError, match=r"version 999.*newer OmniQ"):
            ask()


def test_a_role_without_rights_is_told_what_to_grant(here: str) -> None:
    role = f"web_{uuid4().hex[:8]}"
    with connections[here].cursor() as cursor:
        cursor.execute(f"CREATE ROLE {role}; SET ROLE {role}")
        try:
            with pytest.raises(ConfigError, match=rf'GRANT CREATE .* TO "{role}".*DATABASES\['):
                make(here)
        finally:
            cursor.execute(f"RESET ROLE; DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_lost_connection_is_replaced(made: str) -> None:
    """As Django replaces one that failed in a query of its own, with the next request."""
    first = connections[made]
    first.settings_dict["CONN_MAX_AGE"] = None
    try:
        first.ensure_connection()
        first.close_at = None
        with psycopg.connect(blocking()._async.stores.tasks.url, autocommit=True) as other:  # type: ignore[attr-defined]
            ended = "SELECT pg_terminate_backend(%s, 60000)"  # it waits until it is gone
            assert other.execute(ended, [first.connection.info.backend_pid]).fetchone() == (True,)
        with pytest.raises(StorageUnavailable):
            within().counts()
        first.close_if_unusable_or_obsolete()
        assert queue.counts() == []
    finally:
        first.settings_dict["CONN_MAX_AGE"] = 0


def test_workers_connect_as_django_does(made: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = connections[made].settings_dict
    monkeypatch.setitem(settings, "DISABLE_SERVER_SIDE_CURSORS", True)
    user = settings["USER"]
    monkeypatch.setitem(settings, "OPTIONS", {"assume_role": user, "sslmode": "prefer"})
    assert asked("SELECT current_database(), current_user") == (settings["NAME"], user)
    storage = native_storage(made)
    assert isinstance(storage, GuestPostgresStorage)
    assert "sslmode=prefer" in storage.url
    assert not storage.capabilities.push  # behind a pooler nothing can be heard
    assert settings["PASSWORD"] not in storage.describe()
    assert storage.twin().url == storage.url


def asked(sql: str) -> tuple[object, ...]:
    """What the native storage's own connection answers."""

    async def ask() -> tuple[object, ...]:
        async with native_storage("postgres") as storage:
            assert isinstance(storage, GuestPostgresStorage)
            return tuple((await storage._database.fetch(sql))[0])

    return portal.submit(ask).result(30)


def test_checks(made: str) -> None:
    assert trouble(made) is None
    assert {each.id for each in check_settings()} == set()
    assert "omniq.W104" in {each.id for each in check_deployment()}


def test_commands_and_the_admin_show_what_is_there(real_db: None, made: str) -> None:
    done, failed = queue.enqueue(add, (1, 2)), queue.enqueue(add, ("a", 2), retries=0)
    out = StringIO()
    call_command("omniq_worker", batch=True, verbosity=0, stdout=out)
    call_command("omniq_status", json=True, stdout=out)
    assert json.loads(out.getvalue())["queues"]["default"] == {"succeeded": 1, "failed": 1}
    client = signed_in("view_task", "change_task", "delete_task")
    page = client.get("/admin/omniq/task/").content.decode()
    assert done in page and failed in page
    assert "TypeError" in client.get(f"/admin/omniq/task/{failed}/change/").content.decode()
    assert queue.retry(failed)
    call_command("omniq_prune", verbosity=0, min_age_days=0, stdout=out)
    assert [row.id for row in queue.find().tasks] == [failed]


SETTINGS = """
DEBUG = False
OMNIQ = {{"DATABASE": "default"}}
DATABASES = {{"default": {{
    "ENGINE": "django.db.backends.postgresql",
    "NAME": "{name}",
    "USER": "{user}",
    "PASSWORD": "{password}",
    "HOST": "{host}",
    "PORT": {port},
    "OPTIONS": {{"sslmode": "prefer"}},
}}}}
"""
# Where others reach the store, a worker runs what is registered, or signed.
TASKS = """
from notes.models import Note
from omniq import task


@task
def add(a, b):
    return a + b


@task
def note(text):
    Note.objects.create(text=text)
"""
ORDER = """
from django.db import transaction

from notes.models import Note
from notes.tasks import add, note
from omniq.contrib.django import queue

try:
    with transaction.atomic():
        Note.objects.create(text="never")
        lost = queue.enqueue(note, ("never",))
        raise KeyError
except KeyError:
    pass
with transaction.atomic():
    sum = queue.enqueue(add, (1, 2))
    noted = queue.enqueue(note, ("noted",))
    assert [row.id for row in queue.find().tasks] == [noted, sum]
print(sum.result(30), noted.result(30), [note.text for note in Note.objects.all()])
"""
TESTS = """
from django.db import transaction
from django.test import TestCase, TransactionTestCase

from notes.tasks import add
from omniq.contrib.django import queue
from omniq.contrib.django.runtime import blocking
from omniq.contrib.django.test import OmniQTestCase


class Inside(OmniQTestCase):
    def test_drain(self):
        handle = queue.enqueue(add, (1, 2), unique="key")
        assert self.drain().succeeded == 1
        assert queue.result(handle).value == 3

    def test_nothing_is_left(self):
        self.test_drain()


class Outside(TransactionTestCase):
    def test_a_worker(self):
        blocking().start_worker()
        with transaction.atomic():
            handle = queue.enqueue(add, (1, 2), unique="key")
        assert handle.result(30) == 3
        assert len(queue.find().tasks) == 1

    def test_nothing_is_left(self):
        self.test_a_worker()
"""


@pytest.fixture
def project(tmp_path: Path, postgres_url: str) -> Iterator[Project]:
    """A project of its own, in a database of its own."""
    server, name = urlsplit(postgres_url), f"site_{uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}".encode())
        settings = SETTINGS.format(
            name=name,
            user=server.username,
            password=server.password,
            host=server.hostname,
            port=server.port,
        )
        yield Project(tmp_path, settings, {"notes/tasks.py": TASKS, "notes/tests.py": TESTS})
        db.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_a_worker_process_runs_what_was_committed(project: Project) -> None:
    project.migrate()
    with project.start("manage.py", "omniq_worker") as worker:
        worker.says("Ctrl-C lets running tasks end")
        assert project.python(ORDER) == "3 None ['noted']\n"
        assert '"succeeded": 2' in project.manage("omniq_status", "--json")
        project.migrate()
    assert "No changes" in project.manage("makemigrations", "--check", "--dry-run", "omniq")


@pytest.mark.parametrize("words", [[[]], [["--keepdb"], ["--parallel", "2"]]], ids=["one", "kept"])
def test_a_users_own_tests(project: Project, words: list[list[str]]) -> None:
    """The test database can be dropped, though a worker of the tests was connected to it."""
    for each in words:
        assert "Ran 4 tests" in project.manage("test", *each, "-v1", "--noinput")


def test_a_transaction_of_the_caller_is_not_committed(made: str) -> None:
    """Whatever is called in it."""
    with transaction.atomic(using=made):
        handle = queue.enqueue(add, (1, 2))
        assert queue.cancel(handle) and queue.retry(handle)
        assert queue.delete(handle) is False
        assert connections[made].in_atomic_block
        transaction.set_rollback(True, using=made)
    assert queue.counts() == []
