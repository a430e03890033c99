"""Where a PostgreSQL storage is, from its URL and options: checked before anything connects."""

from __future__ import annotations

import os
import re
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
from msgspec import Struct

from omniq.config.masking import mask_url
from omniq.errors import ConfigError, UnknownOption

SETTING: Final = "storage_url (OMNIQ_STORAGE_URL)"
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_LONGEST: Final = 63  # bytes of a name in PostgreSQL; it would cut longer ones off silently
LIBPQ: Final = frozenset(
    [
        "host",
        "port",
        "dbname",
        "database",
        "user",
        "password",
        "passfile",
        "service",
        "sslmode",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "sslcrl",
        "sslpassword",
        "sslnegotiation",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "target_session_attrs",
        "krbsrvname",
        "gsslib",
        "application_name",
    ]
)
_OURS: Final = {
    "pool_min": int,
    "pool_max": int,
    "listen": bool,
    "pgbouncer": bool,
    "timeout": float,
}
_SECRET: Final = frozenset({"password", "sslpassword"})
_WORDS: Final = {"true": True, "1": True, "yes": True, "on": True}
_WORDS_NOT: Final = {"false": False, "0": False, "no": False, "off": False}


class Options(Struct, frozen=True, kw_only=True):
    """What can be chosen besides the address."""

    pool_min: int = 0
    pool_max: int = 5
    listen: bool = True
    pgbouncer: bool = False
    timeout: float = 30.0

    def __post_init__(self) -> None:
        if not 0 <= self.pool_min <= self.pool_max or self.pool_max < 1:
            raise ConfigError(
                f"pool_min={self.pool_min}, pool_max={self.pool_max}: connections of one process, "
                "0 <= pool_min <= pool_max and at least 1"
            )
        if not 0 < self.timeout <= 3600:
            raise ConfigError(f"timeout={self.timeout}: seconds for one call, up to 3600")


_ready: Final = msgspec.json.Decoder(Options)
"""Made at import: msgspec is not safe where two threads meet a type at the same time."""


def chosen(given: dict[str, Any]) -> Options:
    """Options by name, each of the kind it should be."""
    try:
        return msgspec.convert(given, Options)
    except msgspec.ValidationError as error:
        raise ConfigError(f"an option of the PostgreSQL storage is impossible: {error}") from None


def check_url(url: str) -> str:
    """The URL, if it can be one of PostgreSQL's; ConfigError names the setting."""
    shown = mask_url(str(url))
    try:
        parts = urlsplit(url)
        port = parts.port if "," not in parts.netloc else None
    except (ValueError, TypeError, AttributeError):
        raise _refuse(shown, "it is no URL") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise _refuse(shown, f"its scheme is {parts.scheme or 'missing'!r}")
    if port == 0 or "\0" in url or any(c.isspace() for c in url):
        raise _refuse(shown, "it has a port 0, a space or a control character")
    return url


def split_url(url: str) -> tuple[str, dict[str, Any]]:
    """The address for the driver, and the options of ours that stood in its query."""
    parts = urlsplit(check_url(url))
    theirs: list[tuple[str, str]] = []
    ours: dict[str, Any] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in LIBPQ:
            theirs.append((name, value))
        elif name in _OURS:
            ours[name] = _value(name, value)
        else:
            raise UnknownOption(name, LIBPQ | _OURS.keys(), where=f"{SETTING} of PostgreSQL")
    return urlunsplit(parts._replace(query=urlencode(theirs))), ours


def schema_of(namespace: str) -> str:
    """The schema of a namespace: `omniq` of the default one, `omniq_NAME` of others."""
    if not _NAMESPACE.fullmatch(namespace):
        raise ConfigError(
            f"namespace (OMNIQ_NAMESPACE) is {namespace!r}: use 1 to 64 letters, digits, "
            "'-' and '_'"
        )
    if namespace == "default":
        return "omniq"
    schema = f"omniq_{namespace}"
    if len(schema) > _LONGEST:
        schema = f"{schema[:42]}_{sha256(namespace.encode()).hexdigest()[:20]}"
    return schema


def describe(url: str, schema: str) -> str:
    """The address in words for people: host, database and schema, never a secret."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    # What the URL leaves open the driver takes from libpq's variables.
    host = parts.netloc.rpartition("@")[2] or query.get("host") or _host_of_libpq()
    database = parts.path.lstrip("/") or query.get("dbname") or query.get("database")
    database = database or os.environ.get("PGDATABASE") or "(default)"
    return f"PostgreSQL {host}/{database}, schema {schema}"


def _host_of_libpq() -> str:
    host, port = os.environ.get("PGHOST"), os.environ.get("PGPORT")
    if not host:
        return "local socket"
    return f"{host}:{port}" if port else host


def secrets_of(url: str) -> tuple[str, ...]:
    """What must never be in a message."""
    parts = urlsplit(url)
    found = [value for name, value in parse_qsl(parts.query) if name in _SECRET]
    if parts.password:
        found.append(parts.password)
    return tuple(found)


def _value(name: str, value: str) -> Any:
    kind = _OURS[name]
    try:
        if kind is bool:
            return (_WORDS | _WORDS_NOT)[value.lower()]
        return kind(value)
    except (ValueError, KeyError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}[kind]
        raise ConfigError(f"{name}={value!r} in {SETTING}: {wanted}") from None


def _refuse(shown: str, why: str) -> ConfigError:
    return ConfigError(
        f"{shown!r} is no address of PostgreSQL: {why}. Set {SETTING} to something like "
        "'postgresql://user:password@host:5432/database'"
    )
