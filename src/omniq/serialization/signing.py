"""Keys and signatures: keyed BLAKE2b over everything a payload is bound to.

What is signed starts with a domain word and names every field with its length, so no two
bindings share a signature: a payload cannot be moved to another task, queue or field, nor
given another format.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b
from hmac import compare_digest
from pathlib import Path
from typing import Final, Self

from omniq.errors import ConfigError, CorruptPayload, UntrustedPayload
from omniq.serialization.base import Binding
from omniq.serialization.msgspec_ import pack

log = logging.getLogger("omniq.serialization")

KEY_FILE: Final = "signing.key"
MIN_SECRET: Final = 32
_MAC: Final = 32
_DOMAIN: Final = b"omniq1"
_KID = re.compile(r"[A-Za-z0-9_.-]{1,32}\Z")


class KeyRing:
    """Signing keys in order: the first signs, all verify.

    To rotate, put the new key first, and remove the old one once no task signed with it is
    left.
    """

    __slots__ = ("_current", "_head", "_states", "where")

    def __init__(self, keys: Iterable[tuple[str, bytes]], *, where: str = "the keys given") -> None:
        self.where = where
        # A state is a hash that has taken in its key already; copying it saves that work.
        self._states: dict[bytes, blake2b] = {}
        for kid, secret in keys:
            if not _KID.match(kid):
                raise ConfigError(f"{where}: a key id is 1 to 32 of A-Z a-z 0-9 _ . -, not {kid!r}")
            text = kid.encode()
            if text in self._states:
                raise ConfigError(f"{where}: key id {kid!r} is given twice")
            if len(secret) < MIN_SECRET:
                raise ConfigError(
                    f"{where}: the secret of key {kid!r} has {len(secret)} bytes, at least "
                    f"{MIN_SECRET} are needed; make one with "
                    "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
                )
            key = blake2b(secret, person=_DOMAIN + b"key").digest()
            state = blake2b(key=key, digest_size=_MAC, person=_DOMAIN + b"payload")
            state.update(bytes((len(text),)) + text)
            self._states[text] = state
        if not self._states:
            raise ConfigError(f"{where}: no signing key")
        self._current = next(iter(self._states))
        self._head = bytes((len(self._current),)) + self._current

    @classmethod
    def from_setting(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """Keys as configured: (key id, secret).

        A secret is taken as text, or with the prefix `base64:` as the bytes it encodes.
        """
        where = "OMNIQ_SIGNING_KEYS"
        return cls(((kid, _secret(kid, text, where)) for kid, text in pairs), where=where)

    @classmethod
    def ephemeral(cls) -> Self:
        """A key that ends with this process, for places that do too."""
        return cls([("process", secrets.token_bytes(32))], where="a key of this process")

    @classmethod
    def local(cls, base_dir: str | Path) -> Self:
        """The key file of a base directory, made at first use (mode 0600).

        Processes that start at once agree on one key: the file appears complete or not at all.
        """
        path = private_dir(base_dir) / KEY_FILE
        if not path.exists():
            _make(path)
        text = _read(path)
        kid, _, secret = text.partition(":")
        try:
            return cls([(kid, _secret(kid, secret, str(path)))], where=str(path))
        except ConfigError as error:
            raise ConfigError(
                f"{error}; the key file is damaged: restore it, or remove it to get a new one "
                "(tasks signed with the old one are then refused)"
            ) from None

    def sign(self, tag: int, binding: Binding, data: bytes) -> bytes:
        """Key id and signature, to stand between the tag and the data."""
        mac = self._states[self._current].copy()
        mac.update(_bound(tag, binding))
        mac.update(data)
        return self._head + mac.digest()

    def verify(self, payload: bytes, binding: Binding) -> memoryview:
        """The data of a signed payload, once its signature was found good."""
        size = payload[1] if len(payload) > 1 else 0
        at = 2 + size
        if not size or len(payload) < at + _MAC:
            raise CorruptPayload(f"the {binding.field} of task {binding.task_id} are cut short")
        state = self._states.get(payload[2:at])
        if state is None:
            kid, known = payload[2:at].decode("ascii", "replace"), b", ".join(self._states).decode()
            raise UntrustedPayload(
                f"the {binding.field} of task {binding.task_id} are signed with key {kid!r}, which "
                f"{self.where} does not have (known: {known}); if the key was "
                "rotated out too early, add it again behind the current one in OMNIQ_SIGNING_KEYS"
            )
        data = memoryview(payload)[at + _MAC :]
        mac = state.copy()
        mac.update(_bound(payload[0], binding))
        mac.update(data)
        if not compare_digest(mac.digest(), payload[at : at + _MAC]):
            kid = payload[2:at].decode()
            raise UntrustedPayload(
                f"the signature on the {binding.field} of task {binding.task_id} is wrong: the "
                "payload was changed, belongs to another task, or was signed with another secret "
                f"named {kid!r}; it was not opened"
            )
        return data


def _bound(tag: int, binding: Binding) -> bytes:
    """The binding as bytes; msgpack gives every field with its length."""
    return pack((tag, binding))


def private_dir(base_dir: str | Path) -> Path:
    """The base directory, made (mode 0700, ignoring itself in git) if it is not there."""
    path = Path(base_dir)
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not path.is_dir():
            raise ConfigError(f"base_dir {str(path)!r} is not a directory") from None
    except OSError as error:
        raise ConfigError(
            f"base_dir {str(path)!r} cannot be made ({error.strerror}); name another with "
            "OMNIQ_BASE_DIR or base_dir="
        ) from error
    else:
        (path / ".gitignore").write_text("*\n", encoding="utf-8")
    return path


def _secret(kid: str, text: str, where: str) -> bytes:
    if not text.startswith("base64:"):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix("base64:"), validate=True)
    except (binascii.Error, ValueError):
        raise ConfigError(f"{where}: the secret of key {kid!r} is not valid base64") from None


def _make(path: Path) -> None:
    """Write a new key file, unless another process was quicker."""
    token = secrets.token_hex(4)
    text = f"local-{token}:base64:{base64.b64encode(secrets.token_bytes(32)).decode()}\n"
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{token}.tmp")
    try:
        _write(temporary, text)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # a filesystem without links: the reader waits for the text
            _write(path, text)
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigError(
            f"the key file {path} cannot be made ({error.strerror}); name a directory this user "
            "may write with OMNIQ_BASE_DIR or base_dir="
        ) from error
    finally:
        with suppress(OSError):  # a read-only directory refuses this too, and would hide why
            temporary.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)


def _read(path: Path) -> str:
    for _ in range(50):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise ConfigError(f"the key file {path} cannot be read ({error.strerror})") from error
        if text.endswith("\n"):
            break
        time.sleep(0.01)  # another process is writing it, where links do not exist
    if os.name == "posix" and path.stat().st_mode & 0o077:
        log.warning("%s can be read by other users; run `chmod 600 %s`", path, path)
    return text.strip()
