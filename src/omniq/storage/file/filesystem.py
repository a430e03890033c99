"""Filesystems of fsspec: which of them create a file atomically, and how they are asked."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, TypeVar

import fsspec
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from omniq.config.masking import mask_url
from omniq.errors import ConfigError, StorageError, StorageUnavailable, did_you_mean
from omniq.models.row import Ms
from omniq.storage.file.home import FAR, NEAR, Home, Wish
from omniq.storage.file.keys import KeyLog

T = TypeVar("T")

BY_CONDITION: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl"})
"""Protocols whose `pipe_file(mode="create")` is one request with a condition (If-None-Match, or
ifGenerationMatch=0). Their `open("xb")` is not used: s3fs writes an empty file without it."""
CONFLICTS: Final = 6
"""How often a create that met another one under way is sent again."""
_REFUSED: Final = ("NoCredentials", "ClientAuthentication", "DefaultCredentials", "InvalidToken")
_CODES: Final = {
    "PermissionError": "these credentials are refused",
    "InvalidBucketName": "this is no name for a bucket",
    "ParamValidationError": "this is no name for a bucket",
    "AuthorizationHeaderMalformed": "the region is another one",
    "PermanentRedirect": "the bucket is in another region",
    "InvalidEndpoint": "the endpoint cannot be right",
}
_EXTRAS: Final = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "azure"),
}
_SETTING: Final = "Check storage_url (OMNIQ_STORAGE_URL) and storage_options"
_memory_lock = threading.RLock()


class FsspecKeys:
    """Keys as files below a directory of a filesystem."""

    def __init__(self, filesystem: Any, root: str) -> None:
        self._fs = filesystem
        self._root = root.rstrip("/")
        memory = isinstance(filesystem, MemoryFileSystem)
        # Its files are shared by the whole process, and created by a look and then a write.
        self._alone: Any = _memory_lock if memory else nullcontext()
        self.place = f"{protocol_of(filesystem)}://{self._root.lstrip('/')}"
        self.remote = not memory
        self.bulk = memory

    def create(self, key: str, data: bytes) -> bool:
        for tried in range(CONFLICTS):
            try:
                with self._alone:
                    self._ask(self._fs.pipe_file, self._path(key), data, mode="create")
            except FileExistsError:
                return False
            except BlockingIOError:  # another create is under way: nobody has won yet
                time.sleep(random.uniform(0, 0.02 * 2**tried))
            else:
                return True
        raise StorageUnavailable(f"{self.place}: other writers are always under way at {key}")

    def write(self, key: str, data: bytes) -> None:
        with self._alone:
            self._ask(self._fs.pipe_file, self._path(key), data)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes | None:
        part = {} if offset == 0 else {"start": offset}
        if length is not None:
            part["end"] = offset + length
        try:
            return bytes(self._ask(self._fs.cat_file, self._path(key), **part))
        except FileNotFoundError:
            return None

    def below(self, folder: str) -> list[str]:
        top = self._path(folder) if folder else self._root
        cut = len(self._fs._strip_protocol(self._root)) + 1
        self._fs.invalidate_cache()
        try:
            return [path[cut:] for path in self._ask(self._fs.find, top)]
        except FileNotFoundError:
            return []

    def folders(self, folder: str) -> list[str]:
        self._fs.invalidate_cache()
        try:
            found = self._ask(self._fs.ls, self._path(folder), detail=False)
        except FileNotFoundError:
            return []
        return [path.rstrip("/").rpartition("/")[2] for path in found]

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                self._ask(self._fs.rm_file, self._path(key))
            except FileNotFoundError:
                continue

    def modified(self, key: str) -> Ms | None:
        self._fs.invalidate_cache()
        try:
            return int(self._ask(self._fs.modified, self._path(key)).timestamp() * 1000)
        except (FileNotFoundError, NotImplementedError):
            return None

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _ask(self, ask: Callable[..., T], *args: Any, **options: Any) -> T:
        """Ask, and say what went wrong in words of our own: the driver's may hold credentials."""
        told: Exception
        try:
            return ask(*args, **options)
        except FileExistsError:
            told = FileExistsError(self.place)
        except FileNotFoundError as error:
            missing = "NoSuchBucket" in _codes(error) or ask == self._fs.pipe_file
            told = (
                ConfigError(f"{self.place}: there is no such bucket or directory. {_SETTING}")
                if missing
                else FileNotFoundError(self.place)
            )
        except (NotImplementedError, AttributeError):
            raise
        except Exception as error:
            codes = _codes(error)
            if "PreconditionFailed" in codes:
                told = FileExistsError(self.place)
            elif "ConditionalRequestConflict" in codes:
                told = BlockingIOError(self.place)
            else:
                told = _explained(error, self.place)
        raise told


def home_at(url: str, wish: Wish) -> Home:
    """The place a URL means, made when it is opened."""
    checked(_kind(url), assume_atomic_create=wish.assume_atomic_create)
    return _home(lambda: made(url, wish.options), url, wish)


def home_in(filesystem: Any, wish: Wish) -> Home:
    """The place a filesystem and a path in it mean."""
    inner, inside = unwrapped(filesystem, wish.path)
    checked(inner, assume_atomic_create=wish.assume_atomic_create)
    return _home(
        lambda: (revived(inner), inside), f"{protocol_of(inner)}://{inside.lstrip('/')}", wish
    )


