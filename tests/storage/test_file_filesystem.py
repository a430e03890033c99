"""fsspec's filesystems: which are taken, which refused, and what is tried before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from omniq.errors import ConfigError
from omniq.storage.file import AsyncFileStorage
from omniq.storage.file.local import LocalLog

from .file_places import log_of


class Shelf(AbstractFileSystem):
    """A filesystem nobody has heard of; `atomic` says whether it minds the mode."""

    protocol = "shelf"
    cachable = False

    def __init__(self, *, atomic: bool, **options: Any) -> None:
        super().__init__(**options)
        self.atomic = atomic
        self.files: dict[str, bytes] = {}

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        if mode == "create" and self.atomic and path in self.files:
            raise FileExistsError(path)
        self.files[path] = value

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path][start:end]

    def rm_file(self, path: str) -> None:
        if self.files.pop(path, None) is None:
            raise FileNotFoundError(path)


def test_an_unknown_filesystem_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"shelf .* assume_atomic_create=True"):
        AsyncFileStorage(Shelf(atomic=True), path="tasks")


def test_an_unknown_filesystem_is_taken_on_the_users_word() -> None:
    log = log_of({"where": Shelf(atomic=True), "path": "tasks", "assume_atomic_create": True})
    log.open()
    assert log.put(1, b"x")
    assert not log.put(1, b"y")


def test_but_tried_before() -> None:
    log = log_of({"where": Shelf(atomic=False), "path": "tasks", "assume_atomic_create": True})
    with pytest.raises(ConfigError, match="without conditional create"):
        log.open()


def test_a_url_of_an_unknown_filesystem() -> None:
    with pytest.raises(ConfigError, match=r"github .* not known to create"):
        AsyncFileStorage("github://somebody:something@main/tasks")


def test_a_scheme_nobody_knows() -> None:
    with pytest.raises(ConfigError, match=r"knows no s33://; did you mean 's3'"):
        AsyncFileStorage("s33://bucket/tasks")


@pytest.mark.parametrize(
    ("scheme", "module", "extra"),
    [("s3", "s3fs", "s3"), ("gs", "gcsfs", "gcs"), ("abfs", "adlfs", "azure")],
)
def test_a_driver_that_is_not_installed(
    scheme: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not
    for name in (scheme, f"{scheme}s", "az", "gcs"):
        monkeypatch.delitem(_registry, name, raising=False)
    with pytest.raises(ConfigError, match="OMNIQ_OBSTORE_URI") as caught:
        AsyncFileStorage(f"{scheme}://bucket/tasks")
    assert f"pip install 'omniq-tasks[{extra}]'" in str(caught.value)


@pytest.mark.parametrize("uri", [{}, {"obstore_uri": "s3://KEY:hidden@bucket/tasks"}])
def test_credentials_before_a_bucket_are_refused_and_not_repeated(uri: dict[str, Any]) -> None:
    where = () if uri else ("s3://KEY:hidden@bucket/tasks",)
    with pytest.raises(ConfigError, match="OMNIQ_STORAGE_OPTIONS") as caught:
        AsyncFileStorage(*where, **uri)
    assert "hidden" not in str(caught.value)


def test_a_cache_before_a_bucket_is_refused() -> None:
    with pytest.raises(ConfigError, match="knows no simplecache::s3://"):
        AsyncFileStorage("simplecache::s3://bucket/tasks")


def test_local_files_go_through_our_own_writer(tmp_path: Path) -> None:
    for where in (f"file://{tmp_path}", f"local://{tmp_path}"):
        assert isinstance(log_of({"where": where}), LocalLog)
    assert isinstance(log_of({"where": LocalFileSystem(), "path": str(tmp_path)}), LocalLog)
    inside = log_of({"where": DirFileSystem(str(tmp_path), LocalFileSystem()), "path": "a"})
    assert isinstance(inside, LocalLog)
    assert inside.base == tmp_path / "a"


@pytest.mark.parametrize("path", ["../x", "a/../../x", "a\nb"])
def test_paths_stay_inside(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match=r"'\.\.' or control"):
        AsyncFileStorage(DirFileSystem(str(tmp_path), LocalFileSystem()), path=path)


@pytest.mark.parametrize(
    "url", ["s3://bucket/../other", "s3://bucket/%2e%2e/other", "memory://../x"]
)
def test_urls_stay_inside(url: str) -> None:
    for form in ({"where": url}, {"obstore_uri": url}):
        with pytest.raises(ConfigError, match=r"'\.\.'"):
            AsyncFileStorage(**form)


def test_memory_is_shared_by_name_and_apart_by_name() -> None:
    name = uuid4().hex
    one, two = log_of({"where": f"memory://{name}"}), log_of({"where": f"memory://{name}"})
    other = log_of({"where": f"memory://{name}-other"})
    for log in (one, two, other):
        log.open()
    assert one.put(1, b"x")
    assert not two.put(1, b"y")
    assert other.put(1, b"z")
    given = log_of({"where": MemoryFileSystem(), "path": f"/{name}"})
    given.open()
    assert list(given.read_on(1)) == [b"x"]


def test_a_wrapped_memory() -> None:
    name = uuid4().hex
    log = log_of({"where": DirFileSystem(f"/{name}", MemoryFileSystem()), "path": "below"})
    log.open()
    assert log.put(1, b"x")
    assert MemoryFileSystem().exists(f"/{name}/below/default/log")


def test_options_go_where_the_filesystem_is_made() -> None:
    with pytest.raises(ConfigError, match="has its options already"):
        AsyncFileStorage(MemoryFileSystem(), path="x", storage_options={"key": "x"})
    with pytest.raises(ConfigError, match="no option 'key'"):
        AsyncFileStorage("tasks", storage_options={"key": "x"})


def test_an_asynchronous_filesystem_is_refused() -> None:
    filesystem = fsspec.filesystem("s3", asynchronous=True, key="x", secret="y")
    with pytest.raises(ConfigError, match="asynchronous"):
        AsyncFileStorage(filesystem, path="bucket/tasks")


def test_something_else() -> None:
    with pytest.raises(ConfigError, match="cannot be kept in a int"):
        AsyncFileStorage(5)


def test_no_driver_is_loaded_for_a_directory(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = (
        "import sys; from omniq.storage.file import AsyncFileStorage;"
        f"AsyncFileStorage({str(tmp_path)!r});"
        "print(sorted({'fsspec', 'obstore', 's3fs'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
