"""The port over a connection that is somebody else's: it stays theirs in every way."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from omniq.errors import SchemaError, StorageUnavailable
from omniq.models import Applied, Fence, Move, Status, Unique, Value
from omniq.models.filters import Claim, EventFilter, HeldTask, Slot, TaskFilter
from omniq.storage.sqlite import AsyncSQLiteStorage
from omniq.storage.sqlite.foreign import ForeignConnection
from omniq.storage.sqlite.migrate import NEWEST, migrate
from tests.conformance.kit import event, insert

Connect = Callable[..., sqlite3.Connection]


@pytest.fixture
def connect(db_path: Path) -> Iterator[Connect]:
    """Connections to one database with OmniQ's tables and a table of its owner."""
    opened: list[sqlite3.Connection] = []

    def connect(**options: object) -> sqlite3.Connection:
        given: dict[str, object] = {"isolation_level": None, "timeout": 0}
        opened.append(sqlite3.connect(db_path, **given | options))  # type: ignore[call-overload]
        return opened[-1]

    first = connect()
    first.execute("PRAGMA journal_mode = WAL")
    first.execute("CREATE TABLE theirs (x)")
    migrate(first, str(db_path))
    yield connect
    for connection in opened:
        connection.close()


def ids(connection: sqlite3.Connection) -> list[str]:
    return [row.id for row in ForeignConnection(connection).find_tasks(TaskFilter()).rows]


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN IMMEDIATE", "SAVEPOINT theirs"])
def test_it_ends_with_the_transaction_it_is_in(connect: Connect, begin: str) -> None:
    mine, other = connect(), connect()
    unit = insert()
    for end, seen in (("ROLLBACK", []), ("COMMIT", [unit.row.id])):
        mine.execute(begin)
        ForeignConnection(mine).apply([unit])
        mine.execute("INSERT INTO theirs VALUES (1)")
        assert mine.in_transaction
        assert ids(mine) == [unit.row.id]
        assert ids(other) == []
        mine.execute(end)
        assert ids(other) == ids(mine) == seen
    assert other.execute("SELECT count(*) FROM theirs").fetchone() == (1,)


def test_without_a_transaction_it_is_one_by_itself(connect: Connect) -> None:
    mine, other = connect(), connect()
    unit = insert()
    ForeignConnection(mine).apply([unit])
    assert not mine.in_transaction
    assert ids(other) == [unit.row.id]


def test_pythons_own_way_of_beginning_is_kept(connect: Connect) -> None:
    """A default connection has to be committed after an INSERT, so after an enqueue too."""
    mine, other = connect(isolation_level=""), connect()
    unit = insert()
    for end, seen in ((mine.rollback, []), (mine.commit, [unit.row.id])):
        ForeignConnection(mine).apply([unit])
        assert mine.in_transaction
        assert ids(other) == []
        end()
        assert ids(other) == seen


