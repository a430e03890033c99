"""Tables and functions: numbered migrations, each applied once under a lock.

Functions carry a version in their names. A released one is never changed: a newer OmniQ adds
others beside it, so workers of both work side by side on the same tables. A migration that an
older OmniQ cannot live with says so in `omniq_schema.oldest`.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final, Protocol

from asyncpg import InsufficientPrivilegeError

from omniq.errors import ConfigError, SchemaError, StorageError
from omniq.storage.postgres.connection import Connection
from omniq.storage.postgres.options import SETTING

VERSION: Final = 1
"""The version of the tables this OmniQ works with."""
FUNCTIONS: Final = ("insert_v1", "move_v1", "apply_v1", "claim_v1", "sweep_v1")
TABLES: Final = ("task", "result", "event", "doc", "edge", "uniq", "owner")
"""Where tasks and what belongs to them are kept."""

# Plans of functions are made once, often while the tables are still empty, and must be right
# for a million rows: always by index, in the order of the index. A table that VACUUM has found
# empty is even taken for one row until the next ANALYZE, and walking an index for as cheap as
# looking something up. So functions match rows by `id BETWEEN x AND x` and lock them in the
# order of `id || ''`: an index that offers no order to merge or to sort by is not walked. What a
# partial index holds alone is asked for one row at a time (`(SELECT ... LIMIT 1)`), or in words its
# condition does not follow from (`open IS NOT FALSE`).
SETTINGS: Final = (
    "SET search_path = pg_catalog SET plan_cache_mode = force_generic_plan SET jit = off "
    "SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off "
    "SET enable_mergejoin = off"
)


class Asked(Protocol):
    """Who can be asked, be it asyncpg or not."""

    async def fetchrow(self, sql: str, /, *args: Any) -> Any:
        """The first row, if there is one."""

    async def fetchval(self, sql: str, /, *args: Any) -> Any:
        """The first field of the first row, if there is one."""


def script(number: int) -> str:
    """The text of one migration, with the functions that come with it."""
    folder = files(__package__)
    [migration] = [
        f for f in folder.joinpath("migrations").iterdir() if f.name.startswith(f"{number:04d}_")
    ]
    texts = [migration.read_text()]
    if number == 1:
        texts += [folder.joinpath("functions", f"{name}.sql").read_text() for name in FUNCTIONS]
    return "\n".join(texts)


def statements(text: str, schema: str) -> str:
    """A text for one schema."""
    return text.replace("{schema}", quoted(schema)).replace("{settings}", SETTINGS)


def steps(schema: str, have: int = 0, upto: int = VERSION) -> list[str]:
    """The texts that lead from one version of the tables to another; each is many statements."""
    return [statements(script(number), schema) for number in range(have + 1, upto + 1)]


def create(schema: str) -> str:
    """The statement that makes the schema itself."""
    return f"CREATE SCHEMA {quoted(schema)}"


def drop(schema: str) -> str:
    """The statement that removes the tables, and all tasks in them."""
    return f"DROP SCHEMA IF EXISTS {quoted(schema)} CASCADE"


def empty(schema: str) -> str:
    """The statements that remove what is in the tables."""
    return "; ".join(f"DELETE FROM {quoted(schema)}.{table}" for table in TABLES)


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


async def prepare(connection: Connection, schema: str, place: str) -> None:
    """Bring the tables up to date, or see that they are; many processes may do so at once."""
    if await version(connection, schema, place) >= VERSION:
        return
    try:
        await connection.execute("BEGIN")
        try:
            lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
            await connection.fetchval(lock, f"omniq {schema}")
            have = await version(connection, schema, place)
            if not await exists(connection, schema):
                await connection.execute(create(schema))
            for step in steps(schema, have):
                await connection.execute(step)
            await connection.execute("COMMIT")
        except BaseException:
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
            raise
    except InsufficientPrivilegeError as error:
        raise await no_rights(connection, schema, place, error) from None


async def version(connection: Asked, schema: str, place: str, setting: str = SETTING) -> int:
    """The version of the tables there; 0: none. SchemaError if they are not for us."""
    sql = (
        "SELECT version, oldest, current_setting('server_encoding') FROM "
        f"{quoted(schema)}.omniq_schema ORDER BY version DESC LIMIT 1"
    )
    # Asked of the catalogue itself: a name that was not there before the lock was waited for
    # would be remembered as missing (`to_regclass`), and needs a right this role may lack. That
    # is asked, too: a statement that is refused would break a transaction of somebody else.
    readable = (
        "SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relname = 'omniq_schema'"
    )
    may = await connection.fetchval(readable, schema)
    if may is None:
        return 0
    if not may:
        why = f"permission denied for schema {schema}"
        raise await no_rights(connection, schema, place, why, setting)
    row = await connection.fetchrow(sql)
    have, oldest = (row[0], row[1]) if row else (0, 0)
    if oldest > VERSION:
        raise SchemaError(
            f"{place} has OmniQ's tables of version {have}, which this OmniQ (version {VERSION}) "
            "cannot use: they were made by a newer OmniQ. Update this one, or give it a database "
            f"or namespace of its own: {setting}, namespace (OMNIQ_NAMESPACE)"
        )
    return int(have)


async def exists(connection: Asked, schema: str) -> bool:
    """Whether the schema is there, with tables or without."""
    sql = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)"
    return bool(await connection.fetchval(sql, schema))


async def no_rights(
    connection: Asked, schema: str, place: str, error: object, setting: str = SETTING
) -> ConfigError:
    """What to do for a role that may not make or use the tables."""
    user = quoted(str(await connection.fetchval("SELECT current_user")))
    database = quoted(str(await connection.fetchval("SELECT current_database()")))
    name = quoted(schema)
    return ConfigError(
        f"{place}: the role {user} may not use or make OmniQ's tables ({error}). As a superuser, "
        f"either GRANT CREATE ON DATABASE {database} TO {user}; or CREATE SCHEMA {name} "
        f"AUTHORIZATION {user}; (tables made by another role: GRANT USAGE ON SCHEMA {name} and "
        f"ALL ON ALL TABLES IN SCHEMA {name} TO {user}). Or name another role in {setting}"
    )


async def server(connection: Connection, place: str) -> dict[str, Any]:
    """What the server says of itself; an old or odd one is refused."""
    names = [
        "server_version_num",
        "server_version",
        "server_encoding",
        "synchronous_commit",
        "fsync",
        "full_page_writes",
        "synchronous_standby_names",
    ]
    found = await connection.fetchrow(
        "SELECT " + ", ".join(f"current_setting('{name}') AS {name}" for name in names)
    )
    assert found is not None
    told = dict(found)
    if int(told["server_version_num"]) < 130000:
        raise StorageError(f"{place}: PostgreSQL {told['server_version']} is too old, 13 is needed")
    if told["server_encoding"] != "UTF8":
        raise ConfigError(
            f"{place}: the database's encoding is {told['server_encoding']}; OmniQ needs one made "
            f"with ENCODING 'UTF8'. Name such a one in {SETTING}"
        )
    return told
