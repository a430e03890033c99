"""PostgreSQL as a database of Django's that keeps tasks: what `database.VENDORS` has to know.

Its drivers come with an extra, so they are imported where they are needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.db.backends.base.base import BaseDatabaseWrapper

from omniq.contrib.django.testdb import let_go_before_drop
from omniq.storage.base import AsyncStorage
from omniq.storage.durability import Durability

if TYPE_CHECKING:
    from omniq.storage.postgres.place import ForeignPostgres

_DRIVERS = {
    "psycopg": "Django's connection has to be one of psycopg 3: pip install 'psycopg[binary]'",
    "asyncpg": "workers need asyncpg, which is not installed: pip install 'omniq-tasks[postgres]'",
}


def lacks() -> str | None:
    """What has to be installed first."""
    for module, why in _DRIVERS.items():
        try:
            import_module(module)
        except ModuleNotFoundError:
            return why
    return None


def place(connection: BaseDatabaseWrapper, namespace: str, remedy: str) -> ForeignPostgres:
    """Django's connection, in the transaction that is open there."""
    from omniq.storage.postgres.place import ForeignPostgres

    def lost() -> None:
        connection.errors_occurred = True  # so that Django looks whether it is still good

    return ForeignPostgres(
        connection.connection,
        namespace=namespace,
        remedy=remedy,
        setting=_setting(connection),
        lost=lost,
    )


def storage(
    connection: BaseDatabaseWrapper, namespace: str, remedy: str, durability: Durability
) -> AsyncStorage:
    """A connection of OmniQ's own, with the same address, TLS and role."""
    from omniq.storage.postgres.guest import GuestPostgresStorage, address

    settings: dict[str, Any] = connection.settings_dict
    let_go_before_drop(connection)
    return GuestPostgresStorage(
        address(connection.get_connection_params()),
        remedy=remedy,
        setting=_setting(connection),
        role=settings["OPTIONS"].get("assume_role") or "",
        namespace=namespace,
        durability=durability,
        # Who has a pooler in transaction mode in front has told Django so by this.
        pgbouncer=True if settings.get("DISABLE_SERVER_SIDE_CURSORS") else None,
    )


def blocks(connection: BaseDatabaseWrapper) -> bool:
    """What is enqueued in a transaction is seen by no worker before its commit."""
    return connection.in_atomic_block


def script(namespaces: Iterable[str], upto: int) -> list[str]:
    """The statements that make the tables, from nothing."""
    from omniq.storage.postgres import options, schema

    found = list[str]()
    for name in map(options.schema_of, namespaces):
        found += [schema.create(name), *schema.steps(name, 0, min(upto, schema.VERSION))]
    return found


def drop(namespaces: Iterable[str]) -> list[str]:
    """The statements that remove the tables with all that is in them."""
    from omniq.storage.postgres import options, schema

    return [schema.drop(options.schema_of(name)) for name in namespaces]


def empty(namespaces: Iterable[str]) -> list[str]:
    """The statements that remove what is in the tables."""
    from omniq.storage.postgres import options, schema

    return [schema.empty(options.schema_of(name)) for name in namespaces]


def _setting(connection: BaseDatabaseWrapper) -> str:
    """What messages name."""
    return f"DATABASES[{connection.alias!r}]"
