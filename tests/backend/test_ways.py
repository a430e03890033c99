"""Every way to say where tasks are kept leads to every place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from omniq import AsyncOmniQ, AsyncTaskQueue, OmniQ, OmniQConfig, StorageConfig, TaskQueue
from omniq.backend import Backend, FileBackend, create_storage
from omniq.storage.base import AsyncStorage

from .kit import PLACES, Named, name_of, url_of

every_place = pytest.mark.parametrize("place", PLACES, ids=name_of)


def check(storage: object, place: Named, path: Path, *, said: bool = True) -> None:
    """That this is an unopened storage of the place."""
    assert isinstance(storage, AsyncStorage)
    assert type(storage).__name__ == place.storage
    if said:
        assert place.said.format(path=path) in storage.describe()


@every_place
def test_its_backend(place: Named, tmp_path: Path) -> None:
    if place.type == "memory":
        backend = place.make()
    elif place.type == "sqlite":
        backend = place.make(tmp_path / "t.db")  # type: ignore[arg-type]
    else:
        backend = place.make(url_of(place, tmp_path))
    check(backend.storage, place, tmp_path)
    queue = AsyncOmniQ(backend=backend)
    assert queue.stores.tasks is queue.stores.results is queue.stores.events is backend.storage
    assert backend.storage.describe() in repr(backend)


@every_place
def test_a_backend_by_its_url_or_name(place: Named, tmp_path: Path) -> None:
    check(Backend(url_of(place, tmp_path)).storage, place, tmp_path)
    check(Backend(place.type, base_dir=tmp_path).storage, place, tmp_path, said=False)


@every_place
def test_a_url(place: Named, tmp_path: Path) -> None:
    url = url_of(place, tmp_path)
    for queue in (AsyncOmniQ(storage_url=url), AsyncTaskQueue(storage_url=url)):
        check(queue.stores.tasks, place, tmp_path)
        assert queue.stores.one_place


@every_place
def test_a_type(place: Named, tmp_path: Path) -> None:
    for queue in (
        AsyncOmniQ(storage_type=place.type, base_dir=tmp_path),
        AsyncTaskQueue(place.type, base_dir=tmp_path),
    ):
        check(queue.stores.tasks, place, tmp_path, said=False)


@every_place
def test_the_blocking_face(place: Named, tmp_path: Path) -> None:
    url = url_of(place, tmp_path)
    for queue in (OmniQ(storage_url=url), TaskQueue(storage_url=url), OmniQ(backend=Backend(url))):
        check(queue._async.stores.tasks, place, tmp_path)


@every_place
def test_a_configuration_struct(place: Named, tmp_path: Path) -> None:
    url = url_of(place, tmp_path)
    for storage in (StorageConfig(type=place.type, url=url), StorageConfig(url=url)):
        check(AsyncOmniQ(OmniQConfig(storage=storage)).stores.tasks, place, tmp_path)
        check(create_storage(storage), place, tmp_path)


@every_place
def test_a_dictionary(place: Named, tmp_path: Path) -> None:
    url = url_of(place, tmp_path)
    ways: list[dict[str, Any]] = [
        {"storage_url": url},
        {"storage": url},
        {"storage": {"type": place.type, "url": url}},
        {"storage": StorageConfig(url=url)},
    ]
    for way in ways:
        check(AsyncOmniQ(way).stores.tasks, place, tmp_path)


@every_place
def test_a_yaml_file(place: Named, tmp_path: Path) -> None:
    file = tmp_path / "omniq.yaml"
    file.write_text(yaml.safe_dump({"storage": {"url": url_of(place, tmp_path)}, "retries": 7}))
    queue = AsyncOmniQ(file)
    check(queue.stores.tasks, place, tmp_path)
    assert queue.config.tasks.retries == 7


@every_place
def test_the_environment(place: Named, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIQ_STORAGE_URL", url_of(place, tmp_path))
    check(AsyncOmniQ().stores.tasks, place, tmp_path)
    monkeypatch.setenv("OMNIQ_STORAGE_TYPE", place.type)
    check(AsyncOmniQ().stores.tasks, place, tmp_path)
    monkeypatch.delenv("OMNIQ_STORAGE_URL")
    monkeypatch.setenv("OMNIQ_BASE_DIR", str(tmp_path))
    check(AsyncOmniQ().stores.tasks, place, tmp_path, said=False)


@every_place
def test_its_storage(place: Named, tmp_path: Path) -> None:
    storage = create_storage(StorageConfig(url=url_of(place, tmp_path)))
    queue = AsyncOmniQ(task_queue=storage)
    assert queue.stores.tasks is queue.stores.results is storage


@pytest.mark.parametrize(
    ("type", "said"),
    [
        ("sqlite", "{path}/omniq.db"),
        ("file", "{path}/tasks"),
        ("redis", "localhost:6379"),
        ("nats", "localhost:4222"),
        ("postgres", "db.example:6543"),
    ],
)
def test_where_a_type_without_a_url_is(
    type: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "db.example")
    monkeypatch.setenv("PGPORT", "6543")
    queue = AsyncOmniQ(storage_type=type, base_dir=tmp_path)
    assert said.format(path=tmp_path) in queue.describe()
    assert said.format(path=tmp_path) in Backend(type, base_dir=tmp_path).storage.describe()


def test_files_by_path_object_store_or_filesystem(tmp_path: Path) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    uri = f"file://{tmp_path}/objects"
    for backend in (
        FileBackend(tmp_path / "tasks"),
        FileBackend(str(tmp_path / "tasks")),
        FileBackend(base_dir=tmp_path),
        FileBackend(f"file://{tmp_path}/tasks"),
        FileBackend(obstore_uri=uri),
        FileBackend(MemoryFileSystem(), path="/tasks"),
        FileBackend("memory://tasks"),
        FileBackend("s3://bucket/tasks"),
    ):
        assert type(backend.storage).__name__ == "AsyncFileStorage"
    for queue in (AsyncOmniQ(obstore_uri=uri), AsyncOmniQ({"storage": {"obstore_uri": uri}})):
        assert type(queue.stores.tasks).__name__ == "AsyncFileStorage"
        assert f"{tmp_path}/objects" in queue.describe()


def test_obstores_variable_alone_means_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNIQ_OBSTORE_URI", f"file://{tmp_path}/objects")
    queue = AsyncOmniQ()
    assert queue.config.storage.type == "file"
    assert f"{tmp_path}/objects" in queue.describe()
