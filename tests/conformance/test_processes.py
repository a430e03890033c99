"""Several processes at one place: nothing twice, nothing lost, everybody is told."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import pytest

from omniq.models import Flag, Status
from omniq.storage.base import AsyncStorage

from ..programs import ROOT, environment
from .kit import add, add_many, chores, counts, get, insert, result
from .neighbour import PAST
from .places import Ground, Spot

pytestmark = [pytest.mark.asyncio, pytest.mark.processes, pytest.mark.clusters, pytest.mark.ways]

TASKS = 200
PATIENCE = 60.0


class Neighbour:
    """A process at the same place."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def says(self) -> str:
        assert self.process.stdout is not None
        said = (await self.process.stdout.readline()).decode()
        assert said, f"it ended with {await self.process.wait()}"
        return said

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"go\n")

    async def answers(self) -> list[str]:
        """What came of its deed."""
        return msgspec.json.decode(await self.says(), type=list[str])

    async def ends(self) -> int:
        """Its status, after a line it may wait for."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return await self.process.wait()


Invite = Callable[[str, str], Awaitable[Neighbour]]


@pytest.fixture
async def system(spot: Spot, ground: Ground) -> AsyncIterator[AsyncStorage]:
    """A client with the clock the neighbours have."""
    async with spot.new(ground) as storage:
        yield storage


@pytest.fixture
async def invite(spot: Spot, ground: Ground) -> AsyncIterator[Invite]:
    """Starts a neighbour that waits for `go()`."""
    neighbours: list[Neighbour] = []

    async def start(deed: str, word: str) -> Neighbour:
        words = [msgspec.json.encode(part).decode() for part in (spot, ground)]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.conformance.neighbour", *words, deed, word),
            cwd=ROOT,
            env=environment(()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        neighbour = Neighbour(process)
        neighbours.append(neighbour)
        assert await neighbour.says() == "open\n"
        return neighbour

    yield start
    for neighbour in neighbours:
        if neighbour.process.returncode is None:
            neighbour.process.kill()
        await neighbour.process.communicate()


async def test_processes_share_the_work_and_no_task_is_given_twice(
    system: AsyncStorage, invite: Invite
) -> None:
    await add_many(system, [insert(at=PAST) for _ in range(TASKS)])
    neighbours = await asyncio.gather(*(invite("empty", f"w{n}") for n in range(2)))
    for neighbour in neighbours:
        neighbour.go()
    shares = [await neighbour.answers() for neighbour in neighbours]
    given = Counter(id for share in shares for id in share)
    assert len(given) == TASKS
    assert set(given.values()) == {1}
    assert await counts(system) == {("q", Status.SUCCEEDED): TASKS}
    for n, share in enumerate(shares):
        results = await system.get_results(share)
        assert [each.value for each in results] == [f"w{n}".encode()] * len(share)
    assert [await neighbour.ends() for neighbour in neighbours] == [0, 0]


async def test_an_ear_hears_of_work_another_process_brings(
    system: AsyncStorage, invite: Invite
) -> None:
    neighbour = await invite("add", "letters")
    async with system.listen(["queue:letters"]) as ear:
        neighbour.go()
        assert await ear.wait(PATIENCE) == {"queue:letters"}
    [id] = await neighbour.answers()
    assert (await get(system, id)).status is Status.READY


async def test_an_ear_hears_that_another_process_ended_a_task(
    system: AsyncStorage, invite: Invite
) -> None:
    task = await add(system, at=PAST, queue="letters", reply="client-1")
    neighbour = await invite("end", "letters")
    async with system.listen(["inbox:client-1"]) as ear:
        neighbour.go()
        while (ended := await result(system, task.id)) is None:
            assert await ear.wait(PATIENCE), "nobody said that it ended"
    assert ended.value == b"from next door"


async def test_what_a_killed_process_held_is_a_chore(system: AsyncStorage, invite: Invite) -> None:
    task = await add(system, at=PAST, queue="letters")
    neighbour = await invite("hold", "letters")
    neighbour.go()
    assert await neighbour.answers() == [task.id]
    neighbour.process.kill()
    while not (found := await chores(system)):
        await asyncio.sleep(0.05)  # its lease runs out by the place's own clock
    assert [(chore.id, chore.flags) for chore in found] == [(task.id, Flag.LOST)]
