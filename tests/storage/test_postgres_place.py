"""The port over a psycopg connection that is somebody else's: it stays theirs in every way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

from omniq.clock import ManualClock
from omniq.errors import ConfigError, SchemaError, StorageError, StorageUnavailable
from omniq.models import Applied, Move, PutEvents, Status, Unique
from omniq.models.filters import EventFilter, TaskFilter
from omniq.queue.engine import announcement
from omniq.storage.postgres import schema
from omniq.storage.postgres.guest import address
from omniq.storage.postgres.options import schema_of, split_url
from omniq.storage.postgres.place import ForeignPostgres
from tests.conformance.kit import LEASE, START, claim, event, finish, held, insert

Connection = psycopg.Connection[Any]
Connect = Callable[..., Connection]
NAMESPACE = f"place{uuid4().hex[:12]}"
QUICK = "SET lock_timeout = '20s'"


@pytest.fixture(scope="module")
def made(postgres_url: str) -> Iterator[str]:
    """The tables of a namespace, and one of the owner of the connections."""
    name = schema.quoted(schema_of(NAMESPACE))
    with psycopg.connect(postgres_url, autocommit=True) as db:
        for statement in ForeignPostgres(db, namespace=NAMESPACE).missing():
            db.execute(statement.encode())
        db.execute(f"CREATE TABLE {name}.theirs (x int)".encode())
        yield postgres_url
        db.execute(schema.drop(schema_of(NAMESPACE)).encode())


@pytest.fixture
def connect(made: str) -> Iterator[Connect]:
    """Connections to that database, as an ordinary program has them."""
    with ExitStack() as stack:
        first = stack.enter_context(psycopg.connect(made, autocommit=True))
        first.execute(schema.empty(schema_of(NAMESPACE)).encode())
        yield lambda **options: stack.enter_context(psycopg.connect(made, **options))


def here(connection: Connection, **options: Any) -> ForeignPostgres:
    return ForeignPostgres(connection, namespace=NAMESPACE, clock=ManualClock(START), **options)


def ids(connection: Connection) -> list[str]:
    return [row.id for row in here(connection).find_tasks(TaskFilter()).rows]


def idle(connection: Connection) -> bool:
    return connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE


@pytest.mark.parametrize("autocommit", [True, False], ids=["BEGIN by hand", "by the driver"])
def test_it_ends_with_the_transaction_it_is_in(connect: Connect, autocommit: bool) -> None:
    mine, other = connect(autocommit=autocommit), connect(autocommit=True)
    unit = insert()
    for end, seen in (("ROLLBACK", []), ("COMMIT", [unit.row.id])):
        if autocommit:
            mine.execute("BEGIN")
        here(mine).apply([unit])
        assert not idle(mine)
        assert ids(mine) == [unit.row.id]
        assert ids(other) == []
        mine.execute(end)
        assert ids(other) == ids(mine) == seen
        mine.commit()


def test_without_a_transaction_it_is_one_by_itself(connect: Connect) -> None:
    mine, other = connect(autocommit=True), connect(autocommit=True)
    unit = insert()
    here(mine).apply([unit])
    assert idle(mine)
    assert ids(other) == [unit.row.id]


def test_the_connection_may_give_other_rows_and_values(connect: Connect) -> None:
    mine = connect(row_factory=dict_row, cursor_factory=psycopg.ClientCursor)
    set_json_loads(lambda text: {"loaded": text}, mine)
    unit = insert(name="100% 'théirs' $1", tags=("a", "b%"))
    place, told = here(mine), event(unit.row.id, data={"x": 1})
    assert place.apply([unit, PutEvents((told,))]).outcome == [Applied.APPLIED] * 2
    [row] = place.get_tasks([unit.row.id])
    assert (row.name, row.tags, row.body) == (unit.row.name, unit.row.tags, unit.row.body)
    assert place.read_events(EventFilter()).events[-1].data == {"x": 1}
    found = mine.execute("SELECT '1'::json AS j").fetchone()
    assert found == {"j": {"loaded": b"1"}} or found == {"j": {"loaded": "1"}}
    mine.rollback()


def test_the_whole_port_in_one_transaction(connect: Connect) -> None:
    mine, other = connect(), connect(autocommit=True)
    place, unit = here(mine), insert()
    child = insert(unit.row.id)
    place.apply([announcement("q"), unit, child])
    assert [doc.key for doc in place.get_docs("queue")] == ["q"]
    [task] = place.claim(claim("me")).tasks
    assert place.extend("me", LEASE, [held(task, b"half")]).lost == ()
    assert place.get_tasks([task.id])[0].progress == b"half"
    end = finish(task)
    assert place.apply([end, insert()]).outcome == [Applied.APPLIED] * 2
    assert place.apply([end]).outcome == [Applied.REFUSED]
    assert [each.value for each in place.get_results([task.id])] == [b"value"]
    assert place.get_tasks([child.row.id])[0].status is Status.READY
    assert {(each.status, each.count) for each in place.count_tasks()} >= {(Status.SUCCEEDED, 1)}
    assert place.sweep() == 0
    assert "in the caller's transactions" in place.describe()
    assert ids(other) == []
    mine.rollback()
    assert ids(mine) == []


def test_what_is_refused_or_fails_leaves_the_transaction_as_it_was(connect: Connect) -> None:
    mine = connect()
    mine.execute(f"INSERT INTO {schema.quoted(schema_of(NAMESPACE))}.theirs VALUES (1)".encode())
    place, first = here(mine), insert(unique=Unique("key"))
    second = insert(unique=Unique("key"))
    place.apply([first])
    assert place.apply([announcement("q"), second]).taken == {1: first.row.id}
    broken = insert()
    with pytest.raises(StorageError, match=r"it refused \(.* out of range for type integer\)"):
        place.apply([insert(), insert(priority=2**40), broken])
    assert ids(mine) == [first.row.id]
    counted = mine.execute(
        f"SELECT count(*) FROM {schema.quoted(schema_of(NAMESPACE))}.theirs".encode()
    )
    assert counted.fetchone() == (1,)
    mine.rollback()


def test_new_tasks_hold_up_nobody(connect: Connect) -> None:
    """Neither those who end a parent, nor those who enqueue into the same queue."""
    mine, other = connect(), connect(autocommit=True)
    other.execute(QUICK)
    parent = insert()
    here(other).apply([announcement("q"), parent])
    child = insert(parent.row.id)
    here(mine).apply([announcement("q"), child])
    assert here(other).apply([announcement("q"), insert()]).outcome[1] is Applied.APPLIED
    cancel = Move(id=parent.row.id, expect=(Status.READY,), to=Status.CANCELLED)
    assert here(other).apply([cancel]).outcome == [Applied.APPLIED]
    mine.commit()
    # Looked at by the next claim: its parent has ended badly meanwhile.
    batch = here(other).claim(claim("me", chores=5))
    assert [row.id for row in batch.chores] == [child.row.id]


def test_workers_are_told_at_the_commit(connect: Connect) -> None:
    mine, listening = connect(), connect(autocommit=True)
    listening.execute(f"LISTEN {schema.quoted(schema_of(NAMESPACE))}".encode())
    unit = insert()
    here(mine).apply([unit])
    here(mine).apply([Move(id=unit.row.id, expect=(Status.READY,), patch={"priority": 5})])
    assert list(listening.notifies(timeout=0)) == []
    mine.commit()
    told = [each.payload for each in listening.notifies(timeout=30, stop_after=2)]
    assert told[0] == f"\nqueue:{unit.row.queue}"
    assert "tasks" in told[1].split("\n")


def test_missing_tables_break_no_transaction(connect: Connect) -> None:
    mine = connect()
    place = ForeignPostgres(mine, namespace="nowhere", remedy="do this")
    for act in (lambda: place.apply([insert()]), place.count_tasks):
        with pytest.raises(SchemaError, match=r"schema omniq_nowhere has no tables of OmniQ: do"):
            act()
        assert mine.execute("SELECT 1").fetchone() == (1,)
    assert place.tables_version() == 0


def test_tables_that_vanish_are_missed(connect: Connect) -> None:
    mine = connect()
    place = ForeignPostgres(mine, namespace=f"{NAMESPACE}_gone", remedy="do this")
    for statement in place.missing():
        mine.execute(statement.encode())
    assert place.missing() == []
    assert place.count_tasks() == []
    mine.execute(schema.drop(schema_of(f"{NAMESPACE}_gone")).encode())
    with pytest.raises(SchemaError, match="do this"):
        place.apply([insert()])
    with pytest.raises(SchemaError, match="has no tables of OmniQ: do this"):
        place.apply([insert()])
    mine.rollback()


def test_a_role_that_may_not_make_tables_is_told_what_to_grant(connect: Connect) -> None:
    owner, role = connect(autocommit=True), f"web_{uuid4().hex[:8]}"
    owner.execute(f"CREATE ROLE {role}".encode())
    ready = schema_of(f"{NAMESPACE}_r")
    owner.execute(f'CREATE SCHEMA "{ready}" AUTHORIZATION {role}'.encode())
    try:
        mine = connect(autocommit=True, options=f"-c role={role}")
        with pytest.raises(ConfigError, match=f'GRANT CREATE ON DATABASE .* TO "{role}"'):
            ForeignPostgres(mine, namespace=f"{NAMESPACE}_x").missing()
        prepared = ForeignPostgres(mine, namespace=f"{NAMESPACE}_r")
        for statement in prepared.missing():
            mine.execute(statement.encode())
        assert prepared.apply([insert()]).outcome == [Applied.APPLIED]
        with pytest.raises(ConfigError, match=f'role "{role}" may not use .* GRANT USAGE'):
            here(mine).apply([insert()])
    finally:
        owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())


def test_a_broken_transaction_says_so(connect: Connect) -> None:
    mine = connect()
    here(mine).count_tasks()
    with pytest.raises(psycopg.Error):
        mine.execute("SELECT 1/0")
    with pytest.raises(StorageUnavailable, match="an earlier error has broken the transaction"):
        here(mine).apply([insert()])
    mine.rollback()
    assert ids(mine) == []


def test_a_lost_connection_says_so(connect: Connect) -> None:
    mine, other = connect(), connect(autocommit=True)
    told: list[bool] = []
    place = here(mine, lost=lambda: told.append(True))
    place.apply([insert()])
    other.execute("SELECT pg_terminate_backend(%s)", [mine.info.backend_pid])
    with pytest.raises(StorageUnavailable) as error:
        place.apply([insert()])
    assert told == [True]
    assert str(urlsplit(mine.info.dsn).password) not in str(error.value)
    assert ids(other) == []


def test_two_that_wait_for_each_other_are_told_to_try_again(connect: Connect) -> None:
    mine, other = connect(isolation_level=None), connect(autocommit=True)
    unit = insert()
    here(other).apply([unit])
    mine.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    assert ids(mine) == [unit.row.id]
    change = Move(id=unit.row.id, expect=(Status.READY,), patch={"priority": 5})
    here(other).apply([change])
    with pytest.raises(StorageUnavailable, match="crossed another one; roll back and try again"):
        here(mine).apply([change])
    mine.rollback()
    assert here(mine).apply([change]).outcome == [Applied.APPLIED]
    mine.rollback()


def test_parameters_of_libpq_become_an_address() -> None:
    url = address(
        {
            "dbname": "sh/op é",
            "user": "me@here",
            "password": "p&%?ss",
            "host": "/run/postgresql,db.example",
            "port": 5433,
            "sslmode": "verify-full",
            "connect_timeout": 5,
            "client_encoding": "UTF8",
            "passfile": "",
            "service": None,
        }
    )
    there, ours = split_url(url)
    parts = urlsplit(there)
    assert ours == {}
    assert parts.path == "/sh%2Fop%20%C3%A9"
    assert {name: value for name, [value] in parse_qs(parts.query).items()} == {
        "user": "me@here",
        "password": "p&%?ss",
        "host": "/run/postgresql,db.example",
        "port": "5433",
        "sslmode": "verify-full",
    }
