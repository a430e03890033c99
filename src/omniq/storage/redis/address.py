"""Where the server is: every form of URL, taken apart; nothing here connects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct
from redis.crc import key_slot

from omniq.config.masking import mask_url
from omniq.errors import ConfigError, did_you_mean

SETTING: Final = "storage_url (OMNIQ_STORAGE_URL)"
_PORTS: Final = {"plain": 6379, "cluster": 6379, "sentinel": 26379}
_SCHEMES: Final = "redis, rediss, valkey, valkeys (each also with +cluster or +sentinel), unix"

Mode = Literal["plain", "cluster", "sentinel"]
Node = tuple[str, int]


class Address(Struct, frozen=True):
    """Which servers to ask, and how to be let in."""

    mode: Mode
    nodes: tuple[Node, ...]
    path: str
    """A unix socket; "" for a network address."""
    tls: bool
    service: str
    """What a Sentinel calls the master."""
    login: Mapping[str, Any]
    """username, password, db."""
    sentinel_login: Mapping[str, Any]
    """The same for the Sentinels themselves, which keep users of their own."""
    tls_options: Mapping[str, Any]
    shown: str
    """For people, without credentials."""


def _flag(text: str) -> bool:
    word = text.lower()
    if word not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        raise ValueError("true or false")
    return word in ("1", "true", "yes", "on")


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 86_400:
        raise ValueError("seconds, more than 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError("a whole number, not negative")
    return value


def _how_strict(text: str) -> str:
    if text not in ("none", "optional", "required"):
        raise ValueError("none, optional or required")
    return text


_TLS: Final[dict[str, Callable[[str], Any]]] = {
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_cert_reqs": _how_strict,
    "ssl_check_hostname": _flag,
}
_LOGIN: Final[dict[str, Callable[[str], Any]]] = {"username": str, "password": str, "db": _count}
_SENTINEL: Final[dict[str, Callable[[str], Any]]] = {
    "sentinel_username": str,
    "sentinel_password": str,
}
_OWN: Final[dict[str, Callable[[str], Any]]] = {"cluster": _flag, "service": str}
OPTIONS: Final[dict[str, Callable[[str], Any]]] = {
    "max_connections": _count,
    "timeout": _seconds,
    "connect_timeout": _seconds,
    "wait_replicas": _count,
    "wait_timeout": _seconds,
}
"""What the storage's constructor takes too."""


def parse(url: str) -> tuple[Address, dict[str, Any]]:
    """An address, and the options of the storage that stood in the query."""
    shown = mask_url(url)
    try:
        parts = urlsplit(url)
        scheme, _, kind = parts.scheme.partition("+")
    except ValueError:
        raise _refuse(shown, "it is no URL") from None
    tls = scheme in ("rediss", "valkeys")
    if scheme not in ("redis", "rediss", "valkey", "valkeys", "unix") or kind not in (
        ("", "cluster", "sentinel") if scheme != "unix" else ("",)
    ):
        raise _refuse(shown, f"it begins with {parts.scheme!r}; known: {_SCHEMES}")
    given = _query(parts.query, shown)
    mode: Mode = "plain"
    if kind == "sentinel":
        mode = "sentinel"
    elif kind == "cluster" or given.pop("cluster", False):
        mode = "cluster"
    given.pop("cluster", None)
    user, hosts = _userinfo(parts.netloc)
    login = user | {name: given.pop(name) for name in tuple(_LOGIN) if name in given}
    path, service = "", given.pop("service", "")
    nodes: tuple[Node, ...] = ()
    if scheme == "unix":
        path = unquote(parts.path)
        if not path:
            raise _refuse(shown, "a unix socket needs a path: unix:///run/redis.sock")
        login.setdefault("db", 0)
    else:
        nodes = _nodes(hosts, _PORTS[mode], shown)
        steps = [unquote(step) for step in parts.path.split("/") if step]
        if mode == "sentinel" and steps and not service:
            service = steps.pop(0)
        login.setdefault("db", _db(steps, shown))
    asking = {
        name.removeprefix("sentinel_"): given.pop(name) for name in _SENTINEL if name in given
    }
    if asking and mode != "sentinel":
        raise _refuse(shown, "its Sentinel login needs a Sentinel: begin with redis+sentinel://")
    if mode == "sentinel" and not service:
        raise _refuse(shown, "a Sentinel URL names the service: redis+sentinel://host:26379/name/0")
    if mode == "cluster" and login["db"]:
        raise _refuse(shown, "a cluster has database 0 only")
    extra = {name: given.pop(name) for name in tuple(_TLS) if name in given}
    if extra and not tls:
        raise _refuse(shown, f"{next(iter(extra))} needs TLS: begin with rediss://")
    address = Address(
        mode=mode,
        nodes=nodes,
        path=path,
        tls=tls,
        service=service,
        login=login,
        sentinel_login=asking,
        tls_options=extra,
        shown=shown,
    )
    return address, given


def check_files(address: Address) -> None:
    """Raise ConfigError for a certificate or key that is not there."""
    for name in ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"):
        path = address.tls_options.get(name)
        if path is not None and not Path(path).exists():
            raise _refuse(address.shown, f"{name} is {path!r}, where there is no file")


def slot_of(key: str) -> int:
    """The slot of a cluster in which a key lies."""
    return int(key_slot(key.encode()))


def _query(query: str, shown: str) -> dict[str, Any]:
    known = _TLS | _LOGIN | _SENTINEL | _OWN | OPTIONS
    given: dict[str, Any] = {}
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise _refuse(shown, f"it has an unknown option {name!r}{did_you_mean(name, known)}")
        try:
            given[name] = known[name](text)
        except ValueError as error:
            told = str(error)
            wants = "a number" if "invalid literal" in told or "could not" in told else told
            raise _refuse(shown, f"its option {name} wants {wants}") from None
    return given


def _userinfo(netloc: str) -> tuple[dict[str, Any], str]:
    info, at, hosts = netloc.rpartition("@")
    if not at:
        return {}, hosts
    name, _, password = info.partition(":")
    login = {"username": unquote(name), "password": unquote(password)}
    return {key: value for key, value in login.items() if value}, hosts


def _nodes(hosts: str, port: int, shown: str) -> tuple[Node, ...]:
    nodes: list[Node] = []
    for one in (hosts or "localhost").split(","):
        try:
            parts = urlsplit(f"//{one}")
            nodes.append((parts.hostname or "localhost", parts.port or port))
        except ValueError:
            raise _refuse(shown, "its port is not a number from 1 to 65535") from None
    return tuple(nodes)


def _db(steps: list[str], shown: str) -> int:
    if not steps:
        return 0
    if len(steps) > 1 or not steps[0].isascii() or not steps[0].isdigit():
        raise _refuse(shown, "behind the host stands the number of a database, as in /0")
    return int(steps[0])


def _refuse(shown: str, why: str) -> ConfigError:
    return ConfigError(f"{SETTING} {shown!r} cannot be used: {why}")
