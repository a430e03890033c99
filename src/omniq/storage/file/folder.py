"""The directory of a local log: made private, and what to change when it cannot be used."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from omniq.errors import ConfigError, StorageError, StorageUnavailable

_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CLOSED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_LINKS: Final = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.ENOSYS)
_ELSE: Final = "Set storage_url (OMNIQ_STORAGE_URL) or base_dir (OMNIQ_BASE_DIR) to"


def check_path(path: Path) -> Path:
    """The absolute path; refuses what nobody means by a directory."""
    text = str(path)
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise ConfigError(f"the directory {text!r} has control characters. {_ELSE} a plain path")
    if ".." in path.parts:
        raise ConfigError(f"the directory {text!r} goes up by '..'. {_ELSE} the path it means")
    return path.expanduser().absolute()


def make_folders(base: Path, namespace: str) -> Path:
    """Make `base` (0700, unseen by git) and the directories of a namespace in it."""
    try:
        if not base.exists():
            base.mkdir(parents=True, mode=0o700, exist_ok=True)
            base.joinpath(".gitignore").write_text("*\n")
        home = base.resolve()
        root = home / namespace
        for folder in (root, root / "tmp"):
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.resolve() != folder:
                raise ConfigError(
                    f"{folder} is a link that leads elsewhere. {_ELSE} a directory of its own"
                )
    except OSError as error:
        told = explained(base, error)
    else:
        return root
    raise told


def explained(base: Path, error: OSError) -> StorageError | ConfigError:
    """What an error of the system means for the user of a log."""
    why = error.strerror or type(error).__name__
    code = error.errno
    if code in _FULL:
        return StorageUnavailable(
            f"{base} has no space left ({why}): what was acknowledged is safe, and it goes on "
            "when there is space again"
        )
    if code in _NO_LINKS:
        return ConfigError(
            f"the filesystem of {base} knows no hard links ({why}), which make a commit "
            f"atomic. {_ELSE} a directory on another one"
        )
    if code in _CLOSED:
        return ConfigError(
            f"{base} cannot be written by this user ({why}). {_ELSE} a directory that can"
        )
    if code in (errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL):
        return ConfigError(f"{base} cannot be used as a directory ({why}). {_ELSE} a directory")
    if code == errno.ENOENT and not base.is_dir():
        return StorageUnavailable(f"{base} is gone, or cannot be made ({why}). {_ELSE} a directory")
    return StorageUnavailable(f"{base} does not answer as it should: {why}")
