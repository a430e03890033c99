"""The file: who may read it, whose it is, where it must not be, and what it says when it is."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from pathlib import Path

import pytest

from omniq.errors import (
    ConfigError,
    SchemaError,
    StorageClosed,
    StorageError,
    StorageUnavailable,
)
from omniq.models import Fence, Insert, Move, Status, TaskRow, Value
from omniq.models.filters import Claim, Slot
from omniq.storage.sqlite import AsyncSQLiteStorage, apply_units, place
from omniq.storage.sqlite import storage as storage_module
from omniq.storage.sqlite.connection import explain
from omniq.storage.sqlite.migrate import FIRST_TABLES, NEWEST, statements, steps, version

pytestmark = pytest.mark.asyncio


def task(id: str = "t-1", **fields: object) -> Insert:
    given = {"queue": "q", "lane": "async", "name": "app:f", "status": Status.READY}
    return Insert(TaskRow(id=id, **given | fields))  # type: ignore[arg-type]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_what_it_makes_is_private_and_ignored_by_git(tmp_path: Path) -> None:
    path = tmp_path / "new" / "tasks.db"
    async with AsyncSQLiteStorage(path) as storage:
        await storage.apply([task()])
        assert mode(path.parent) == 0o700
        assert {mode(file) for file in path.parent.glob("tasks.db*")} == {0o600}
        assert (path.parent / ".gitignore").read_text() == "*\n"


async def test_a_directory_of_somebody_else_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    async with AsyncSQLiteStorage(tmp_path / "tasks.db"):
        assert mode(tmp_path) == 0o755
        assert not (tmp_path / ".gitignore").exists()


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the tests' own directory is."""
    monkeypatch.setattr(storage_module, "filesystem", lambda folder: "ext4")


@pytest.mark.usefixtures("on_disk")
async def test_it_says_where_and_how_durable_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "omniq.storage"):
        async with AsyncSQLiteStorage(tmp_path / "tasks.db", synchronous="FULL") as storage:
            assert storage.capabilities.durability == "power"
    [line] = [r for r in caplog.records if r.name.startswith("omniq.storage")]
    text = line.getMessage()
    assert line.levelno == logging.INFO
    assert str(tmp_path / "tasks.db") in text
    assert "loss of power" in text
    assert sqlite3.sqlite_version in text
    assert logging.getLogger("omniq.storage").handlers == []


async def test_it_writes_a_log_and_the_grade_asked_for(tmp_path: Path) -> None:
    for grade, number in (("NORMAL", 1), ("FULL", 2)):
        async with AsyncSQLiteStorage(tmp_path / "t.db", synchronous=grade) as storage:  # type: ignore[arg-type]
            settings = [
                await storage._write.run(lambda c, n=name: c.execute(f"PRAGMA {n}").fetchone()[0])
                for name in ("journal_mode", "synchronous", "wal_autocheckpoint", "busy_timeout")
            ]
        assert settings == ["wal", number, 0, 30_000]
    with pytest.raises(ConfigError, match="NORMAL or FULL"):
        AsyncSQLiteStorage(tmp_path / "t.db", synchronous="OFF")  # type: ignore[arg-type]


@pytest.mark.usefixtures("on_disk")
async def test_strict_durability_waits_for_the_disk(tmp_path: Path) -> None:
    async with AsyncSQLiteStorage(tmp_path / "t.db", durability="strict") as storage:
        assert storage.capabilities.durability == "power"
        for connection in (storage, storage.twin()):
            await connection.open()
            level = await connection._write.run(
                lambda c: c.execute("PRAGMA synchronous").fetchone()
            )
            assert level == (2,)
            await connection.close()
    async with AsyncSQLiteStorage(tmp_path / "t.db", durability="strict", synchronous="FULL"):
        pass
    with pytest.raises(
        ConfigError, match=r"synchronous='NORMAL' may lose .* leave synchronous out"
    ):
        AsyncSQLiteStorage(tmp_path / "t.db", durability="strict", synchronous="NORMAL")
    with pytest.raises(ConfigError, match="durability is 'normal' or 'strict', not 'safe'"):
        AsyncSQLiteStorage(tmp_path / "t.db", durability="safe")  # type: ignore[arg-type]


