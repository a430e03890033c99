"""The places a log of files may be kept in, each made anew for a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from omniq.storage.file.finding import find_home
from omniq.storage.file.home import Wish
from omniq.storage.log.port import Log

from ..servers.s3 import KEY, REGION, SECRET

PLACES = ("local", "strict", "obstore-local", "obstore-memory", "obstore-s3", "fsspec-local")
PLACES += ("fsspec-memory", "fsspec-s3", "fsspec-directory")


def options_of(place: str, folder: Path, s3: Callable[[], str]) -> dict[str, Any]:
    """What `AsyncFileStorage` is given for a place of this kind."""
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.local import LocalFileSystem

    name = uuid4().hex
    if place in ("local", "strict"):
        return {
            "where": folder / "tasks",
            "durability": "strict" if place == "strict" else "normal",
        }
    if place == "obstore-local":
        return {"obstore_uri": f"file://{folder}/objects"}
    if place == "obstore-memory":
        return {"obstore_uri": f"memory:///{name}"}
    if place == "obstore-s3":
        return {"obstore_uri": f"s3://omniq/{name}", "storage_options": obstore_options(s3())}
    if place == "fsspec-local":
        return {"where": f"file://{folder}/files"}
    if place == "fsspec-directory":
        inner = DirFileSystem(str(folder), LocalFileSystem())
        return {"where": inner, "path": "below"}
    if place == "fsspec-memory":
        return {"where": f"memory://{name}"}
    assert place == "fsspec-s3"
    return {"where": f"s3://omniq/{name}", "storage_options": s3fs_options(s3())}


def obstore_options(endpoint: str) -> dict[str, Any]:
    return {
        "endpoint": endpoint,
        "region": REGION,
        "access_key_id": KEY,
        "secret_access_key": SECRET,
        "allow_http": True,
    }


def s3fs_options(endpoint: str) -> dict[str, Any]:
    return {"endpoint_url": endpoint, "key": KEY, "secret": SECRET}


def log_of(options: dict[str, Any], namespace: str = "default") -> Log:
    """An unopened log for such options."""
    wish = Wish(
        namespace=namespace,
        strict=options.get("durability") == "strict",
        options=options.get("storage_options", {}),
        path=options.get("path", ""),
        assume_atomic_create=options.get("assume_atomic_create", False),
    )
    return find_home(options.get("where"), options.get("obstore_uri"), wish).make()
