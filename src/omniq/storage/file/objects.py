"""Object stores through obstore: S3, Google Cloud Storage, Azure, local directories, memory."""

from __future__ import annotations

import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from threading import Event, Thread
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import LocalStore, MemoryStore, from_url

from omniq.config.masking import mask_url
from omniq.errors import ConfigError, StorageError, StorageUnavailable
from omniq.models.row import Ms

T = TypeVar("T")

CONFLICTS: Final = 6
"""How often a create that met another one under way (409) is sent again."""
DEAD_AFTER: Final = 5.0
"""Seconds without an answer about a file of this machine."""
_CLIENT: Final = frozenset(
    {"allow_http", "allow_invalid_certificates", "connect_timeout", "default_headers"}
    | {"http1_only", "http2_only", "pool_idle_timeout", "pool_max_idle_per_host", "proxy_url"}
    | {"proxy_ca_certificate", "proxy_excludes", "read_timeout", "root_certificate", "timeout"}
    | {"user_agent"}
)
"""Options of the HTTP client and not of the store."""
_LATER: Final = (408, 409, 425, 429)
_TRUTHS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")
_STATUS: Final = re.compile(r"\b([45]\d\d) [A-Z][a-z]")
_WRONG: Final = {
    "InvalidAccessKeyId": "the access key is unknown",
    "SignatureDoesNotMatch": "the secret key does not fit the access key",
    "AccessDenied": "these credentials have no right to do this",
    "ExpiredToken": "the session token has expired",
    "NoSuchBucket": "there is no such bucket",
    "AuthorizationHeaderMalformed": "the region is another one",
    "PermanentRedirect": "the bucket is in another region",
    "InvalidBucketName": "this is no name for a bucket",
    "RequestTimeTooSkewed": "this machine's clock is wrong by minutes",
}
_memory: dict[str, MemoryStore] = {}
_used_in: int | None = None


