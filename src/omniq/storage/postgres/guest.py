"""PostgreSQL in a database of somebody else's, who makes the tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self
from urllib.parse import quote, urlencode

from omniq.clock import SYSTEM_CLOCK, Clock
from omniq.errors import SchemaError
from omniq.storage.durability import Durability
from omniq.storage.postgres import schema
from omniq.storage.postgres.connection import Connection, Database
from omniq.storage.postgres.options import LIBPQ
from omniq.storage.postgres.reads import Questions
from omniq.storage.postgres.storage import AsyncPostgresStorage

_NAME: Final = frozenset({"dbname", "database"})


class GuestPostgresStorage(AsyncPostgresStorage):
    """As its base, but it makes no tables: `remedy` says how they are made.

    `setting` is what messages name where the address is wrong, `role` the one to work as, if
    another than the one that logs in.
    """

    def __init__(
        self,
        url: str,
        *,
        remedy: str,
        setting: str,
        role: str = "",
        namespace: str = "default",
        clock: Clock = SYSTEM_CLOCK,
        durability: Durability = "normal",
        pgbouncer: bool | None = None,
    ) -> None:
        super().__init__(
            url, namespace=namespace, clock=clock, durability=durability, pgbouncer=pgbouncer
        )
        self._remedy, self._setting, self._role = remedy, setting, role
        place = self._place
        self._database = Database(self._address, place, self._options, setting=setting, role=role)
        self._questions = Questions(self._database, schema.quoted(self._schema))

    def twin(self) -> Self:
        return type(self)(
            self.url,
            remedy=self._remedy,
            setting=self._setting,
            role=self._role,
            namespace=self.namespace,
            clock=self.clock,
            durability=self._durability,
            **self._more,
        )

    async def _make_tables(self, connection: Connection) -> None:
        have = await schema.version(connection, self._schema, self._place, self._setting)
        if have < schema.VERSION:
            what = f"tables of version {have}, this OmniQ needs {schema.VERSION}"
            raise SchemaError(
                f"{self._place} has {what if have else 'no tables'} of OmniQ: {self._remedy}"
            )


def address(params: Mapping[str, Any]) -> str:
    """The URL of a connection whose parameters are given as libpq has them.

    Those that asyncpg has no use for (timeouts, how passwords are sent) are left out.
    """
    given = {name: str(value) for name, value in params.items() if value not in (None, "")}
    name = given.get("dbname") or given.get("database") or ""
    rest = {key: given[key] for key in sorted(given) if key in LIBPQ and key not in _NAME}
    if "host" not in rest and "hostaddr" in given:
        rest["host"] = given["hostaddr"]
    return f"postgresql:///{quote(name, safe='')}?{urlencode(rest)}"
