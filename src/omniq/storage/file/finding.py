"""Where a file storage is told to keep its log: which engine takes which word."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from omniq.config.masking import mask_url
from omniq.errors import ConfigError, did_you_mean
from omniq.storage.file.folder import check_path
from omniq.storage.file.home import FAR, NEAR, Home, Wish
from omniq.storage.file.keys import KeyLog
from omniq.storage.file.local import LocalLog
from omniq.storage.log.port import Log

BUCKETS: Final = ("s3", "s3a", "gs", "gcs", "az", "adl", "azure", "abfs", "abfss")
OBSTORE: Final = (*BUCKETS, "file", "memory", "https", "http")

_LOCAL_TOO: Final = "give the directory as a path instead, which is written with fsync then"


def find_home(where: Any, obstore_uri: str | None, wish: Wish) -> Home:
    """The place that is meant. ConfigError if that is none, or two."""
    if (where is None) == (obstore_uri is None):
        raise ConfigError(
            "say one place for the file storage: a directory or URL (storage_url), or a URI for "
            "obstore (obstore_uri, OMNIQ_OBSTORE_URI)"
        )
    if obstore_uri is not None:
        _refuse_path(wish)
        return _obstore(str(obstore_uri), wish)
    if isinstance(where, Path):
        _refuse_path(wish)
        return _directory(where, wish)
    if isinstance(where, str):
        _refuse_path(wish)
        return _url(where, wish) if "://" in where else _directory(Path(where), wish)
    if not hasattr(where, "pipe_file"):
        raise ConfigError(
            f"the file storage cannot be kept in a {type(where).__name__}: give a path, a URL or "
            "an fsspec filesystem"
        )
    if wish.options:
        raise ConfigError("storage_options: the filesystem given has its options already")
    from omniq.storage.file.filesystem import home_in, local_path

    if (folder := local_path(where, wish.path)) is not None:
        return _directory(folder, wish)
    return home_in(where, wish)


def _directory(path: Path, wish: Wish) -> Home:
    if wish.options:
        raise ConfigError(f"storage_options: a directory has no option {min(wish.options)!r}")
    base = check_path(path)
    return Home(
        place=f"directory {base}",
        make=lambda: LocalLog(base, wish.namespace, strict=wish.strict),
        grade="power" if wish.strict else "process",
        settings="fsync of every file" if wish.strict else "written without fsync",
        local=True,
        folder=base / wish.namespace / "log",
    )


def _url(url: str, wish: Wish) -> Home:
    scheme, path, wish = _read(url, wish)
    if scheme in ("file", "local"):
        return _directory(_local(scheme, path), wish)
    plain = f"{scheme}://{path}"
    # Here and below: who keeps tasks in a directory need not load any driver.
    from omniq.storage.file.filesystem import home_at

    return home_at(plain, wish)


def _obstore(uri: str, wish: Wish) -> Home:
    scheme, path, wish = _read(uri, wish)
    if scheme not in OBSTORE:
        raise ConfigError(
            f"obstore_uri (OMNIQ_OBSTORE_URI): obstore has no store for {scheme}://"
            f"{did_you_mean(scheme, OBSTORE)}"
        )
    plain = f"{'gs' if scheme == 'gcs' else scheme}://{path}"
    near = scheme in ("file", "memory")
    if scheme == "file":
        check_path(_local(scheme, path))
    if near and wish.options:
        raise ConfigError(f"storage_options: {scheme}:// has no option {min(wish.options)!r}")

    def make() -> Log:
        from omniq.storage.file.objects import ObstoreKeys

        return KeyLog(
            lambda: ObstoreKeys.at(plain, wish.namespace, wish.options), NEAR if near else FAR
        )

    return Home(
        place=mask_url(plain) + (" of this process" if scheme == "memory" else ""),
        make=make,
        grade="none" if scheme == "memory" else "process" if near else "replicated",
        settings="obstore" + ("" if near else ", as its provider promises"),
        local=near,
        multiprocess=scheme != "memory",
        instead=f"obstore never calls fsync: {_LOCAL_TOO}" if scheme == "file" else "",
    )


def _read(url: str, wish: Wish) -> tuple[str, str, Wish]:
    """Scheme, path and the wishes with what the URL's query adds to them."""
    if any(ord(letter) < 33 or ord(letter) == 127 for letter in url):
        raise ConfigError(f"{mask_url(url)!r} has spaces or control characters in it")
    scheme, _, rest = url.partition("://")
    path, _, query = rest.partition("?")
    if not scheme or ".." in unquote(path).split("/"):
        raise ConfigError(f"{mask_url(url)!r} is no URL for tasks: it has no scheme, or '..' in it")
    if scheme not in ("file", "local", "memory") and not path.strip("/"):
        raise ConfigError(f"{mask_url(url)!r} names no bucket: write {scheme}://bucket/directory")
    if scheme.lower() in ("s3", "s3a", "gs", "gcs") and "@" in path.partition("/")[0]:
        raise ConfigError(
            f"{mask_url(url)!r} has credentials before the bucket, where nobody reads them: set "
            "them in storage_options (OMNIQ_STORAGE_OPTIONS), or as the driver's own variables, "
            "such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    options = dict(parse_qsl(query, keep_blank_values=True)) | dict(wish.options)
    return scheme.lower(), path, Wish(
        namespace=wish.namespace, strict=wish.strict, options=options, path=wish.path,
        assume_atomic_create=wish.assume_atomic_create,
    )  # fmt: skip


def _local(scheme: str, path: str) -> Path:
    if not path.startswith("/"):
        where = mask_url(f"{scheme}://{path}")
        raise ConfigError(
            f"{where!r} names a host, not a directory: write three slashes before an "
            f"absolute path ({scheme}:///var/lib/tasks), or a path without scheme"
        )
    return Path(unquote(path))


def _refuse_path(wish: Wish) -> None:
    if wish.path:
        raise ConfigError("`path` goes with an fsspec filesystem; write it into the URL instead")
