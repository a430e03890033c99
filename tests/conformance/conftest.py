"""`storage` and `make_storage`: every test here runs once for each place and face.

Marks: `processes` for what needs several of them, which a place must declare; `clusters` for
what is run on a place's cluster, too; `ways` for what may depend on the way a storage is kept, so
that each variant of a place is held against it. Of the rest each rule is shown on one variant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio

from omniq.clock import ManualClock
from omniq.storage.base import AsyncStorage

from .places import PLACES, Ground, Spot, spots, takes

MakeStorage = Callable[[], Awaitable[AsyncStorage]]
NewGround = Callable[[Path], Ground]

_RUN = f"t{uuid4().hex[:16]}"
"""The namespace of this run, where one is enough."""
_left_out = Counter[str]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "spot" not in metafunc.fixturenames:
        return
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    everywhere = spots(cluster="clusters" in marks)
    alone = [s for s in everywhere if "processes" in marks and not PLACES[s.place].processes]
    _left_out.update(f"{s} has one process only" for s in alone)
    rule = f"{metafunc.module.__name__}.{metafunc.function.__name__}"
    shared = [s for s in everywhere if "ways" not in marks and not takes(s, rule)]
    _left_out.update(f"shown on another way than {s}" for s in shared)
    chosen = [s for s in everywhere if s not in alone and s not in shared]
    marks_of = {True: [pytest.mark.newer], False: []}
    metafunc.parametrize(
        "spot",
        [pytest.param(s, id=str(s), marks=marks_of[PLACES[s.place].unusual]) for s in chosen],
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told = ", ".join(f"{tests} ({why})" for why, tests in sorted(_left_out.items())) or "none"
    terminalreporter.line(f"conformance rules left out somewhere: {told}")


@pytest.fixture
def new_ground(spot: Spot, request: pytest.FixtureRequest) -> NewGround:
    """Gives a part of the place where nothing is; its server is started at need."""
    place = PLACES[spot.place]
    url = "" if place.server is None else str(request.getfixturevalue(place.server))

    def give(folder: Path) -> Ground:
        if place.empty is None:
            return Ground(str(folder), url, f"t{uuid4().hex[:16]}")
        place.empty(url, _RUN)
        return Ground(str(folder), url, _RUN)

    return give


@pytest.fixture
def ground(new_ground: NewGround, tmp_path: Path) -> Ground:
    return new_ground(tmp_path)


@pytest_asyncio.fixture
async def make_storage(
    spot: Spot, ground: Ground, clock: ManualClock
) -> AsyncIterator[MakeStorage]:
    """Each call opens one more client of the same place; all are closed at the end."""
    clients: list[AsyncStorage] = []
    async with AsyncExitStack() as stack:

        async def new_client() -> AsyncStorage:
            alone = clients and not PLACES[spot.place].shared
            client = clients[0].twin() if alone else spot.new(ground, clock)
            clients.append(client)
            return await stack.enter_async_context(client)

        yield new_client


@pytest_asyncio.fixture
async def storage(make_storage: MakeStorage) -> AsyncStorage:
    """One open client of an empty place."""
    return await make_storage()
