"""The token that opens a dashboard nobody configured: made once, shared by all processes."""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

TOKEN_FILE = "dashboard.token"
_log = logging.getLogger("omniq.dashboard")


def shared_token(base_dir: Path) -> str:
    """The token kept in `base_dir`; whoever comes first makes it, all others read it.

    The file appears complete or not at all (written aside, then linked), so two processes
    that start together agree. Where nothing can be written, a token of this process alone.
    """
    path = base_dir / TOKEN_FILE
    with suppress(FileNotFoundError):
        return _read(path)
    token = secrets.token_urlsafe(32)
    aside = base_dir / f".{TOKEN_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        base_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(token)
    except OSError as error:
        _log.warning("no dashboard token can be kept in %s (%s): this one ends here", path, error)
        return token
    try:
        os.link(aside, path)
    except FileExistsError:
        return _read(path)
    except OSError:  # a file system without hard links: the last to come wins, complete still
        aside.rename(path)
        return _read(path)
    finally:
        aside.unlink(missing_ok=True)
    return token


def _read(path: Path) -> str:
    token = path.read_text().strip()
    if len(token) < 16:
        raise FileNotFoundError(f"{path} holds no token")
    if path.stat().st_mode & 0o077:
        with suppress(OSError):
            path.chmod(0o600)
    return token


def derive(secret: str, *parts: str) -> str:
    """A value only the holder of `secret` could make; parts are length-prefixed."""
    text = "".join(f"{len(part)}:{part}" for part in ("omniq dashboard", *parts))
    return hmac.new(secret.encode(), text.encode(), sha256).hexdigest()


def same(left: str, right: str) -> bool:
    """Compare without telling by the time it takes how much was right."""
    return hmac.compare_digest(left.encode(), right.encode())
