"""What NATS answers when it does not do what it was asked, in words that say what to change."""

from __future__ import annotations

import asyncio
import re
import ssl
from typing import Any, Final

import nats.errors

from omniq.errors import ConfigError, OmniQError, StorageError, StorageUnavailable

WRONG_LAST: Final = frozenset({10071, 10164})
"""Somebody else was first: another segment or object is there."""
NOT_FOUND: Final = frozenset({10037, 10059, 10014})
NO_STREAM: Final = 10059
NO_JETSTREAM: Final = 10076
NO_ROOM_FOR_COPIES: Final = frozenset({10005, 10074, 10023})
"""The cluster has not the peers, or not the room, for so many replicas."""

_FULL: Final = frozenset({10023, 10028, 10046, 10047, 10077, 10122})
_NEVER: Final = {
    10039: "JetStream is not enabled for this account: enable it in the server's configuration "
    "(accounts { NAME { jetstream: enabled } }), or use another account",
    10026: "the account may have no more streams: raise its max_streams (two are needed)",
    10027: "the account may have no more streams: raise its max_streams (two are needed)",
    10025: "the account may have no more consumers: raise its max_consumers",
    10052: "the server refuses the stream's configuration",
    10058: "the stream is there with another configuration",
    10065: "another stream takes the same subjects: use another `namespace`, or remove it",
    10054: "a message is larger than the stream's max_msg_size: raise it",
    10074: "more than one replica needs a cluster: set replicas=1",
    10005: "the cluster has fewer JetStream servers than replicas: set a smaller `replicas`",
}
_AUTH: Final = re.compile(r"authorization|authentication|credential|user jwt|nkey", re.IGNORECASE)
_RIGHTS: Final = re.compile(
    r"permissions violation for (\w+) (?:to|on)? ?\"([^\"]+)\"", re.IGNORECASE
)


class Refused(Exception):
    """The server answered a request with an error. `code` is JetStream's own."""

    def __init__(self, code: int, text: str, status: int) -> None:
        self.code, self.text, self.status = code, text, status
        super().__init__(f"{text} ({code})")


class Denied(Exception):
    """The server lets this user not use a subject."""


class Lost(Exception):
    """The connection ended before the answer came, or there is none."""


FAILURES: Final = (Refused, Denied, Lost, StorageError, TimeoutError, nats.errors.Error)
"""All that may come of a request."""


def refusal(answer: dict[str, Any]) -> Refused | None:
    """The error in an answer of the JetStream API, if it is one."""
    error = answer.get("error")
    if not error:
        return None
    return Refused(
        int(error.get("err_code", 0)), str(error.get("description", "")), int(error.get("code", 0))
    )


def denial(error: BaseException) -> str | None:
    """The subject of a permissions violation; None for another error."""
    match = _RIGHTS.search(str(error))
    return match[2] if match else None


def explain(error: BaseException, where: str) -> OmniQError:
    """An error of ours that says what, why and whether to try again."""
    match error:
        case OmniQError():
            return error
        case Refused():
            return _of_code(error, where)
        case Denied():
            return ConfigError(
                f"{where}: this user may not use the subject {error}: give it the rights on "
                "$JS.API.>, $JS.FC.> and its namespace's subjects, or name another user in "
                "storage_url"
            )
        case nats.errors.NoRespondersError():
            return StorageUnavailable(
                f"{where}: nobody answers for JetStream just now; a leader may be being chosen"
            )
        case TimeoutError() | asyncio.TimeoutError() | nats.errors.TimeoutError():
            return StorageUnavailable(
                f"{where}: no answer in time; it is not known what became of the request"
            )
        case nats.errors.MaxPayloadError():
            return StorageError(f"{where}: a message is larger than the server's max_payload")
        case ssl.SSLError():
            return ConfigError(
                f"{where}: no TLS connection ({_short(error)}): check tls_ca, tls_cert, tls_key and "
                "tls_hostname"
            )
        case _ if _AUTH.search(str(error)):
            return ConfigError(
                f"{where}: the server does not let this user in: check the user, password, token "
                "or credentials file of storage_url (OMNIQ_STORAGE_URL)"
            )
        case Lost() | OSError() | nats.errors.Error():
            return StorageUnavailable(f"{where}: {_short(error)}")
    return StorageError(f"{where}: {_short(error)}")


def _of_code(error: Refused, where: str) -> OmniQError:
    if error.code in _FULL:
        return StorageUnavailable(
            f"{where}: there is no room ({error.text}); nothing acknowledged is lost. Free the "
            "disk, or raise max_bytes of the stream, or the storage limits of the account or "
            "server"
        )
    if error.code == NO_JETSTREAM:
        return StorageUnavailable(
            f"{where}: JetStream is off; a server switches it off when its disk is full, and "
            "must be restarted once there is room. Nothing acknowledged is lost"
        )
    if (reason := _NEVER.get(error.code)) is not None:
        return ConfigError(f"{where}: {reason} ({error.text}, {error.code})")
    if error.status in (500, 503) or error.code in (10008, 10009, 10118, 0):
        return StorageUnavailable(f"{where}: {error.text or 'not available'} ({error.code})")
    return StorageError(f"{where}: {error.text} ({error.code})")


def _short(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text.removeprefix("nats: ").strip("'")
