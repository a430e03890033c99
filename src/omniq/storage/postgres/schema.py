"""Tables and functions: numbered migrations, each applied once under a lock.

Functions carry a version in their names. A released one is never changed: a newer OmniQ adds
others beside it, so workers of both work side by side on the same tables. A migration that an
older OmniQ cannot live with says so in `omniq_schema.oldest`.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

from asyncpg import InsufficientPrivilegeError

from omniq.errors import ConfigError, SchemaError, StorageError
from omniq.storage.postgres.connection import Connection
from omniq.storage.postgres.options import SETTING

VERSION: Final = 1
"""The version of the tables this OmniQ works with."""
FUNCTIONS: Final = ("insert_v1", "move_v1", "apply_v1", "claim_v1", "sweep_v1")

# Plans of functions are made once, often while the tables are still empty, and must be right
# for a million rows: always by index, in the order of the index.
SETTINGS: Final = (
    "SET search_path = pg_catalog SET plan_cache_mode = force_generic_plan SET jit = off "
    "SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off "
    "SET enable_mergejoin = off"
)


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
            if not await _exists(connection, schema):
                await connection.execute(f"CREATE SCHEMA {quoted(schema)}")
            for number in range(have + 1, VERSION + 1):
                await connection.execute(statements(script(number), schema))
            await connection.execute("COMMIT")
        except BaseException:
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
            raise
    except InsufficientPrivilegeError as error:
        raise await _no_rights(connection, schema, place, error) from None


async def version(connection: Connection, schema: str, place: str) -> int:
    """The version of the tables there; 0: none. SchemaError if they are not for us."""
    sql = (
        "SELECT version, oldest, current_setting('server_encoding') FROM "
        f"{quoted(schema)}.omniq_schema ORDER BY version DESC LIMIT 1"
    )
    # Asked of the catalogue itself: a name that was not there before the lock was waited for
    # would be remembered as missing (`to_regclass`), and needs a right this role may lack.
    there = (
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = $1 AND c.relname = 'omniq_schema')"
    )
    if not await connection.fetchval(there, schema):
        return 0
    try:
        row = await connection.fetchrow(sql)
    except InsufficientPrivilegeError as error:
        raise await _no_rights(connection, schema, place, error) from None
    have, oldest = (row[0], row[1]) if row else (0, 0)
    if oldest > VERSION:
        raise SchemaError(
            f"{place} has OmniQ's tables of version {have}, which this OmniQ (version {VERSION}) "
            "cannot use: they were made by a newer OmniQ. Update this one, or give it a database "
            f"or namespace of its own: {SETTING}, namespace (OMNIQ_NAMESPACE)"
        )
    return int(have)


async def _exists(connection: Connection, schema: str) -> bool:
    sql = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)"
    return bool(await connection.fetchval(sql, schema))


async def _no_rights(
    connection: Connection, schema: str, place: str, error: Exception
) -> ConfigError:
    user = quoted(str(await connection.fetchval("SELECT current_user")))
    database = quoted(str(await connection.fetchval("SELECT current_database()")))
    name = quoted(schema)
    return ConfigError(
        f"{place}: the role {user} may not use or make OmniQ's tables ({error}). As a superuser, "
        f"either GRANT CREATE ON DATABASE {database} TO {user}; or CREATE SCHEMA {name} "
        f"AUTHORIZATION {user}; (tables made by another role: GRANT USAGE ON SCHEMA {name} and "
        f"ALL ON ALL TABLES IN SCHEMA {name} TO {user}). Or name another role in {SETTING}"
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
