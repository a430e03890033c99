"""`omniq worker module:app` and its siblings with FastAPI and Starlette apps."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omniq import AsyncOmniQ
from omniq.cli.load import load
from omniq.contrib import fastapi
from omniq.errors import ConfigError
from tests.programs import Program, run

pytestmark = pytest.mark.asyncio
CLI = ["-m", "omniq.cli"]
HEAD = """
import os
from contextlib import asynccontextmanager
from pathlib import Path
from fastapi import Depends, FastAPI
from omniq.contrib import fastapi as omniq

opened = []

async def pool():
    assert opened, "the app's lifespan"
    yield len(opened)

@omniq.task("pid")
def pid(pools: int = Depends(pool)) -> list[int]:
    return [os.getpid(), pools]

@asynccontextmanager
async def own(app):
    opened.append(1)
    async with omniq.lifespan_context(app):
        yield
    Path("closed").touch()

app = FastAPI(lifespan=own)
"""


@pytest.fixture(autouse=True)
def _module(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", [str(here), *sys.path])
    yield
    for name in [name for name in sys.modules if name.startswith("web_")]:
        del sys.modules[name]


async def test_a_worker_enters_the_app_once_and_works_on_its_tasks(here: Path) -> None:
    (here / "web_app.py").write_text(HEAD)
    with Program([*CLI, "worker", "web_app:app"], cwd=here, paths=[here]) as worker:
        worker.says("Working on SQLite")
        async with AsyncOmniQ(embedded=False) as queue:
            task = await queue.enqueue("pid")
            assert await task.result(60) == [worker.process.pid, 1]
            (card,) = await queue.workers()
            assert not card.embedded
            report = run([*CLI, "status", "web_app:app", "--json"], cwd=here, paths=[here])
        assert json.loads(report.stdout)["queues"]["default"]["succeeded"] == 1
        assert not (here / "closed").exists()
        worker.send(signal.SIGTERM)
        assert worker.ends() == 0, worker.output
    assert (here / "closed").exists() and "dashboard" not in worker.output


def host(here: Path, name: str, text: str) -> AsyncOmniQ:
    (here / f"{name}.py").write_text(text)
    (queue,) = load(f"{name}:app").queues
    return queue


START = "from fastapi import FastAPI\nfrom omniq.contrib import fastapi as omniq\n"
WAYS = [
    "app = FastAPI(lifespan=omniq.lifespan)",
    "app = FastAPI()\nomniq.init_app(app)",
    "app = FastAPI()\napp.include_router(omniq.router)",
    HEAD,
]


@pytest.mark.parametrize("text", WAYS)
async def test_the_shared_extension_is_found_before_the_app_runs(here: Path, text: str) -> None:
    assert host(here, "web_shared", START + text) is fastapi.queue


async def test_one_whose_start_does_not_show_is_taken_to_be_the_shared_one(here: Path) -> None:
    fastapi.OmniQExtension.alive.clear()
    assert host(here, "web_shared", START + "app = FastAPI()") is fastapi.queue


MADE = "mine = omniq.OmniQExtension()\nother = omniq.OmniQExtension({'base_dir': '.other'})\n"
OWN = """
from contextlib import asynccontextmanager

@asynccontextmanager
async def own(app):
    async with mine.lifespan_context(app):
        yield

"""
MADE_WAYS = [
    "app = FastAPI(lifespan=mine.lifespan)",
    "app = FastAPI()\nmine.init_app(app)",
    "app = FastAPI()\napp.include_router(mine.router)",
    OWN + "app = FastAPI(lifespan=own)",
    OWN + "app = FastAPI(lifespan=own)\nmine.init_app(app)",
]


@pytest.mark.parametrize("text", MADE_WAYS)
async def test_the_apps_own_extension_is_found_among_others(here: Path, text: str) -> None:
    found = host(here, "web_own", START + MADE + text)
    assert found is sys.modules["web_own"].mine.queue


async def test_what_the_lifespan_really_starts_counts(here: Path) -> None:
    """Two extensions look possible from outside; once the app runs, it is one."""
    (here / "web_hidden.py").write_text(
        START
        + MADE
        + "from contextlib import asynccontextmanager\n"
        + "def started(app):\n    return other.lifespan_context(app)\n"
        + "app = FastAPI(lifespan=lambda app: started(app))\n"
    )
    host = load("web_hidden:app")
    assert len(host.queues) > 1
    async with host.running():
        assert list(host.queues) == [sys.modules["web_hidden"].other.queue]
        assert host.queues[0].embedded is False


async def test_an_app_that_starts_no_queue_says_what_to_write(here: Path) -> None:
    (here / "web_without.py").write_text(START + "app = FastAPI()\n")
    host = load("web_without:app")
    with pytest.raises(ConfigError, match=r"has started no queue: write lifespan=omniq.lifespan"):
        async with host.running():
            raise AssertionError("it ran")


async def test_memory_is_refused(here: Path) -> None:
    text = "app = FastAPI(lifespan=omniq.OmniQExtension(storage_type='memory').lifespan)\n"
    (here / "web_memory.py").write_text(START + text)
    with pytest.raises(ConfigError, match="from here it looks empty"):
        load("web_memory:app")
