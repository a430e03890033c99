"""What is said when a place is opened, what its server's settings take away, and `strict`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omniq import AsyncOmniQ
from omniq.errors import ConfigError
from omniq.ids import uuid7
from omniq.models.config import OmniQConfig
from omniq.session import manager_for
from omniq.storage.base import Capabilities
from tests.servers.valkey import Valkey

pytestmark = pytest.mark.asyncio

MakeRedis = Callable[..., Valkey]


def fresh(**options: Any) -> AsyncOmniQ:
    """A queue nobody has told of before."""
    return AsyncOmniQ(namespace=f"ns{uuid7()}", embedded=False, **options)


async def told(queue: AsyncOmniQ, log: pytest.LogCaptureFixture) -> tuple[str, list[str]]:
    """The line of a place that is opened, and its warnings."""
    with log.at_level(logging.INFO, "omniq.storage"):
        async with queue:
            pass
    lines = [
        (each.levelno, each.getMessage())
        for each in log.records
        if each.name.startswith("omniq.storage")
    ]
    [line] = [text for level, text in lines if level == logging.INFO]
    return line, [text for level, text in lines if level == logging.WARNING]


async def refusal(queue: AsyncOmniQ) -> str:
    with pytest.raises(ConfigError, match=r"is refused by durability='strict'") as caught:
        await queue.open()
    return str(caught.value)


async def test_files_in_a_directory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = {"storage_url": f"file://{tmp_path}/tasks"}
    line, warnings = await told(fresh(**options), caplog)
    assert f"Tasks are kept at directory {tmp_path}/tasks" in line
    assert "survives a crash of the process, not of the machine" in line
    assert warnings == []
    caplog.clear()
    line, warnings = await told(fresh(**options, durability="strict"), caplog)
    assert "survives a loss of power" in line
    assert warnings == []


async def test_files_by_obstore_cannot_be_strict(tmp_path: Path) -> None:
    queue = fresh(obstore_uri=f"file://{tmp_path}/objects", durability="strict")
    assert "give the directory as a path instead" in await refusal(queue)


async def test_postgres_says_what_its_server_is_set_to(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    line, warnings = await told(fresh(storage_url=postgres_url, durability="strict"), caplog)
    assert "survives a loss of power (PostgreSQL" in line
    assert "synchronous_commit=on, fsync=on" in line
    assert warnings == []


async def test_nats_alone_is_warned_of_and_not_strict(
    nats_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    line, warnings = await told(fresh(storage_url=nats_url), caplog)
    assert "survives a crash of the process" in line
    assert any("sync_interval" in text for text in warnings)
    assert "sync_interval: always" in await refusal(
        fresh(storage_url=nats_url, durability="strict")
    )
    strict = fresh(storage_url=nats_url, durability="strict", storage_options={"sync": "always"})
    async with strict:
        assert strict.stores.tasks.capabilities.durability == "power"


REDIS = [
    ({"appendonly": "no"}, "appendonly=no", "set appendonly yes"),
    (
        {"appendonly": "yes", "maxmemory-policy": "allkeys-lru"},
        "appendonly=yes",
        "set maxmemory-policy noeviction",
    ),
]


@pytest.mark.parametrize(("settings", "said", "instead"), REDIS, ids=["snapshots", "eviction"])
async def test_redis_that_may_lose_tasks(
    settings: dict[str, str],
    said: str,
    instead: str,
    private_redis: MakeRedis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = private_redis(**settings).url
    line, warnings = await told(fresh(storage_url=url), caplog)
    assert said in line
    assert [instead in text for text in warnings] == [True]
    assert instead in await refusal(fresh(storage_url=url, durability="strict"))


async def test_redis_that_waits_for_its_disk(
    private_redis: MakeRedis, caplog: pytest.LogCaptureFixture
) -> None:
    url = private_redis(appendonly="yes", appendfsync="always").url
    line, warnings = await told(fresh(storage_url=url, durability="strict"), caplog)
    assert "survives a loss of power" in line
    assert warnings == []


async def test_strict_asks_every_place_unless_its_options_say_otherwise(tmp_path: Path) -> None:
    kept: dict[str, Any] = {
        "base_dir": str(tmp_path),
        "durability": "strict",
        "storage": "file",
        "result_storage": "memory",
    }
    assert "memory of this process" in await refusal(AsyncOmniQ(kept))
    kept["result_storage"] = {"type": "memory", "options": {"durability": "normal"}}
    async with AsyncOmniQ(kept, embedded=False) as queue:
        assert queue.stores.tasks.capabilities.durability == "power"


async def test_a_server_that_keeps_nothing_on_disk_is_still_shared() -> None:
    """A key of this process alone would be no use to the workers of others."""
    server = Capabilities(push=True, multiprocess=True, local=False, durability="none")
    assert manager_for(OmniQConfig(), server).keys is None
