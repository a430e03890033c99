"""Where the servers are and who asks: a URL and options, read once and never shown whole."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from msgspec import Struct

from omniq.errors import ConfigError, UnknownOption

SCHEMES: Final = ("nats", "tls", "ws", "wss")
OPTIONS: Final = (
    *("user", "password", "token", "creds", "nkey"),
    *("tls_ca", "tls_cert", "tls_key", "tls_hostname"),
    *("domain", "replicas", "sync"),
)
"""What may stand in the URL's query as well as in the constructor's call."""

_DOMAIN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HINT: Final = "write nats://host:4222, or nats://one:4222,two:4222,three:4222 for a cluster"


class Address(Struct, frozen=True, kw_only=True):
    """The servers of a cluster, and how to be let in."""

    servers: tuple[str, ...]
    """URLs without credentials."""
    user: str | None = None
    password: str | None = None
    token: str | None = None
    creds: str | None = None
    """A credentials file (JWT and seed), as `nsc` writes it."""
    nkey: str | None = None
    """A file with an nkey seed."""
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_hostname: str | None = None
    domain: str | None = None
    """The JetStream domain, where streams live behind a leaf node."""
    replicas: int | None = None
    """Copies of each stream; None: three in a cluster that has them, else one."""
    sync: str | None = None
    """"always" if the servers' `sync_interval` is: no client can ask them."""

    def __repr__(self) -> str:
        return f"<Address {self.shown}>"

    @property
    def shown(self) -> str:
        """The servers, for people."""
        first, *others = self.servers
        return ",".join([first, *(server.partition("://")[2] for server in others)])

    def connecting(self) -> dict[str, Any]:
        """What the driver wants to know of it, ConfigError where a file cannot be read."""
        for name in ("creds", "nkey", "tls_ca", "tls_cert", "tls_key"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise ConfigError(f"NATS: {name} names {path!r}, which is no file")
        # The driver would look for these lines beyond the end of the file, for ever.
        if self.creds is not None and not _holds(self.creds, b"NATS USER JWT", b"NKEY SEED"):
            raise ConfigError(f"NATS: creds names {self.creds!r}, which is no credentials file")
        return {
            "servers": list(self.servers),
            "user": self.user,
            "password": self.password,
            "token": self.token,
            "user_credentials": self.creds,
            "nkeys_seed": self.nkey,
            "tls": self._tls(),
            "tls_hostname": self.tls_hostname,
        }

    def _tls(self) -> ssl.SSLContext | None:
        if not (self.tls_ca or self.tls_cert):
            return None
        try:
            context = ssl.create_default_context(cafile=self.tls_ca)
            if self.tls_cert:
                context.load_cert_chain(self.tls_cert, self.tls_key)
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(
                f"NATS: the files of tls_ca, tls_cert and tls_key do not fit together ({error})"
            ) from None
        return context


def read_address(url: str, options: Mapping[str, Any]) -> Address:
    """An address from `nats://user:password@host:port,host:port?option=value` and options.

    What is given as an option wins over the URL. Errors never show the URL: it may hold a
    password.
    """
    head, _, query = url.partition("?")
    servers: list[str] = []
    said: dict[str, Any] = {}
    scheme = ""
    for part in filter(None, (piece.strip() for piece in head.split(","))):
        whole = part if "://" in part else f"{scheme or 'nats'}://{part}"
        split = _split(whole)
        scheme = scheme or split.scheme
        if split.scheme != scheme:
            raise ConfigError(f"storage_url mixes {scheme}:// and {split.scheme}://: use one")
        if split.username is not None:
            name, password = unquote(split.username), split.password
            mine = (
                {"token": name}
                if password is None
                else {"user": name, "password": unquote(password)}
            )
            if any(said.get(key, value) != value for key, value in mine.items()):
                raise ConfigError("storage_url gives its servers different credentials: give one")
            said |= mine
        servers.append(_server(split))
    if not servers:
        raise ConfigError(f"storage_url names no server: {_HINT}")
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in OPTIONS:
            raise UnknownOption(name, OPTIONS, where="storage_url of NATS")
        said[name] = value
    said |= {name: value for name, value in options.items() if value is not None}
    return _checked(servers, said)


def _checked(servers: list[str], said: Mapping[str, Any]) -> Address:
    replicas, sync, domain = said.get("replicas"), said.get("sync"), said.get("domain")
    if replicas is not None:
        text = str(replicas)
        if not text.isdecimal() or not 1 <= int(text) <= 5:
            raise ConfigError(f"replicas is a number from 1 to 5 for NATS, not {text!r}")
        replicas = int(text)
    if sync not in (None, "always"):
        raise ConfigError(
            f"sync says what the servers do and can only be 'always' for NATS, not {sync!r}"
        )
    if domain is not None and not _DOMAIN.fullmatch(domain):
        raise ConfigError(f"domain is a name of A-Z a-z 0-9 _ - for NATS, not {domain!r}")
    ways = [way for way in ("user", "token", "creds", "nkey") if said.get(way)]
    if len(ways) > 1:
        raise ConfigError(f"NATS is given {' and '.join(ways)}: one of them is enough")
    for one, other in (("user", "password"), ("tls_cert", "tls_key")):
        if bool(said.get(one)) != bool(said.get(other)):
            raise ConfigError(f"NATS needs {one} and {other} together")
    texts = {
        name: str(said[name])
        for name in OPTIONS
        if name != "replicas" and said.get(name) is not None
    }
    return Address(servers=tuple(servers), replicas=replicas, **texts)


def _split(whole: str) -> SplitResult:
    try:
        split = urlsplit(whole)
        _ = split.port
    except ValueError:
        raise ConfigError(f"storage_url has a host or port that cannot be: {_HINT}") from None
    if split.scheme not in SCHEMES:
        raise ConfigError(f"storage_url of NATS begins with one of {', '.join(SCHEMES)}: {_HINT}")
    if not split.hostname:
        raise ConfigError(f"storage_url names no host: {_HINT}")
    if split.path not in ("", "/") and split.scheme in ("nats", "tls"):
        raise ConfigError(
            "storage_url of NATS has no path: installations are kept apart by `namespace`"
        )
    return split


def _server(split: SplitResult) -> str:
    host = split.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = split.port or {"ws": 80, "wss": 443}.get(split.scheme, 4222)
    return f"{split.scheme}://{host}:{port}{split.path.rstrip('/')}"


def _holds(path: str, *marks: bytes) -> bool:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"NATS: {path!r} cannot be read ({error.strerror})") from None
    return all(mark in content for mark in marks)
