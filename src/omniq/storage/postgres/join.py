"""New tasks through a connection of the caller's: asyncpg, psycopg, or SQLAlchemy over them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from omniq.errors import ConfigError, SchemaError
from omniq.models.row import Ms
from omniq.models.units import Applied, Insert, Receipt, Unit
from omniq.storage.base import MakeCall, Put
from omniq.storage.postgres.foreign import insert_call, insert_json, insert_receipt

Run = Callable[[str, str], Awaitable[Any]]
"""Runs a statement with its one parameter; gives the one value it answers."""

_NOT_THERE = frozenset({"42883", "3F000"})
"""SQLSTATE: no such function, no such schema."""


def join(
    connection: Any,
    make_call: MakeCall,
    *,
    namespace: str,
    now: Callable[[], Ms | None],
    apply: Put,
    place: str,
) -> Put:
    """How units are applied there. What is no task goes by `apply`, a connection of ours."""
    run = _runner(connection, make_call)
    call = insert_call(namespace)

    async def insert(units: Sequence[Insert]) -> Receipt:
        try:
            answer = await run(call, insert_json(units, namespace=namespace, now=now()))
        except Exception as error:
            if _sqlstate(error) not in _NOT_THERE:
                raise
            raise SchemaError(
                f"the database connection= is open on has no tables of OmniQ for {place}: is it "
                "the database storage_url (OMNIQ_STORAGE_URL) names? Open the queue on it once"
            ) from error
        return insert_receipt(answer)

    async def put(units: Sequence[Unit]) -> Receipt:
        inserts = {n: unit for n, unit in enumerate(units) if isinstance(unit, Insert)}
        others = [unit for n, unit in enumerate(units) if n not in inserts]
        if others:
            await apply(others)
        receipt = await insert(list(inserts.values()))
        number = list(inserts)
        outcome = [Applied.APPLIED] * len(units)
        for n, what in zip(number, receipt.outcome, strict=True):
            outcome[n] = what
        return Receipt(
            outcome=outcome,
            taken={number[n]: holder for n, holder in receipt.taken.items()},
            missing={number[n]: parents for n, parents in receipt.missing.items()},
            woken=receipt.woken,
        )

    return put


def _runner(connection: Any, make_call: MakeCall) -> Run:
    libraries = {kind.__module__.partition(".")[0] for kind in type(connection).__mro__}
    if "sqlalchemy" in libraries:
        return _sqlalchemy(connection, make_call)
    if "asyncpg" in libraries:
        return lambda sql, value: connection.fetchval(sql.format("$1"), value)
    if "psycopg" in libraries:
        return _psycopg(connection, make_call)
    raise ConfigError(
        f"connection={type(connection).__name__}: give an open connection of asyncpg or psycopg, "
        "or a connection or session of SQLAlchemy over one of them"
    )


def _psycopg(connection: Any, make_call: MakeCall) -> Run:
    from psycopg import AsyncConnection
    from psycopg.rows import tuple_row

    async def answer(sql: str, value: str) -> Any:
        async with connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(sql.format("%s"), [value])
            (found,) = await cursor.fetchone()
            return found

    def ask(sql: str, value: str) -> Any:
        with connection.cursor(row_factory=tuple_row) as cursor:
            (found,) = cursor.execute(sql.format("%s"), [value]).fetchone()
            return found

    if isinstance(connection, AsyncConnection):
        return answer
    return lambda sql, value: make_call(partial(ask, sql, value))


def _sqlalchemy(connection: Any, make_call: MakeCall) -> Run:
    from sqlalchemy import text

    async def answer(sql: str, value: str) -> Any:
        found = await connection.execute(text(sql.format(":tasks")), {"tasks": value})
        return found.scalar_one()

    def ask(sql: str, value: str) -> Any:
        return connection.execute(text(sql.format(":tasks")), {"tasks": value}).scalar_one()

    if iscoroutinefunction(connection.execute):
        return answer
    return lambda sql, value: make_call(partial(ask, sql, value))


def _sqlstate(error: BaseException) -> str | None:
    """What the server called it; SQLAlchemy keeps the driver's error in `orig`."""
    state = getattr(error, "sqlstate", None)
    if state is None and (inner := getattr(error, "orig", None)) is not None:
        return _sqlstate(inner)
    return state