def test_what_it_began_itself_ends_with_its_error(connect: Connect) -> None:
    """Else a refused enqueue would leave a transaction that nobody knows of."""
    mine, other = connect(isolation_level=""), connect()
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailable, match=r"its `timeout`\): try again"):
        ForeignConnection(mine).apply([insert()])
    assert not mine.in_transaction
    other.execute("ROLLBACK")
    mine.execute(
        "CREATE TRIGGER no BEFORE INSERT ON omniq_task BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    mine.commit()
    with pytest.raises(Exception, match="no"):
        ForeignConnection(mine).apply([insert()])
    assert not mine.in_transaction
    other.execute("INSERT INTO theirs VALUES (1)")  # the turn at writing is free


@pytest.mark.parametrize("autocommit", [True, False])
def test_the_newer_way_of_beginning_is_kept_too(connect: Connect, autocommit: bool) -> None:
    if sys.version_info < (3, 12):
        with pytest.raises(TypeError):
            connect(autocommit=autocommit)
        return
    mine, other = connect(autocommit=autocommit), connect()
    unit = insert()
    ForeignConnection(mine).apply([unit])
    assert mine.in_transaction is not autocommit
    assert ids(other) == ([unit.row.id] if autocommit else [])
    mine.commit()
    assert ids(other) == [unit.row.id]


def test_a_batch_that_fails_leaves_the_transaction_as_it_was(connect: Connect) -> None:
    """The first unit of the batch went in before the second one failed."""
    mine = connect()
    mine.execute(
        "CREATE TRIGGER no BEFORE INSERT ON omniq_task WHEN NEW.name = 'bad' "
        "BEGIN SELECT RAISE(ABORT, 'not this one'); END"
    )
    good, first, bad = insert(), insert(), insert(name="bad", unique=Unique("k"))
    for begin, end in (("BEGIN", "COMMIT"), ("SELECT 1", "SELECT 1")):
        mine.execute(begin)
        ForeignConnection(mine).apply([good])
        with pytest.raises(Exception, match="not this one"):
            ForeignConnection(mine).apply([first, bad])
        assert ids(mine) == [good.row.id]
        mine.execute(end)
    assert ids(connect()) == [good.row.id]


def test_a_transaction_that_an_error_ended_stays_ended(connect: Connect) -> None:
    mine = connect()
    mine.execute(
        "CREATE TRIGGER no BEFORE INSERT ON omniq_task "
        "BEGIN SELECT RAISE(ROLLBACK, 'all of it'); END"
    )
    mine.execute("BEGIN")
    with pytest.raises(Exception, match="all of it"):
        ForeignConnection(mine).apply([insert()])
    assert not mine.in_transaction


def test_the_connection_keeps_what_it_was_set_to(connect: Connect) -> None:
    mine = connect(isolation_level="IMMEDIATE", detect_types=sqlite3.PARSE_DECLTYPES)
    mine.row_factory = sqlite3.Row
    mine.text_factory = bytes
    place = ForeignConnection(mine)
    unit = insert(tags=("a", "b"), unique=Unique("k"), group="g", run_at=1)
    receipt = place.apply([unit, insert(unit.row.id, group="g"), insert(unique=Unique("k"))])
    assert receipt.taken == {2: unit.row.id}
    place.apply([Move(id=unit.row.id, expect=(Status.READY,), patch={"priority": 5})])
    assert place.get_tasks([unit.row.id])[0].tags == ("a", "b")
    assert [t.priority for t in place.find_tasks(TaskFilter(group="g", text="")).rows] == [0, 5]
    assert place.count_tasks()[0].queue == "q"
    mine.commit()
    [found] = mine.execute("SELECT id FROM omniq_task WHERE priority = 5").fetchall()
    assert isinstance(found, sqlite3.Row)
    assert found["id"] == unit.row.id.encode()
    assert (mine.row_factory, mine.text_factory) == (sqlite3.Row, bytes)
    assert mine.isolation_level == "IMMEDIATE"


def test_a_whole_life_goes_through_it(connect: Connect) -> None:
    """As a test does that drains the queue inside its own transaction."""
    mine = connect()
    mine.execute("BEGIN")
    place = ForeignConnection(mine)
    parent = insert(run_at=1, events=(event("x"),))
    child = insert(parent.row.id, run_at=1)
    assert place.apply([parent, child]).outcome == [Applied.APPLIED, Applied.APPLIED]
    for unit in (parent, child):
        claim = Claim(
            owner="w", request=unit.row.id, slots=(Slot("q", "async", 9),), limit=9, lease=30_000
        )
        [task] = place.claim(claim).tasks
        assert task.id == unit.row.id
        held = place.extend("w", 30_000, [HeldTask(task.id, task.epoch, claim.request, b"half")])
        assert held.lost == ()
        place.apply(
            [
                Move(
                    id=task.id,
                    expect=(Status.RUNNING,),
                    fence=Fence(task.epoch, claim.request),
                    to=Status.SUCCEEDED,
                    patch={"keep_until": 2},
                    result=Value(b"done", None),
                    wake="",
                )
            ]
        )
        [result] = place.get_results([task.id])
        assert result.value == b"done"
    assert [e.task for e in place.read_events(EventFilter()).events] == ["x"]
    assert place.sweep() == 2
    mine.execute("ROLLBACK")
    assert ids(mine) == []


def test_missing_and_foreign_tables_are_told_apart(db_path: Path, connect: Connect) -> None:
    mine = connect()
    place = ForeignConnection(mine)
    assert place.tables_version() == NEWEST
    for version, words in ((NEWEST + 1, "newer OmniQ; update"), (NEWEST - 1, "migrate")):
        mine.execute("UPDATE omniq_schema SET version = ?", (version,))
        for call in (place.count_tasks, lambda: place.apply([insert()])):
            with pytest.raises(SchemaError, match=words):
                call()
        assert place.tables_version() == version
    bare = sqlite3.connect(":memory:", isolation_level=None)
    place = ForeignConnection(bare)
    assert place.tables_version() == 0
    for call in (place.count_tasks, lambda: place.apply([insert()])):
        with pytest.raises(SchemaError, match=r"memory has no tables of OmniQ.*manage.py migrate"):
            call()
    assert not bare.in_transaction
    bare.close()


def test_it_takes_its_turn_at_writing_before_it_reads(connect: Connect) -> None:
    """Else it would read, let somebody write, and be told that its turn has passed."""
    mine, other = connect(), connect()
    other.execute("BEGIN IMMEDIATE")
    mine.execute("BEGIN")
    with pytest.raises(StorageUnavailable, match="has been writing for longer"):
        ForeignConnection(mine).apply([insert()])
    other.execute("ROLLBACK")
    unit = insert()
    assert ForeignConnection(mine).apply([unit]).outcome == [Applied.APPLIED]
    mine.execute("COMMIT")
    assert ids(other) == [unit.row.id]


def test_an_empty_batch_takes_its_turn_at_writing(connect: Connect) -> None:
    mine, other = connect(), connect()
    mine.execute("BEGIN")
    ForeignConnection(mine).apply([])
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("INSERT INTO theirs VALUES (1)")
    mine.execute("ROLLBACK")
    other.execute("INSERT INTO theirs VALUES (1)")


def test_a_transaction_that_reads_while_another_writes_is_told_too(connect: Connect) -> None:
    """SQLite does not even wait then."""
    mine, other = connect(timeout=30), connect()
    mine.execute("BEGIN")
    mine.execute("SELECT * FROM theirs").fetchall()
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailable, match=r"longer than.*only read so far.*BEGIN IMMEDIATE"):
        ForeignConnection(mine).apply([insert()])
    other.execute("ROLLBACK")
    mine.execute("ROLLBACK")


