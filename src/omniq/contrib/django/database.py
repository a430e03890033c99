"""Tasks in a database of Django's: which one `OMNIQ["DATABASE"]` means, and both ways into it.

`within()` goes through Django's own connection, in the transaction that is open there.
`native_storage()` is for those who wait, workers and dashboards: a connection of OmniQ's own to
the same database. What a kind of database needs for both is one entry of `VENDORS`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from omniq.backend import create_stores
from omniq.config import load_config
from omniq.contrib.django import postgres
from omniq.contrib.django.conf import (
    DjangoSettings,
    Overlay,
    django_settings,
    overlaid,
    overlay,
)
from omniq.errors import ConfigError, did_you_mean
from omniq.models.config import OmniQConfig
from omniq.queue.engine import Engine
from omniq.storage.base import AsyncStorage
from omniq.storage.durability import Durability
from omniq.storage.sqlite import migrate as sqlite_tables
from omniq.storage.sqlite.foreign import ForeignConnection
from omniq.storage.sqlite.guest import GuestSQLiteStorage
from omniq.within import Place, Within, engine_for


class TablesPlace(Place, Protocol):
    """A place that can say what its tables lack."""

    def missing(self, upto: int = ...) -> list[str]: ...


class Vendor(NamedTuple):
    """What one kind of database needs."""

    place: Callable[[BaseDatabaseWrapper, str], TablesPlace]
    """Django's connection, which is open, as a place for a namespace."""
    storage: Callable[[BaseDatabaseWrapper, str, Durability], AsyncStorage]
    """OmniQ's own way to the same database."""
    lacks: Callable[[], str | None]
    """What must be installed first; None: nothing."""
    local: bool
    """Whether it is on this machine."""
    blocks: Callable[[BaseDatabaseWrapper], bool]
    """Whether no task can end while Django's connection is as it is."""
    begins_late: Callable[[BaseDatabaseWrapper], bool]
    """Whether transactions that read before they write may be refused the write."""
    script: Callable[[Collection[str], int], list[str]]
    """The statements that make the tables of some namespaces in a version, from nothing."""
    drop: Callable[[Collection[str]], list[str]]
    empty: Callable[[Collection[str]], list[str]]


def within() -> Within:
    """The queue as part of the transaction that is open on Django's connection, in this thread.

    To be asked for anew at each use. Raises TransactionManagementError if an error has broken
    the transaction, as every query there would.
    """
    alias = _alias()
    vendor = vendor_of(alias)
    connection = connections[alias]
    with connection.cursor():  # opens it, where Django lets queries be made at all
        connection.validate_no_broken_transaction()
    place = vendor.place(connection, _config().namespace)
    return Within(_engine(place), place)


def cannot_wait() -> bool:
    """Whether a wait for a result, in this thread and now, would never end."""
    alias = _alias()
    return vendor_of(alias).blocks(connections[alias])


def native_storage(alias: str, durability: Durability = "normal") -> AsyncStorage:
    """The storage on a database of Django's, not yet open.

    Its name is that of this moment: test runners rename databases.
    """
    vendor = vendor_of(alias)
    return vendor.storage(connections[alias], _config().namespace, durability)


def trouble(alias: str) -> str | None:
    """Why tasks cannot be kept in the database of this alias; None: they can."""
    known = list(connections)
    if alias not in known:
        return f'OMNIQ["DATABASE"] is {alias!r}, which DATABASES does not have' + did_you_mean(
            alias, known
        )
    vendor = connections[alias].vendor
    if vendor not in VENDORS:
        return (
            f'OMNIQ["DATABASE"] is {alias!r}, a database of the kind {vendor!r}: OmniQ keeps tasks '
            f"in {', '.join(sorted(VENDORS))}. Name another alias, or leave DATABASE out: tasks then "
            "have a store of their own (STORAGE_URL), and ENQUEUE_ON_COMMIT makes them wait for "
            "your commit"
        )
    if (lacks := VENDORS[vendor].lacks()) is not None:
        return f'OMNIQ["DATABASE"] is {alias!r}, a database of the kind {vendor!r}: {lacks}'
    return None


def vendor_of(alias: str) -> Vendor:
    """What the database of an alias needs; raises ImproperlyConfigured."""
    if (why := trouble(alias)) is not None:
        raise ImproperlyConfigured(why)
    return VENDORS[connections[alias].vendor]


def refuse_place(read: DjangoSettings, config: OmniQConfig) -> None:
    """Raise what would be wrong when tasks are first kept there. Nothing is opened."""
    if read.database is not None:
        vendor_of(read.database)
        return
    create_stores(config)


def begins_late(alias: str) -> bool:
    """Whether an enqueue may fail because its transaction has read before; for `check`."""
    return vendor_of(alias).begins_late(connections[alias])


def is_local(alias: str) -> bool:
    """Whether the database of an alias is on this machine."""
    return vendor_of(alias).local


def aliases() -> set[str]:
    """The databases that keep tasks: of `OMNIQ`, and of tasks backends that name their own."""
    return {alias for alias, _ in _named()}