async def test_a_filesystem_in_memory_undoes_what_full_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(storage_module, "filesystem", lambda folder: "tmpfs")
    refused = AsyncSQLiteStorage(tmp_path / "t.db", durability="strict")
    with pytest.raises(ConfigError, match=r"refused by durability='strict': tmpfs.*OMNIQ_BASE_DIR"):
        await refused.open()
    with pytest.raises(StorageClosed):
        await refused.count_tasks()
    with caplog.at_level(logging.INFO, "omniq.storage"):
        async with AsyncSQLiteStorage(tmp_path / "t.db", synchronous="FULL"):
            pass
        async with AsyncSQLiteStorage(tmp_path / "other.db"):  # promised no more
            pass
    told = [r for r in caplog.records if r.name == "omniq.storage"]
    [first, warning, other] = told
    assert "not of the machine" in first.getMessage()
    assert warning.levelno == logging.WARNING
    assert "tmpfs is kept in memory" in warning.getMessage()
    assert other.levelno == logging.INFO


async def test_a_namespace_has_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    async with (
        AsyncSQLiteStorage(path) as ours,
        AsyncSQLiteStorage(path, namespace="shop") as theirs,
        theirs.twin() as again,
    ):
        await theirs.apply([task()])
        assert await ours.get_tasks(["t-1"]) == []
        assert [row.id for row in await again.get_tasks(["t-1"])] == ["t-1"]
        assert ours.path == path
        assert theirs.path == again.path == tmp_path / "tasks.shop.db"
    with pytest.raises(ConfigError, match=r"namespace name '\.\./x' is not allowed"):
        AsyncSQLiteStorage(path, namespace="../x")


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    async with AsyncSQLiteStorage(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE omniq_schema SET version = ?", (NEWEST + 1,))
    connection.close()
    with pytest.raises(SchemaError, match=f"version {NEWEST + 1}.*newer OmniQ"):
        await AsyncSQLiteStorage(path).open()


async def test_each_step_counts_itself() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for number, text in steps():
        for statement in statements(text):
            connection.execute(statement)
        assert version(connection, "here") == number
    names = connection.execute("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")
    assert all(name.startswith("omniq_") for (name,) in names)
    connection.close()


async def test_it_moves_into_a_database_of_somebody_else(tmp_path: Path) -> None:
    """Their tables, their `user_version` and who may read the file stay as they are."""
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE task (x)")
        connection.execute("INSERT INTO task VALUES ('theirs')")
        connection.execute("PRAGMA user_version = 1")
    path.chmod(0o640)
    async with AsyncSQLiteStorage(path) as storage:
        await storage.apply([task()])
        assert [row.id for row in await storage.get_tasks(["t-1"])] == ["t-1"]
    assert connection.execute("SELECT x FROM task").fetchall() == [("theirs",)]
    assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert mode(path) == 0o640
    connection.close()


async def test_the_tables_of_before_the_first_release_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with sqlite3.connect(path) as connection:
        for name in FIRST_TABLES:
            connection.execute(f"CREATE TABLE {name} (x)")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(SchemaError, match=r"before its first release.*remove the file"):
        await AsyncSQLiteStorage(path).open()


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    path.write_bytes(b"these are not the bytes of a database " * 100)
    with pytest.raises(StorageError, match="not an SQLite database"):
        await AsyncSQLiteStorage(path).open()
    assert path.read_bytes().startswith(b"these are not")


async def test_a_network_filesystem_is_refused_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network filesystem can be mounted by a test, so its name is put in the place."""
    monkeypatch.setattr(place, "filesystem", lambda folder: "nfs4")
    with pytest.raises(StorageError, match=r"nfs4 is a network filesystem.*base_dir.*PostgreSQL"):
        await AsyncSQLiteStorage(tmp_path / "t.db").open()


async def test_the_filesystem_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    assert place.filesystem(Path("/proc/self")) == "proc"
    assert place.filesystem(tmp_path) not in ("", "proc")


async def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(StorageError, match=r"SQLite cannot be used at .*OMNIQ_BASE_DIR"):
        await AsyncSQLiteStorage(occupied / "deeper" / "t.db").open()
    (tmp_path / "dir.db").mkdir()
    with pytest.raises(StorageError, match="it is a directory"):
        await AsyncSQLiteStorage(tmp_path / "dir.db").open()


async def test_a_full_disk_is_an_error_that_may_pass_and_loses_nothing(tmp_path: Path) -> None:
    """The limit on pages stands in for the disk: SQLite answers both alike."""
    async with AsyncSQLiteStorage(tmp_path / "t.db") as storage:
        await storage.apply([task()])
        pages = await storage._write.run(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await storage._write.run(lambda c: c.execute(f"PRAGMA max_page_count = {pages}"))
        with pytest.raises(StorageUnavailable, match="disk is full"):
            await storage.apply([task("t-2", body=b"x" * 100_000)])
        await storage._write.run(lambda c: c.execute("PRAGMA max_page_count = 1000000"))
        await storage.apply([task("t-2", body=b"x" * 100_000)])
        assert [row.id for row in await storage.get_tasks(["t-1", "t-2"])] == ["t-1", "t-2"]


async def test_errors_say_whether_to_try_again() -> None:
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorname = "SQLITE_BUSY"
    assert isinstance(explain(busy, Path("x")), StorageUnavailable)
    readonly = sqlite3.OperationalError("attempt to write a readonly database")
    readonly.sqlite_errorname = "SQLITE_READONLY_DIRECTORY"
    error = explain(readonly, Path("x"))
    assert type(error) is StorageError
    assert "read-only" in str(error)


async def test_units_go_into_a_transaction_of_the_user(tmp_path: Path) -> None:
    """What the user rolls back was never enqueued; what the user commits is."""
    path = tmp_path / "t.db"
    async with AsyncSQLiteStorage(path) as storage:
        connection = sqlite3.connect(path, isolation_level=None)
        for end, found in (("ROLLBACK", []), ("COMMIT", ["t-1"])):
            connection.execute("BEGIN IMMEDIATE")
            topics: set[str] = set()
            receipt = apply_units(connection.cursor(), [task()], 5, topics)
            connection.execute(end)
            assert receipt.woken == {"q"}
            assert "queue:q" in topics
            assert [row.id for row in await storage.get_tasks(["t-1"])] == found
        connection.close()


async def test_the_log_is_copied_back_as_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omniq.storage.sqlite.writer.CHECKPOINT_PAGES", 64)
    path = tmp_path / "t.db"
    async with AsyncSQLiteStorage(path) as storage:
        sizes = []
        for n in range(40):
            await storage.apply([task(f"t-{n}", body=b"x" * 50_000)])
            sizes.append(os.stat(f"{path}-wal").st_size)  # noqa: PTH116
        assert sizes[-1] == sizes[20] < 40 * 50_000
        assert len(await storage.get_tasks([f"t-{n}" for n in range(40)])) == 40


async def test_rows_that_are_too_large_together_are_read_one_by_one(tmp_path: Path) -> None:
    """A claim that always failed on them would be a queue that stands still."""
    async with AsyncSQLiteStorage(tmp_path / "t.db") as storage:
        units = [task(f"t-{n}", body=bytes([n]) * 30_000) for n in range(9)]
        for one in (storage._write, storage._reads):
            await one.run(lambda c: c.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000))
        await storage.apply(units)
        slots = (Slot("q", "async", 9),)
        asked = Claim(owner="w", request="r", slots=slots, limit=9, lease=30_000)
        rows = (await storage.claim(asked)).tasks
        assert [row.body for row in rows] == [unit.row.body for unit in units]
        assert await storage.get_tasks([row.id for row in rows]) == rows
        ends = [
            Move(
                id=row.id,
                expect=(Status.RUNNING,),
                fence=Fence(row.epoch, row.claim or ""),
                to=Status.SUCCEEDED,
                result=Value(row.body, None),
            )
            for row in rows
        ]
        await storage.apply(ends)
        results = await storage.get_results([row.id for row in rows])
        assert [result.value for result in results] == [row.body for row in rows]
