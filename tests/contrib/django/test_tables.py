"""OmniQ's tables in Django's databases: made and removed by migrations, where they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from omniq.contrib.django import queue
from omniq.contrib.django.database import aliases, native_storage, trouble, within
from omniq.contrib.django.runtime import blocking
from omniq.errors import ConfigError, SchemaError, StorageError, TaskCancelled
from tests.contrib.django.shop.tasks import add

Omniq = Callable[..., None]
TABLES = {
    f"omniq_{n}" for n in ("task", "result", "event", "doc", "edge", "uniq", "owner", "schema")
}


@pytest.fixture
def alias(databases: None) -> Iterator[str]:
    """A database of its own that nobody has migrated yet, gone when the test is over."""
    alias = "fresh"
    name = connections["default"].settings_dict["NAME"]
    path = Path(name).with_name("fresh.sqlite3")
    connections.settings[alias] = connections.settings["default"] | {"NAME": path}
    yield alias
    blocking()  # the native queue is made anew, the one on this database closed
    connections[alias].close()
    del connections[alias]
    del connections.settings[alias]
    for file in path.parent.glob("fresh.sqlite3*"):
        file.unlink()


def tables(alias: str) -> set[str]:
    names = connections[alias].introspection.table_names()
    return {name for name in names if name.startswith("omniq")}


def call(*args: str, **options: object) -> str:
    out = StringIO()
    call_command(*args, stdout=out, **{"verbosity": 1} | options)
    return out.getvalue()


def test_no_migration_is_missing() -> None:
    assert "No changes" in call("makemigrations", "--check", "--dry-run")


def test_only_the_database_that_keeps_tasks_has_tables(alias: str, omniq: Omniq) -> None:
    call("migrate", "omniq", database=alias)
    assert tables(alias) == set()
    omniq(DATABASE=alias)
    call("migrate", "omniq", database=alias)  # recorded as applied, and made up for
    assert tables(alias) == TABLES
    with override_settings(OMNIQ={"DATABASE": alias}):
        queue.enqueue(add, (1, 2))
        assert len(queue.find().tasks) == 1


def test_migrations_make_and_remove_them(alias: str, omniq: Omniq) -> None:
    omniq(DATABASE=alias)
    call("migrate", "omniq", database=alias)
    assert tables(alias) == TABLES
    call("migrate", "omniq", "zero", database=alias)
    assert tables(alias) == set()
    call("migrate", "contenttypes", database=alias)  # somebody else's: not made up for
    assert tables(alias) == set()
    call("migrate", "omniq", database=alias)
    assert tables(alias) == TABLES


def test_a_project_that_runs_no_migrations_has_them_too(alias: str, omniq: Omniq) -> None:
    """As test databases with `MIGRATE: False`, and `--nomigrations`."""
    omniq(DATABASE=alias)
    off = dict.fromkeys(("omniq", "auth", "admin", "contenttypes", "sessions"))
    with override_settings(MIGRATION_MODULES=off):
        call("migrate", database=alias, run_syncdb=True, verbosity=0)
    assert tables(alias) == TABLES


def test_sqlmigrate_shows_the_statements(alias: str, omniq: Omniq) -> None:
    omniq(DATABASE=alias)
    shown = call("sqlmigrate", "omniq", "0001", database=alias)
    assert all(f"CREATE TABLE {name} " in shown for name in TABLES)
    assert tables(alias) == set()
    call("migrate", "omniq", database=alias)
    assert call("sqlmigrate", "omniq", "0001", database=alias) == shown
    back = call("sqlmigrate", "omniq", "0001", database=alias, backwards=True)
    assert all(f"DROP TABLE IF EXISTS {name};" in back for name in TABLES)


def test_flush_forgets_the_tasks(alias: str, omniq: Omniq) -> None:
    omniq(DATABASE=alias)
    call("migrate", "omniq", database=alias)
    for others in (False, True):  # without tables of anybody else's there is no signal
        for silent in (False, True):  # nor for some of Django's test cases
            queue.enqueue(add, (1, 2), unique="key")
            call("flush", database=alias, interactive=False, inhibit_post_migrate=silent)
            assert tables(alias) == TABLES
            assert queue.find().tasks == []
        if not others:
            call("migrate", "auth", database=alias)


def test_flush_asks_before_it_forgets(
    alias: str, omniq: Omniq, monkeypatch: pytest.MonkeyPatch
) -> None:
    omniq(DATABASE=alias)
    call("migrate", "omniq", database=alias)
    call("migrate", "auth", database=alias)
    handle = queue.enqueue(add, (1, 2))
    for answer, left in (("no", [handle]), ("yes", [])):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        call("flush", database=alias)
        assert [row.id for row in queue.find().tasks] == left


def test_a_clone_for_parallel_tests_has_them(alias: str, omniq: Omniq) -> None:
    omniq(DATABASE=alias)
    call("migrate", "omniq", database=alias)
    creation = connections[alias].creation
    creation.clone_test_db("7", verbosity=0)
    clone = creation.get_test_db_clone_settings("7")
    path = connections[alias].settings_dict["NAME"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(connections[alias].settings_dict, "NAME", clone["NAME"])
        connections[alias].close()
        assert tables(alias) == TABLES
        # Renamed under a queue that was used before, as the test runner does.
        handle = queue.enqueue(add, (1, 2))
        assert str(clone["NAME"]) in blocking().describe()
        assert blocking().info(handle).row.id == handle
        blocking().close()
        connections[alias].close()
    assert queue.find().tasks == []
    assert str(path) in blocking().describe()
    Path(clone["NAME"]).unlink()


def test_missing_tables_name_the_command(alias: str, omniq: Omniq) -> None:
    omniq(DATABASE=alias)
    with pytest.raises(SchemaError, match=r"no tables of OmniQ.*migrate --database fresh`"):
        queue.enqueue(add, (1, 2))
    with pytest.raises(SchemaError, match=r"no tables of OmniQ.*migrate --database fresh`"):
        blocking().counts()
    assert tables(alias) == set()
    connections[alias].close()
    for file in Path(connections[alias].settings_dict["NAME"]).parent.glob("fresh.*"):
        file.unlink()
    with pytest.raises(StorageError, match=r"there is no database at .*migrate --database fresh`"):
        blocking().counts()


def test_newer_tables_are_refused(alias: str, omniq: Omniq) -> None:
    omniq(DATABASE=alias)
    call("migrate", "omniq", database=alias)
    with connections[alias].cursor() as cursor:
        cursor.execute("UPDATE omniq_schema SET version = 999")
    for call_it in (queue.counts, blocking().counts):
        with pytest.raises(SchemaError, match=r"version 999.*newer OmniQ; update"):
            call_it()


def test_the_files_permissions_stay_as_they_were(alias: str, omniq: Omniq) -> None:
    omniq(DATABASE=alias)
    call("migrate", "omniq", database=alias)
    path = Path(connections[alias].settings_dict["NAME"])
    path.chmod(0o640)
    blocking().counts()
    assert path.stat().st_mode & 0o777 == 0o640
    assert not path.with_name(".gitignore").exists()
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM omniq_task")
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone() == ("wal",)  # as the documentation says


def test_a_database_in_memory_is_seen_by_django_alone(databases: None, omniq: Omniq) -> None:
    """It takes tasks in transactions as any other; nobody else can run them."""
    connections.settings["memory"] = connections.settings["default"] | {"NAME": ":memory:"}
    omniq(DATABASE="memory")
    try:
        call("migrate", database="memory", verbosity=0)
        handle = queue.enqueue(add, (1, 2))
        assert [row.id for row in queue.find().tasks] == [handle]
        assert handle.cancel()
        assert "in memory" in within().describe()
        with pytest.raises(ConfigError, match=r"in memory.*drain\(\).*'TEST'.*'NAME'"):
            native_storage("memory")
        with pytest.raises(TaskCancelled):
            handle.result(30)
        with pytest.raises(ConfigError, match="in memory"):
            blocking()
    finally:
        connections["memory"].connection.close()  # Django itself never closes such a one
        del connections["memory"]
        del connections.settings["memory"]


def test_what_cannot_keep_tasks_says_why(databases: None, omniq: Omniq) -> None:
    assert trouble("default") is None
    omniq(DATABASE="defualt")
    with pytest.raises(ImproperlyConfigured, match="did you mean 'default'"):
        queue.counts()
    engine = {"ENGINE": "django.db.backends.dummy"}
    connections.settings["strange"] = connections.settings["default"] | engine
    try:
        omniq(DATABASE="strange")
        with pytest.raises(
            ImproperlyConfigured, match=r"keeps tasks in postgresql, sqlite.*STORAGE_URL"
        ):
            queue.counts()
    finally:
        del connections["strange"]
        del connections.settings["strange"]


def test_a_tasks_backend_may_name_a_database_of_its_own(omniq: Omniq) -> None:
    omniq(DATABASE="default")
    backend = {"BACKEND": "omniq.contrib.django.OmniQBackend", "OPTIONS": {"DATABASE": "other"}}
    with override_settings(TASKS={"default": backend}):
        assert aliases() == {"default", "other"}
    assert aliases() == {"default"}
