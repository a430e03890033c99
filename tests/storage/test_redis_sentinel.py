"""A master that dies under a Sentinel: the same storage goes on at the replica."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from omniq.clock import SYSTEM_CLOCK
from omniq.errors import ConfigError, StorageUnavailable
from omniq.models import Applied, Insert
from omniq.storage.redis import AsyncRedisStorage
from tests.conformance import kit
from tests.servers.server import LOOPBACK
from tests.servers.valkey import PASSWORD, Valkey, find

pytestmark = pytest.mark.asyncio

SECRET = "a-secret-of-sentinels"


class Sentinel(Valkey):
    """Watches one master, and makes its replica the master when it is gone."""

    name = "Sentinel"

    def __init__(self, folder: Path, master: Valkey) -> None:
        super().__init__(folder)
        self.settings = {"requirepass": SECRET}
        self._file = folder / "sentinel.conf"
        self._lines = [
            f"port {self.port}",
            f"bind {LOOPBACK}",
            f"dir {folder}",
            f"requirepass {SECRET}",
            f"sentinel monitor tasks {LOOPBACK} {master.port} 1",
            f"sentinel auth-pass tasks {PASSWORD}",
            "sentinel down-after-milliseconds tasks 4000",  # more than a slow machine stands still
            "sentinel failover-timeout tasks 6000",
        ]

    def prepare(self) -> None:
        super().prepare()
        self._file.write_text("\n".join(self._lines) + "\n")

    def command(self) -> list[str | Path]:
        return [find(), self._file, "--sentinel"]

    @property
    def url(self) -> str:
        """Without a login of its own, which goes into the query."""
        return f"redis+sentinel://:{PASSWORD}@{LOOPBACK}:{self.port}/tasks/0"

    async def knows_replica(self) -> bool:
        """Whether there is one that could take over."""
        async with Redis(port=self.port, password=SECRET) as redis:
            replicas = await redis.sentinel_slaves("tasks")
        return any(replica["master-link-status"] == "ok" for replica in replicas)


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[tuple[Valkey, Sentinel]]:
    """A master and the Sentinel that watches it and its replica."""
    with Valkey(tmp_path / "master", masterauth=PASSWORD) as master:
        following = {"masterauth": PASSWORD, "replicaof": f"{LOOPBACK} {master.port}"}
        sentinel = Sentinel(tmp_path / "sentinel", master)
        with Valkey(tmp_path / "replica", **following), sentinel:
            yield master, sentinel


def insert() -> Insert:
    """A task due at once by the server's clock."""
    return kit.insert(at=SYSTEM_CLOCK.now() - 1000)


async def test_a_master_that_dies_is_followed_to_its_replica(crew: tuple[Valkey, Sentinel]) -> None:
    master, sentinel = crew
    while not await sentinel.knows_replica():  # noqa: ASYNC110  it is others who work
        await asyncio.sleep(0.1)
    url = f"{sentinel.url}?sentinel_password={SECRET}"
    units = [insert() for _ in range(20)]
    async with AsyncRedisStorage(url) as storage, storage.listen(["queue:q"]) as ear:
        async with AsyncRedisStorage(url, wait_replicas=1, wait_timeout=60.0) as sure:
            assert (await sure.apply(units)).outcome == [Applied.APPLIED] * 20
        master.kill()
        late = insert()
        while True:
            try:
                await storage.apply([late])
                break
            except StorageUnavailable:
                await asyncio.sleep(0.05)
        ids = [unit.row.id for unit in (*units, late)]
        assert [row.id for row in await storage.get_tasks(ids)] == ids
        async with storage.twin() as other:
            async with asyncio.timeout(60):
                await storage._post.ready()
                await ear.wait(0.01)
                await other.apply([insert()])
                while "queue:q" not in await ear.wait(5):
                    pass


async def test_a_sentinel_with_a_login_names_it(crew: tuple[Valkey, Sentinel]) -> None:
    _, sentinel = crew
    with pytest.raises(ConfigError, match="sentinel_password"):
        await AsyncRedisStorage(sentinel.url).open()
