"""The file storage as it is opened: what it promises, what it is called, who else may use it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from omniq.clock import SYSTEM_CLOCK
from omniq.errors import ConfigError, StorageUnavailable
from omniq.storage.file import AsyncFileStorage
from omniq.storage.file.objects import ObstoreKeys

from ..conformance.kit import add, get, row
from ..servers.s3 import SECRET
from .file_places import obstore_options, options_of, s3fs_options
from .s3_between import between, refusal

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    ("place", "grade", "local", "multiprocess"),
    [
        ("local", "process", True, True),
        ("strict", "power", True, True),
        ("obstore-local", "process", True, True),
        ("obstore-memory", "none", True, False),
        ("obstore-s3", "replicated", False, True),
        ("fsspec-local", "process", True, True),
        ("fsspec-memory", "none", True, False),
        ("fsspec-s3", "replicated", False, True),
        ("fsspec-directory", "process", True, True),
    ],
)
async def test_each_place_says_what_survives(
    place: str,
    grade: str,
    local: bool,
    multiprocess: bool,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = options_of(place, tmp_path, lambda: request.getfixturevalue("s3_server"))
    with caplog.at_level(logging.INFO, "omniq.storage"):
        async with AsyncFileStorage(**options) as storage:
            can = storage.capabilities
            assert (can.durability, can.local, can.multiprocess) == (grade, local, multiprocess)
            assert storage.describe() in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("place", ["obstore-local", "obstore-memory", "fsspec-memory"])
async def test_strict_refuses_what_would_lose_tasks(place: str, tmp_path: Path) -> None:
    options = options_of(place, tmp_path, str)
    storage = AsyncFileStorage(**options, durability="strict")
    with pytest.raises(ConfigError, match="refused by durability='strict'") as error:
        await storage.open()
    if place == "obstore-local":
        assert "as a path" in str(error.value)


async def test_strict_takes_a_directory_and_a_bucket(tmp_path: Path, s3_server: str) -> None:
    for options in (
        {"where": tmp_path / "tasks"},
        options_of("obstore-s3", tmp_path, lambda: s3_server),
    ):
        async with AsyncFileStorage(**options, durability="strict") as storage:
            await add(storage)


async def test_credentials_in_a_url_are_not_shown() -> None:
    url = "s3://bucket/tasks?secret_access_key=secret-word"
    for options in ({"where": url}, {"obstore_uri": url}):
        assert "secret-word" not in AsyncFileStorage(**options).describe()


async def test_two_that_are_made_alike_are_at_one_place(tmp_path: Path) -> None:
    one = AsyncFileStorage(obstore_uri=f"file://{tmp_path}/objects", namespace="shop")
    two = AsyncFileStorage(obstore_uri=f"file://{tmp_path}/objects", namespace="shop")
    assert one.describe() == two.describe() == f"file://{tmp_path}/objects (namespace shop)"
    async with one, two:
        task = await add(one)
        assert (await get(two, task.id)).id == task.id


async def test_a_path_and_obstore_read_the_same_files(tmp_path: Path) -> None:
    async with AsyncFileStorage(tmp_path) as one:
        task = await add(one)
    async with AsyncFileStorage(obstore_uri=f"file://{tmp_path}") as two:
        assert (await get(two, task.id)).id == task.id


async def test_it_exists_once_it_was_opened(tmp_path: Path) -> None:
    storage = AsyncFileStorage(tmp_path / "tasks")
    assert not storage.exists()
    async with storage:
        assert storage.exists()
    assert AsyncFileStorage(tmp_path / "tasks").exists()
    assert not AsyncFileStorage(tmp_path / "tasks", namespace="other").exists()


@pytest.mark.parametrize("make", [obstore_options, s3fs_options])
async def test_a_lost_answer_is_found_again(
    make: Callable[[str], dict[str, Any]], s3_server: str
) -> None:
    with between(s3_server) as line:
        async with _behind(line.url, make) as storage:
            for n in range(3):
                line.first(1, "PUT", "lose")
                task = await add(storage, priority=n)
                assert (await get(storage, task.id)).priority == n
            assert sum(count.count for count in await storage.count_tasks()) == 3


async def test_a_server_that_is_gone_for_a_while(s3_server: str) -> None:
    with between(s3_server) as line:
        async with _behind(line.url, obstore_options, retry_config={"max_retries": 0}) as storage:
            task = await add(storage)
            line.fault = lambda request: refusal(503, "ServiceUnavailable")
            with pytest.raises(StorageUnavailable) as error:
                await add(storage)
            assert SECRET not in str(error.value)
            line.fault = lambda request: None
            assert (await get(storage, task.id)).id == task.id
            await add(storage)


def _behind(endpoint: str, make: Callable[[str], dict[str, Any]], **more: Any) -> AsyncFileStorage:
    url = f"s3://omniq/{uuid4().hex}"
    where = {"obstore_uri": url} if make is obstore_options else {"where": url}
    return AsyncFileStorage(**where, storage_options=make(endpoint) | more)


async def test_another_process_sees_it(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from omniq.storage.file import AsyncFileStorage
async def main():
    async with AsyncFileStorage(sys.argv[1]) as storage:
        print((await storage.get_tasks([sys.argv[2]]))[0].name)
asyncio.run(main())
"""
    async with AsyncFileStorage(tmp_path / "tasks", clock=SYSTEM_CLOCK) as storage:
        task = await add(storage, at=SYSTEM_CLOCK.now())
        command = [sys.executable, "-c", program, str(tmp_path / "tasks"), task.id]
        done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.stdout.strip() == row().name, done.stderr


async def test_azure_says_conflict_of_a_blob_that_is_there(s3_server: str) -> None:
    with between(s3_server) as line:
        options = {"account_name": "a", "account_key": "c2VjcmV0", "endpoint": line.url}
        keys = ObstoreKeys.at("az://container/x", "default", options | {"allow_http": True})
        line.fault = lambda request: refusal(409, "BlobAlreadyExists")
        assert not keys.create("log/1", b"x")
        assert len(line.seen) == 1
        line.fault = lambda request: refusal(404, "ContainerNotFound")
        with pytest.raises(ConfigError, match="no such bucket"):
            keys.create("log/1", b"x")