def _home(give: Callable[[], tuple[Any, str]], url: str, wish: Wish) -> Home:
    scheme = url.partition(":")[0]
    memory, known = scheme == "memory", scheme in BY_CONDITION

    def keys() -> FsspecKeys:
        filesystem, path = give()
        checked(filesystem, assume_atomic_create=wish.assume_atomic_create)
        return FsspecKeys(filesystem, f"{path.rstrip('/')}/{wish.namespace}")

    says = "" if memory else ", as its provider promises" if known else ", which says no more"
    return Home(
        place=mask_url(url) + (" of this process" if memory else ""),
        make=lambda: KeyLog(keys, NEAR if memory else FAR),
        grade="none" if memory else "replicated" if known else "process",
        settings=f"fsspec{says}",
        local=memory,
        multiprocess=not memory,
    )


def local_path(filesystem: Any, path: str) -> Path | None:
    """The path on this machine a filesystem and a path in it mean; None if it is elsewhere."""
    inner, inside = unwrapped(filesystem, path)
    return Path(inner._strip_protocol(inside)) if isinstance(inner, LocalFileSystem) else None


def unwrapped(filesystem: Any, path: str) -> tuple[Any, str]:
    """The filesystem below the directories it is wrapped in, and the path there."""
    if ".." in path.split("/") or any(ord(letter) < 32 for letter in path):
        raise ConfigError(f"the path {path!r} has '..' or control characters: write it plainly")
    while isinstance(filesystem, DirFileSystem):
        path = filesystem._join(path.strip("/"))
        filesystem = filesystem.fs
    return filesystem, path


def _kind(url: str) -> Any:
    """The class of filesystem a URL means."""
    scheme, told = url.partition("://")[0], ""
    try:
        return fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        told = f"{scheme}:// needs a driver of fsspec that is not installed: "
        if scheme in _EXTRAS:
            told += f"pip install 'omniq-tasks[{_EXTRAS[scheme]}]'"
            told += ", or name the bucket as obstore_uri (OMNIQ_OBSTORE_URI), which needs none"
        else:
            told += str(error.msg)
    except ValueError:
        known = [*BY_CONDITION, "file", "memory"]
        told = f"fsspec knows no {scheme}://{did_you_mean(scheme, known)}. {_SETTING}"
    raise ConfigError(told)


def made(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The filesystem a URL means, and the path in it."""
    place = mask_url(url)
    told: ConfigError
    try:
        filesystem, path = fsspec.url_to_fs(url, **_converted(options))
    except TypeError as error:
        told = ConfigError(f"storage_options do not fit {place}: {error}")
    except Exception as error:
        told_ = _explained(error, place)
        told = told_ if isinstance(told_, ConfigError) else ConfigError(str(told_))
    else:
        return filesystem, path
    raise told


def checked(filesystem: Any, *, assume_atomic_create: bool) -> Any:
    """Refuse a filesystem that is not known to create a file only if it is not there."""
    name = protocol_of(filesystem)
    if getattr(filesystem, "asynchronous", False):
        raise ConfigError(f"the {name} filesystem is asynchronous: make it without that option")
    if name not in {"memory", *BY_CONDITION} and not assume_atomic_create:
        raise ConfigError(
            f"the {name} filesystem is not known to create a file only if it is not there, and "
            "two workers could be given the same tasks. If you know that its "
            "pipe_file(path, data, mode='create') does, set assume_atomic_create=True"
        )
    return filesystem


def revived(filesystem: Any) -> Any:
    """The same filesystem for this process: what was made before a fork does not work after."""
    if getattr(filesystem, "_pid", os.getpid()) == os.getpid():
        return filesystem
    return type(filesystem)(*filesystem.storage_args, **filesystem.storage_options)


def protocol_of(filesystem: Any) -> str:
    protocol = filesystem.protocol
    return str(protocol if isinstance(protocol, str) else protocol[0])


def _converted(options: Mapping[str, Any]) -> dict[str, Any]:
    """No listing is cached, whoever asks: others write at the same time."""
    return {"use_listings_cache": False, **options}


def _codes(error: BaseException) -> set[str]:
    """The names of an error and of those behind it, with the codes servers gave."""
    codes: set[str] = set()
    at: BaseException | None = error
    while at is not None and len(codes) < 32:
        codes |= {kind.__name__ for kind in type(at).__mro__}
        response = getattr(at, "response", None)
        if isinstance(response, dict):
            codes.add(str(response.get("Error", {}).get("Code", "")))
        codes |= {str(getattr(at, name)) for name in ("code", "status_code") if hasattr(at, name)}
        at = at.__cause__
    return codes


def _explained(error: Exception, place: str) -> StorageError | ConfigError:
    codes = _codes(error)
    if any(code.startswith(_REFUSED) for code in codes):
        return ConfigError(f"{place}: no credentials, or they are refused. {_SETTING}")
    for code, why in _CODES.items():
        if code in codes:
            return ConfigError(f"{place}: {why}. {_SETTING}")
    if codes & {"401", "403"} or str(error).startswith("Forbidden:"):
        return ConfigError(f"{place}: these credentials are refused. {_SETTING}")
    why = f"{type(error).__name__}. {_SETTING}"
    return StorageUnavailable(f"{place} does not answer as it should: {why}")
