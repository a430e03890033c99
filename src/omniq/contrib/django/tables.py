"""OmniQ's tables in a database of Django's: made by migrations, and made up for by `migrate`.

Only the databases that keep tasks have them. A migration is recorded where it did nothing, too,
so an alias that is configured later gets its tables from the signal behind the next `migrate`.
"""

from __future__ import annotations

from typing import Any

from django.db import connections, transaction
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState

from omniq.contrib.django.conf import under_test
from omniq.contrib.django.database import VENDORS, aliases, namespaces, vendor_of

APP = "omniq"
FIRST = "0001_tables"


class Tables(Operation):
    """Bring OmniQ's tables to a version: one such operation for each .sql file of the storage.

    It changes no model. Backwards, the first one removes the tables with all tasks in them,
    and the others nothing, since an older OmniQ refuses newer tables anyway.
    """

    reduces_to_sql = True
    reversible = True

    def __init__(self, version: int) -> None:
        self.version = version

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Models stay as they are."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        alias = schema_editor.connection.alias
        if alias not in aliases():
            return
        if schema_editor.collect_sql:  # `sqlmigrate` shows all of it, whatever is there
            statements = vendor_of(alias).script(namespaces(alias), self.version)
        else:
            statements = missing(alias, self.version)
        run(schema_editor, statements)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        # Also if that alias keeps no tasks any more, where tables can only be those of Django's.
        connection = schema_editor.connection
        vendor = VENDORS.get(connection.vendor)
        if vendor is not None and self.version == 1:
            run(schema_editor, vendor.drop(namespaces(connection.alias)))

    def describe(self) -> str:
        return f'OmniQ\'s tables, version {self.version}, where OMNIQ["DATABASE"] keeps tasks'


def missing(alias: str, version: int | None = None) -> list[str]:
    """The statements that the tables of an alias lack. Raises SchemaError if they are newer."""
    connection = connections[alias]
    connection.ensure_connection()
    vendor = vendor_of(alias)
    places = [vendor.place(connection, namespace) for namespace in namespaces(alias)]
    upto = () if version is None else (version,)
    return [statement for place in places for statement in place.missing(*upto)]


def run(schema_editor: BaseDatabaseSchemaEditor, statements: list[str]) -> None:
    """Execute statements as they stand, or collect them."""
    for statement in statements:
        # None: no values, so a percent sign means itself. Django's types do not know it.
        schema_editor.execute(statement.strip(), params=None)


def make(alias: str) -> None:
    """Make what the tables of an alias lack."""
    statements = missing(alias)
    if statements:
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            for statement in statements:
                cursor.execute(statement, None)


def empty(alias: str) -> None:
    """Forget every task kept there, if there are tables at all."""
    connection = connections[alias]
    vendor = VENDORS.get(connection.vendor)
    if vendor is None:
        return
    connection.ensure_connection()
    # A server's database may have tasks of others, unless it was made for tests.
    ours = vendor.local or under_test()
    kept = namespaces(alias) or (["default"] if ours else [])
    made = [name for name in kept if vendor.place(connection, name).tables_version()]
    if made:
        with transaction.atomic(using=alias), connection.cursor() as cursor:
            for statement in vendor.empty(made):
                cursor.execute(statement, None)


def after_migrate(*, using: str, **given: Any) -> None:
    """To be connected to `post_migrate` of our app: makes tables, or empties them for `flush`."""
    if "plan" not in given:  # `migrate` says what it did; `flush` has nothing to say
        empty(using)
    elif using in aliases() and _belong_here(using):
        make(using)


def _belong_here(alias: str) -> bool:
    """Whether our migrations are applied there, or switched off (MIGRATION_MODULES)."""
    module, _ = MigrationLoader.migrations_module(APP)
    if module is None:
        return True
    return (APP, FIRST) in MigrationRecorder(connections[alias]).applied_migrations()