def namespaces(alias: str) -> list[str]:
    """The namespaces that have tasks in a database."""
    return sorted({namespace for name, namespace in _named() if name == alias})


def _named() -> Iterator[tuple[str, str]]:
    if (alias := django_settings().database) is not None:
        yield alias, _config().namespace
    for backend in (getattr(settings, "TASKS", None) or {}).values():
        options = backend.get("OPTIONS") or {}
        if not isinstance(options, Mapping) or not {"DATABASE", "NAMESPACE"}.intersection(options):
            continue
        try:
            with overlaid(Overlay.of(options)):
                alias, namespace = django_settings().database, _config().namespace
        except (ImproperlyConfigured, ConfigError):  # not ours, or wrong, which the checks say
            alias, namespace = options.get("DATABASE"), _config().namespace
        if alias:
            yield alias, namespace


def remedy(alias: str) -> str:
    """The command that makes the tables there."""
    which = "" if alias == DEFAULT_DB_ALIAS else f" --database {alias}"
    return f"run `manage.py migrate{which}`"


def _alias() -> str:
    alias = django_settings().database
    if alias is None:
        raise ConfigError('OMNIQ["DATABASE"] is not set: tasks have a store of their own')
    return alias


_engines: dict[tuple[str, str], tuple[OmniQConfig, Engine]] = {}
_configs: dict[str, tuple[DjangoSettings, OmniQConfig]] = {}


def _config() -> OmniQConfig:
    """OmniQ's own configuration, read once for the settings that hold."""
    held, key = django_settings(), overlay().name
    known = _configs.get(key)
    if known is None or known[0] is not held:
        known = _configs[key] = (held, load_config(held.omniq))
    return known[1]


def _engine(place: Place) -> Engine:
    """The rules, worked out once for the settings that hold and what the place is."""
    config, key = _config(), (overlay().name, place.capabilities.durability)
    known = _engines.get(key)
    if known is None or known[0] is not config:
        known = _engines[key] = (config, engine_for(config, place.capabilities))
    return known[1]


# ---- SQLite


def _sqlite_place(connection: BaseDatabaseWrapper, namespace: str) -> TablesPlace:
    return ForeignConnection(connection.connection, remedy=remedy(connection.alias))


def _sqlite_storage(
    connection: BaseDatabaseWrapper, namespace: str, durability: Durability
) -> AsyncStorage:
    alias, name = connection.alias, connection.settings_dict["NAME"]
    if _in_memory(connection, name):
        raise ConfigError(
            f"the database {alias!r} is in memory, as SQLite's test databases are, where only the "
            "connection that made it sees it: no worker, dashboard or wait for a result can. In "
            "a test, run what was enqueued with drain(), or give the test database a file: "
            f"DATABASES[{alias!r}]['TEST'] = {{'NAME': BASE_DIR / 'test.sqlite3'}}"
        )
    return GuestSQLiteStorage(_sqlite_path(name), remedy=remedy(alias), durability=durability)


def _sqlite_blocks(connection: BaseDatabaseWrapper) -> bool:
    """There is one writer: a transaction keeps workers from settling what they have run."""
    name = connection.settings_dict["NAME"]
    return connection.in_atomic_block or _in_memory(connection, name)


def _sqlite_begins_late(connection: BaseDatabaseWrapper) -> bool:
    options = connection.settings_dict.get("OPTIONS") or {}
    mode = options.get("transaction_mode") or "DEFERRED"
    return str(mode).upper() == "DEFERRED"


def _in_memory(connection: Any, name: str | Path) -> bool:
    return bool(connection.creation.is_in_memory_db(name))


def _sqlite_path(name: str | Path) -> Path:
    """Django opens names as URIs where they look like one."""
    text = str(name)
    return Path(unquote(urlsplit(text).path) if text.startswith("file:") else text)


# ---- PostgreSQL


def _postgres_place(connection: BaseDatabaseWrapper, namespace: str) -> TablesPlace:
    return postgres.place(connection, namespace, remedy(connection.alias))


def _postgres_storage(
    connection: BaseDatabaseWrapper, namespace: str, durability: Durability
) -> AsyncStorage:
    return postgres.storage(connection, namespace, remedy(connection.alias), durability)


VENDORS = {
    "sqlite": Vendor(  # one file is one namespace
        place=_sqlite_place,
        storage=_sqlite_storage,
        lacks=lambda: None,
        local=True,
        blocks=_sqlite_blocks,
        begins_late=_sqlite_begins_late,
        script=lambda _, upto: sqlite_tables.script(0, upto),
        drop=lambda _: sqlite_tables.drop(),
        empty=lambda _: sqlite_tables.empty(),
    ),
    "postgresql": Vendor(
        place=_postgres_place,
        storage=_postgres_storage,
        lacks=postgres.lacks,
        local=False,
        blocks=postgres.blocks,
        begins_late=lambda _: False,
        script=postgres.script,
        drop=postgres.drop,
        empty=postgres.empty,
    ),
}
"""Where tasks can be kept, by `connection.vendor`."""
