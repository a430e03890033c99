"""What went wrong, in words for whoever can change it. No credentials, whatever the server said."""

from __future__ import annotations

import re
import ssl
from builtins import TimeoutError as BuiltinTimeout
from typing import Final

from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from omniq.errors import ConfigError, OmniQError, SchemaError, StorageError, StorageUnavailable
from omniq.storage.redis.address import SETTING

_LATER: Final = {
    "LOADING": "it is still loading its data",
    "READONLY": "it is a replica and takes no writes; its master may have changed",
    "MASTERDOWN": "it is a replica without its master",
    "CLUSTERDOWN": "the cluster is down",
    "TRYAGAIN": "the slot is being moved to another node",
    "ASK": "the slot is being moved to another node",
    "MOVED": "the slot is with another node now",
    "BUSY": "it is busy with a script",
    "NOREPLICAS": "it has too few replicas to take writes (min-replicas-to-write)",
    "UNKILLABLE": "it is busy with a script",
    "OOM": (
        "it is full: its memory is over maxmemory. What was acknowledged is kept; raise maxmemory "
        "or wait until tasks have ended and were swept"
    ),
    "MISCONF": (
        "it cannot write to its disk and takes no writes. What was acknowledged is kept; see its "
        "log, and make room"
    ),
}
_LOGIN: Final = ("WRONGPASS", "NOAUTH", "invalid username-password", "invalid password")
_RIGHTS: Final = ("no permissions", "The user executing the script can't")
_FORMAT: Final = "OMNIQ_FORMAT "
_INSIDE: Final = re.compile(r": -(OOM|MISCONF|READONLY|NOREPLICAS|NOPERM) ")


def code_of(error: BaseException) -> str:
    """The first word of a server's answer, where it answered."""
    if not isinstance(error, RedisError):
        return ""
    if known := getattr(error, "status_code", None):
        return str(known)
    text = str(error)
    if inside := _INSIDE.search(text):  # before Redis 7, of a call inside a script
        return inside[1]
    word = text.partition(" ")[0]
    return word if word.isupper() and word.isalpha() else ""


def translate(error: BaseException, where: str) -> OmniQError:
    """The error to raise in place of the driver's."""
    text = str(error)
    code = code_of(error)
    if _FORMAT in text:
        newer = text.partition(_FORMAT)[2].partition(" ")[0]
        return SchemaError(
            f"{where}: the tasks there were written by a newer OmniQ (format {newer}). "
            "Upgrade omniq-tasks in this process, or use another namespace"
        )
    if isinstance(error, AuthenticationError) or any(word in text for word in _LOGIN):
        own = ", or to sentinel_password in its query" if "+sentinel://" in where else ""
        return ConfigError(
            f"{where} refuses the login: user or password is missing or wrong. Set {SETTING} "
            f"to a URL with the right ones, redis://USER:PASSWORD@HOST{own}"
        )
    if (
        isinstance(error, NoPermissionError)
        or code == "NOPERM"
        or any(word in text for word in _RIGHTS)
    ):
        return ConfigError(
            f"{where}: the user of {SETTING} lacks a right: {_right(text)}. OmniQ needs the keys "
            "and channels {omniq:*, and the commands +@scripting +@hash +@sortedset +@set +@list "
            "+@string +@stream +@keyspace +@pubsub +@connection +info +time"
        )
    if code in _LATER:
        return StorageUnavailable(f"{where}: {_LATER[code]}")
    if "DENIED" in text or "protected mode" in text:
        return ConfigError(f"{where} is in protected mode: give it a password, or bind it")
    if "DB index" in text:
        return ConfigError(f"{where} has no database of that number: change {SETTING}")
    if _is_certificate(error):
        return ConfigError(
            f"{where}: its TLS certificate is not trusted. Set ssl_ca_certs in {SETTING} to the "
            "authority's file"
        )
    if isinstance(error, (TimeoutError, BuiltinTimeout)):
        return StorageUnavailable(f"{where} did not answer in time")
    if isinstance(error, (ConnectionError, OSError)):
        return StorageUnavailable(
            f"{where} cannot be reached: {_reason(text)}. Does it run, and is {SETTING} right?"
        )
    if isinstance(error, InvalidResponse):
        return ConfigError(
            f"{where} answers, but not as Redis does: another server listens there, or it wants "
            f"TLS (rediss://). Check {SETTING}"
        )
    if isinstance(error, ResponseError):
        if "unknown command" in text.lower():
            return ConfigError(f"{where} does not know a command OmniQ needs: {text[:80]}")
        return StorageError(f"{where} refused: {text[:300]}")
    return StorageError(f"{where}: {type(error).__name__}")


def _right(text: str) -> str:
    """The part of the server's words that names the right, without the user."""
    for before in ("permissions to ", "script can't "):
        _, found, rest = text.partition(before)
        if found:
            text = f"to {rest}"
    return text[:160].split(" script:")[0]


def _reason(text: str) -> str:
    return (text or "the connection was closed")[:200].rstrip(".")


def _is_certificate(error: BaseException | None) -> bool:
    seen = 0
    while error is not None and seen < 5:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY" in str(error):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False
