"""A server that dies, comes back, is full, or answers into the void: nothing lost or doubled."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from nats.aio.client import Client

from omniq.clock import SYSTEM_CLOCK
from omniq.errors import ConfigError, StorageError, StorageUnavailable
from omniq.ids import uuid7
from omniq.models import Applied, Insert, Status
from omniq.models.filters import TaskFilter
from omniq.models.row import TaskRow
from omniq.storage.nats import AsyncNATSStorage
from tests.conformance import kit
from tests.conformance.kit import claim, finish
from tests.servers.nats import Nats, NatsCluster

from .nats_hand import Wire, by_operator, new_namespace

pytestmark = [pytest.mark.asyncio, pytest.mark.newer]

T = TypeVar("T")
PrivateNats = Callable[..., Nats]


def insert(**fields: Any) -> Insert:
    return kit.insert(at=SYSTEM_CLOCK.now(), **fields)


async def all_rows(storage: AsyncNATSStorage) -> list[TaskRow]:
    rows: list[TaskRow] = []
    cursor = None
    while True:
        page = await storage.find_tasks(TaskFilter(), limit=500, cursor=cursor)
        rows += page.rows
        if (cursor := page.cursor) is None:
            return rows


async def surely(call: Callable[[], Awaitable[T]]) -> T:
    """What a call gives once the server is back: it says meanwhile that it is away."""
    async with asyncio.timeout(90):
        while True:
            try:
                return await call()
            except StorageUnavailable:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def storage_at(
    url: str, namespace: str | None = None, **options: Any
) -> AsyncIterator[AsyncNATSStorage]:
    async with AsyncNATSStorage(url, namespace=namespace or new_namespace(), **options) as storage:
        yield storage


# ---- answers that get lost


@pytest.fixture
def wire(nats_url: str) -> Iterator[Wire]:
    with Wire(nats_url) as wire:
        yield wire


async def test_whatever_answer_is_lost_a_task_is_there_once(wire: Wire, nats_url: str) -> None:
    namespace = new_namespace()
    async with storage_at(wire.url, namespace) as storage, storage_at(nats_url, namespace) as seer:
        for n in range(5):
            wire.swallow = f"oq.{namespace}.log".encode()
            receipt = await storage.apply([insert()])
            assert receipt.outcome == [Applied.APPLIED]
            assert wire.cuts == n + 1
        assert len(await all_rows(seer)) == 5
        wire.swallow = f"oq.{namespace}.log".encode()
        batch = await storage.claim(claim(limit=3))
        assert len(batch.tasks) == 3
        assert Counter(r.status for r in await all_rows(seer)) == {
            Status.RUNNING: 3,
            Status.READY: 2,
        }


async def test_a_connection_that_breaks_is_made_again_and_ears_are_told(
    wire: Wire, nats_url: str
) -> None:
    namespace = new_namespace()
    async with (
        storage_at(wire.url, namespace) as storage,
        storage_at(nats_url, namespace) as other,
        storage.listen(["queue:q"]) as ear,
    ):
        for _ in range(3):
            wire.cut()
            await other.apply([insert()])
            assert await ear.wait(60) == {"queue:q"}
            assert len((await storage.claim(claim(limit=5))).tasks) == 1


# ---- a server that dies


async def test_a_killed_server_costs_nothing_that_was_acknowledged(
    private_nats: PrivateNats,
) -> None:
    server = private_nats()
    namespace = new_namespace()
    async with storage_at(server.url, namespace) as storage, storage_at(server.url, namespace) as b:
        acknowledged: set[str] = set()

        async def enqueue() -> None:
            for _ in range(150):
                unit = insert()
                await surely(lambda unit=unit: storage.apply([unit]))  # type: ignore[misc]
                acknowledged.add(unit.row.id)

        writers = [asyncio.create_task(enqueue()) for _ in range(2)]
        while len(acknowledged) < 50:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        server.kill()
        await asyncio.to_thread(server.start)
        await asyncio.gather(*writers)
        found = Counter(r.id for r in await surely(lambda: all_rows(b)))
        assert set(found) == acknowledged
        assert set(found.values()) == {1}
        async with b.listen(["queue:other"]) as ear:
            await storage.apply([insert(queue="other")])
            assert "queue:other" in await ear.wait(60)


async def test_a_server_that_is_away_is_said_to_be(private_nats: PrivateNats) -> None:
    server = private_nats()
    async with storage_at(server.url) as storage:
        server.kill()
        with pytest.raises(StorageUnavailable, match="cannot be reached"):
            await storage.apply([insert()])
        await asyncio.to_thread(server.start)
        # The way back is found between two tries, and the call waits less than a second for it.
        receipt = await surely(lambda: storage.apply([insert()]))
        assert receipt.outcome == [Applied.APPLIED]


async def test_a_leader_killed_in_the_middle_loses_and_doubles_nothing(
    server_folder: Callable[[], Path],
) -> None:
    tasks, settled = 600, Counter[str]()
    with NatsCluster(server_folder()) as cluster:
        namespace = new_namespace()

        async def leader(client: Client) -> str:
            while True:  # they may be choosing one
                info = await client.jetstream(timeout=60).stream_info(f"OQ_{namespace}")
                assert info.cluster is not None
                if info.cluster.leader:
                    return info.cluster.leader
                await asyncio.sleep(0.05)

        async def work(storage: AsyncNATSStorage, owner: str) -> None:
            while sum(settled.values()) < tasks:
                asked = claim(owner=owner, request=uuid7(), limit=10, lease=600_000)
                batch = await surely(lambda asked=asked: storage.claim(asked))
                moves = [finish(row) for row in batch.tasks]
                receipt = await surely(lambda moves=moves: storage.apply(moves))
                # A move whose answer got lost is refused when it comes again: see the rows.
                settled.update(
                    move.id
                    for move, outcome in zip(moves, receipt.outcome, strict=True)
                    if outcome is Applied.APPLIED
                )
                if not batch.tasks:
                    break

        async with (
            storage_at(cluster.url, namespace, durability="strict") as one,
            storage_at(cluster.url, namespace) as two,
        ):
            units = [insert() for _ in range(tasks)]
            for start in range(0, tasks, 100):
                part = units[start : start + 100]
                await surely(lambda part=part: one.apply(part))  # type: ignore[misc]
            workers = [
                asyncio.create_task(work(one, "one")),
                asyncio.create_task(work(two, "two")),
            ]
            while len(settled) < 100:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            name = await by_operator(cluster.url, leader)
            cluster.nodes[int(name[1:])].kill()
            await asyncio.gather(*workers)
            rows = await surely(lambda: all_rows(two))
        assert Counter(r.id for r in rows) == Counter(unit.row.id for unit in units)
        assert {(r.status, r.epoch) for r in rows} == {(Status.SUCCEEDED, 1)}
        assert set(settled.values()) == {1}


# ---- a server that is full


async def test_a_full_stream_refuses_and_loses_nothing(nats_url: str) -> None:
    namespace = new_namespace()

    async def limit(client: Client, size: int) -> None:
        js = client.jetstream(timeout=60)
        config = (await js.stream_info(f"OQ_{namespace}")).config
        await js.update_stream(config.evolve(max_bytes=size))

    async with storage_at(nats_url, namespace) as storage:
        await storage.apply([insert()])
        await by_operator(nats_url, lambda client: limit(client, 20_000))
        stored = 1
        with pytest.raises(StorageUnavailable, match="no room"):
            for _ in range(100):
                await storage.apply([insert(preview="x" * 500)])
                stored += 1
        assert 1 < stored < 100
        assert len(await all_rows(storage)) == stored
        await by_operator(nats_url, lambda client: limit(client, -1))
        await storage.apply([insert()])
        async with storage_at(nats_url, namespace) as late:
            assert len(await all_rows(late)) == stored + 1


async def test_a_server_out_of_storage_refuses_and_loses_nothing(
    private_nats: PrivateNats, tmp_path: Path
) -> None:
    config = tmp_path / "small.conf"
    config.write_text("jetstream { max_file_store: 200KB }")
    server = private_nats("-c", str(config))
    async with storage_at(server.url) as storage:
        stored = 0
        with pytest.raises(StorageUnavailable, match="no room"):
            while stored < 2_000:
                await storage.apply([insert(preview="x" * 500) for _ in range(10)])
                stored += 10
        assert 0 < stored < 2_000
        assert len(await all_rows(storage)) == stored


async def test_values_beyond_the_servers_max_payload_are_kept(
    private_nats: PrivateNats, tmp_path: Path
) -> None:
    config = tmp_path / "small.conf"
    config.write_text("max_payload: 64KB")
    server = private_nats("-c", str(config))
    async with storage_at(server.url) as storage:
        large, many = b"x" * 100_000, [insert(body=b"y" * 900) for _ in range(60)]
        unit = insert(body=large)
        await storage.apply([unit])
        await storage.apply(many)
        (found,) = await storage.get_tasks([unit.row.id])
        assert found.body == large
        assert len(await all_rows(storage)) == 61


# ---- a stream that is removed


async def test_tasks_go_on_in_a_stream_that_had_to_be_made_anew(nats_url: str) -> None:
    namespace = new_namespace()

    async def remove(client: Client) -> None:
        await client.jetstream(timeout=60).delete_stream(f"OQ_{namespace}")
        await client.jetstream(timeout=60).delete_stream(f"OBJ_OQ_{namespace}")

    async with storage_at(nats_url, namespace) as storage:
        await storage.apply([insert(), insert(), insert()])
        await by_operator(nats_url, remove)
        unit = insert()
        receipt = await storage.apply([unit])
        assert receipt.outcome == [Applied.APPLIED]
        assert [r.id for r in await all_rows(storage)] == [unit.row.id]


# ---- processes


async def test_a_forked_child_is_told_to_open_a_twin(nats_url: str) -> None:
    namespace = new_namespace()
    async with storage_at(nats_url, namespace) as storage:
        await storage.apply([insert()])
        child = os.fork()
        if child == 0:
            os._exit(_in_the_child(storage))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert len(await all_rows(storage)) == 2


def _in_the_child(storage: AsyncNATSStorage) -> int:
    """In a forked child: 0 if its parent's connection is left alone and its own works."""
    asyncio.set_event_loop(None)
    signal.alarm(90)

    async def use() -> int:
        try:
            await storage.apply([insert()])
        except StorageError:
            async with storage.twin() as twin:
                await twin.apply([insert()])
                return 0 if len(await all_rows(twin)) == 2 else 3
        return 2

    asyncio.events._set_running_loop(None)
    with asyncio.Runner() as runner:
        return runner.run(use())


async def test_a_program_that_closes_nothing_ends_quietly(nats_url: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import asyncio, sys\n"
        "from omniq.storage.nats import AsyncNATSStorage\n"
        "async def main():\n"
        "    storage = AsyncNATSStorage(sys.argv[1], namespace=sys.argv[2])\n"
        "    await storage.open()\n"
        "    print(await storage.count_tasks())\n"
        "asyncio.run(main())\n"
    )
    ran = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", program, nats_url, new_namespace()],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert (ran.returncode, ran.stdout) == (0, "[]\n")
    assert "Error" not in ran.stderr
    assert "Warning" not in ran.stderr
    assert "never" not in ran.stderr


async def test_a_strict_storage_that_is_refused_leaves_nothing_open(nats_url: str) -> None:
    for _ in range(3):
        with pytest.raises(ConfigError):
            async with storage_at(nats_url, durability="strict"):
                pass