def test_a_transaction_that_read_too_early_is_told_what_to_do(connect: Connect) -> None:
    mine, other = connect(), connect()
    mine.execute("BEGIN")
    mine.execute("SELECT * FROM theirs").fetchall()
    other.execute("INSERT INTO theirs VALUES (1)")
    with pytest.raises(StorageUnavailable, match=r"only read so far.*BEGIN IMMEDIATE"):
        ForeignConnection(mine).apply([insert()])
    mine.execute("ROLLBACK")


async def test_the_storage_and_the_connection_see_one_truth(
    db_path: Path, connect: Connect
) -> None:
    mine = connect(timeout=30)
    async with AsyncSQLiteStorage(db_path) as storage:
        unit = insert(run_at=1)
        await storage.apply([unit])
        assert ids(mine) == [unit.row.id]
        mine.execute("BEGIN")
        place = ForeignConnection(mine)
        place.apply([Move(id=unit.row.id, expect=(Status.READY,), to=Status.CANCELLED)])
        assert (await storage.get_tasks([unit.row.id]))[0].status is Status.READY
        mine.execute("COMMIT")
        assert (await storage.get_tasks([unit.row.id]))[0].status is Status.CANCELLED
        assert str(db_path) in place.describe()
        assert place.capabilities.local


async def test_whoever_listens_in_this_process_hears_the_commit(
    db_path: Path, connect: Connect
) -> None:
    """Also right behind a commit of the storage's own, from which it has to be told apart."""
    mine = connect(timeout=30)
    async with AsyncSQLiteStorage(db_path) as storage, storage.listen({"queue:q"}) as ear:
        for _ in range(3):
            await storage.apply([insert(queue="other", run_at=1)])
            ForeignConnection(mine).apply([insert(run_at=1)])
            assert await ear.wait(30) == {"queue:q"}
