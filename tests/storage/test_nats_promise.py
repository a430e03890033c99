"""What is said at open of what acknowledged tasks survive."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from nats.aio.client import Client

from omniq.errors import ConfigError
from omniq.storage.nats import AsyncNATSStorage

from .nats_hand import by_operator, new_namespace

pytestmark = pytest.mark.asyncio

Told = Callable[..., Awaitable[list[tuple[int, str]]]]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """Opens a storage and gives what was logged."""

    async def told(url: str, **options: Any) -> list[tuple[int, str]]:
        caplog.clear()
        with caplog.at_level(logging.INFO, "omniq.storage"):
            async with AsyncNATSStorage(url, **{"namespace": new_namespace(), **options}):
                pass
        records = [record for record in caplog.records if record.name == "omniq.storage"]
        return [(record.levelno, record.getMessage()) for record in records]

    return told


async def test_one_replica_survives_a_crash_and_says_what_power_takes(
    nats_url: str, told: Told
) -> None:
    (info, line), (warning, undone) = await told(nats_url)
    assert (info, warning) == (logging.INFO, logging.WARNING)
    assert "survives a crash of the process" in line
    assert "1 replica," in line
    assert "two minutes" in undone
    assert "sync_interval: always" in undone


async def test_strict_wants_more_than_that(nats_url: str) -> None:
    with pytest.raises(ConfigError, match=r"durability='strict'.*sync_interval"):
        async with AsyncNATSStorage(nats_url, namespace=new_namespace(), durability="strict"):
            pass


async def test_where_the_servers_sync_always_power_takes_nothing(nats_url: str, told: Told) -> None:
    [(level, line)] = await told(f"{nats_url}?sync=always", durability="strict")
    assert level == logging.INFO
    assert "survives a loss of power" in line


async def test_a_cluster_keeps_three_replicas_unasked(nats_cluster_url: str, told: Told) -> None:
    namespace = new_namespace()
    [(_, line)] = await told(nats_cluster_url, namespace=namespace, durability="strict")
    assert "survives the loss of a node" in line

    async def copies(client: Client) -> set[int]:
        js = client.jetstream(timeout=60)
        streams = [await js.stream_info(f"{head}OQ_{namespace}") for head in ("", "OBJ_")]
        return {stream.config.num_replicas or 0 for stream in streams}

    assert await by_operator(nats_cluster_url, copies) == {3}


async def test_one_replica_in_a_cluster_can_be_asked_for_and_raised(
    nats_cluster_url: str,
) -> None:
    namespace = new_namespace()
    for replicas, grade in ((1, "process"), (None, "process"), (3, "replicated")):
        storage = AsyncNATSStorage(nats_cluster_url, namespace=namespace, replicas=replicas)
        async with storage:
            assert storage.capabilities.durability == grade


async def test_a_stream_that_an_operator_weakened_is_told_of(nats_url: str, told: Told) -> None:
    namespace = new_namespace()
    await told(nats_url, namespace=namespace)

    async def weaken(client: Client) -> None:
        js = client.jetstream(timeout=60)
        config = (await js.stream_info(f"OQ_{namespace}")).config
        await js.update_stream(config.evolve(max_age=3600, max_bytes=10_000_000, discard="old"))

    await by_operator(nats_url, weaken)
    lines = [line for _, line in await told(nats_url, namespace=namespace)]
    assert any("max_age" in line for line in lines)
    assert any("drops its oldest" in line for line in lines)
    with pytest.raises(ConfigError, match="max_age"):
        await told(f"{nats_url}?sync=always", namespace=namespace, durability="strict")