class ObstoreKeys:
    """Keys in an obstore store, asked by its blocking calls (its own `async` ones cost more)."""

    def __init__(self, store: Any, place: str, root: str) -> None:
        self._store = store
        self._root = root
        self.place = place
        self.bulk = True
        self.remote = not isinstance(store, LocalStore | MemoryStore)

    @classmethod
    def at(cls, uri: str, root: str, options: Mapping[str, Any]) -> ObstoreKeys:
        """Keys below `root` at a URI; `options` as in `AsyncFileStorage`."""
        global _used_in
        if _used_in not in (None, os.getpid()) or not _alive():
            raise StorageError(
                "obstore was used before this process was forked, and would hang here. Start "
                "processes by 'spawn' or 'forkserver', or open the storage after the fork only"
            )
        _used_in = os.getpid()
        place = mask_url(uri)
        if uri.startswith("memory:"):
            return cls(_memory.setdefault(uri, MemoryStore()), place, root)
        if uri.startswith("file:"):
            _refuse_options(options)
            return cls(_told(lambda: _directory(uri), place), place, root)
        config, client = _sorted_options(options)
        retry = config.pop("retry_config", None) or {
            "max_retries": 4,
            "retry_timeout": timedelta(seconds=20),
        }
        client = {"timeout": "20s", "connect_timeout": "5s"} | client
        make: Callable[..., Any] = from_url  # whose types know each store's options by name
        store = _told(lambda: make(uri, client_options=client, retry_config=retry, **config), place)
        return cls(store, place, root)

    def create(self, key: str, data: bytes) -> bool:
        for tried in range(CONFLICTS):
            try:
                self._ask(obstore.put, self._path(key), data, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                if not _conflict(error):
                    return False
            else:
                return True
            # Another create of this key is under way: nobody has won yet.
            time.sleep(random.uniform(0, 0.02 * 2**tried))
        raise StorageUnavailable(f"{self.place}: other writers are always under way at {key}")

    def write(self, key: str, data: bytes) -> None:
        self._ask(obstore.put, self._path(key), data, use_multipart=False)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes | None:
        try:
            if offset == 0 and length is None:
                return bytes(self._ask(obstore.get, self._path(key)).bytes())
            if length is None:
                part = {"range": {"offset": offset}}
                return bytes(self._ask(obstore.get, self._path(key), options=part).bytes())
            return bytes(self._ask(obstore.get_range, self._path(key), start=offset, length=length))
        except FileNotFoundError:
            return None

    def below(self, folder: str) -> list[str]:
        cut = len(self._root) + 1
        return [
            entry["path"][cut:]
            for chunk in self._listing(self._path(folder) if folder else self._root)
            for entry in chunk
        ]

    def folders(self, folder: str) -> list[str]:
        found = self._ask(obstore.list_with_delimiter, self._path(folder))
        return [path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"]]

    def delete(self, keys: Sequence[str]) -> None:
        paths = [self._path(key) for key in keys]
        try:
            if paths:
                self._ask(obstore.delete, paths)
        except FileNotFoundError:  # some places stop at the first that is not there
            for path in paths:
                try:
                    self._ask(obstore.delete, path)
                except FileNotFoundError:
                    continue

    def modified(self, key: str) -> Ms | None:
        try:
            meta = self._ask(obstore.head, self._path(key))
        except FileNotFoundError:
            return None
        return int(meta["last_modified"].timestamp() * 1000)

    def _listing(self, path: str) -> list[Any]:
        return _told(lambda: list(obstore.list(self._store, path)), self.place)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _ask(self, ask: Callable[..., T], *args: Any, **options: Any) -> T:
        writes = ask is obstore.put  # where what is not found can only be the bucket
        return _told(lambda: ask(self._store, *args, **options), self.place, writes=writes)


def _told(ask: Callable[[], T], place: str, *, writes: bool = False) -> T:
    """Ask, and say what went wrong in words of our own: the driver's may hold credentials."""
    try:
        return ask()
    except AlreadyExistsError:
        raise
    except FileNotFoundError as error:
        if not writes and "NoSuchBucket" not in str(error):
            raise
        told: Exception = _explained(error, place)
    except (BaseError, OSError, ValueError, TypeError) as error:
        told = _explained(error, place)
    raise told


def _explained(error: Exception, place: str) -> StorageError | ConfigError:
    text = str(error)
    code = found[1] if (found := _CODE.search(text)) else ""
    setting = "Check storage_url, obstore_uri (OMNIQ_OBSTORE_URI) and storage_options"
    if isinstance(error, UnknownConfigurationKeyError | TypeError):
        key = re.search(r"key: '(\w{1,64})'", text)
        what = f" {key[1]!r}" if key else ""
        return ConfigError(f"storage_options: the store at {place} knows no option{what}")
    if code in _WRONG:
        return ConfigError(f"{place}: {_WRONG[code]} ({code}). {setting}")
    if isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError):
        return ConfigError(f"{place}: these credentials are refused. {setting}")
    if isinstance(error, FileNotFoundError):
        return ConfigError(f"{place}: there is no such bucket or directory. {setting}")
    if isinstance(error, InvalidPathError | ValueError) or "Unable to recognise URL" in text:
        return ConfigError(f"{place} is no URI obstore knows. {setting}")
    if "builder error" in text and "BadScheme" in text:
        return ConfigError(
            f"{place}: the endpoint is http and not https. Set storage_options allow_http"
        )
    if "incorrectly configured region" in text or "status code 301" in text:
        return ConfigError(f"{place}: the bucket is in another region. {setting}")
    if "No space left on device" in text or "os error 28" in text:
        return StorageUnavailable(
            f"{place} has no space left: what was acknowledged is safe, and it goes on when "
            "there is space again"
        )
    if any(words in text for words in ("Permission denied", "Read-only file system")):
        return ConfigError(f"{place} cannot be written by this user. {setting}")
    status = int(found[1]) if (found := _STATUS.search(text)) else 0
    why = f"{status} {code}".rstrip() if status else "no answer"
    if status in (401, 403):
        return ConfigError(f"{place}: no credentials, or they are refused ({why}). {setting}")
    if 400 <= status < 500 and status not in _LATER:
        return ConfigError(f"{place} refuses it: {why}. {setting}")
    return StorageUnavailable(f"{place} does not answer as it should: {why}. {setting}")


def _alive() -> bool:
    """Whether obstore answers at all: its threads do not come along when a process forks."""
    done = Event()

    def ask() -> None:
        with suppress(FileNotFoundError):
            obstore.head(LocalStore(tempfile.gettempdir()), "omniq-none")
        done.set()

    Thread(target=ask, daemon=True, name="omniq-obstore").start()
    return done.wait(DEAD_AFTER)


def _conflict(error: AlreadyExistsError) -> bool:
    """Whether S3 says 409: two creates at once. Azure says 409 of a blob that is there."""
    return "ConditionalRequestConflict" in str(error)


def _directory(uri: str) -> LocalStore:
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise ValueError(uri)
    return LocalStore.from_url(f"file://{parts.path}", mkdir=True)


def _refuse_options(options: Mapping[str, Any]) -> None:
    if options:
        raise ConfigError(f"storage_options: a directory has no option {min(options)!r}")


def _sorted_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the store, and those of its HTTP client; words of a URL become truths."""
    config = dict(options)
    client = dict(config.pop("client_options", None) or {})
    for key in tuple(config):
        if key.lower() in _CLIENT:
            client[key.lower()] = config.pop(key)
    for key in ("allow_http", "allow_invalid_certificates", "http1_only", "http2_only"):
        if isinstance(word := client.get(key), str):
            client[key] = _TRUTHS.get(word.lower(), word)
    return config, client
