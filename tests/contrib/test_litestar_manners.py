"""How the plugin behaves among others, and what it says where something is missing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.config.app import AppConfig
from litestar.plugins import InitPlugin

from omniq.contrib.litestar import OmniQPlugin

pytestmark = pytest.mark.asyncio

order: list[str] = []
started: list[asyncio.Event] = []


class Database(InitPlugin):
    """A plugin whose connections tasks use."""

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        app_config.lifespan.append(self._lifespan)
        return app_config

    @asynccontextmanager
    async def _lifespan(self, app: Litestar) -> AsyncIterator[None]:
        order.append("database open")
        yield
        order.append("database closed")


async def slow() -> None:
    order.append("task started")
    started[0].set()
    await asyncio.sleep(0.1)
    order.append("task done")


@pytest.mark.parametrize("place", [0, 1])
async def test_the_worker_drains_first_wherever_the_plugin_is_listed(
    place: int, tmp_path: Path
) -> None:
    order.clear()
    started[:] = [asyncio.Event()]
    omniq = OmniQPlugin(base_dir=tmp_path, dashboard=False)
    others: list[Any] = [Database()]
    others.insert(place, omniq)
    app = Litestar(plugins=others)
    async with app.lifespan():
        await omniq.queue.enqueue(slow)
        await started[0].wait()
    assert order == ["database open", "task started", "task done", "database closed"]
    assert app.plugins.get(OmniQPlugin) is omniq


WITHOUT = """
import sys
sys.modules[{name!r}] = None
try:
    import omniq.contrib.litestar
except ModuleNotFoundError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["litestar", "htpy"])
async def test_a_missing_extra_is_named(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(name=name)], capture_output=True, text=True
    )
    assert done.stdout == f"OmniQPlugin needs {name}: pip install 'omniq-tasks[litestar]'\n"
    assert done.stderr == ""


CLEAN = """
import sys
import omniq.contrib.litestar
print(sorted(name for name in ("click", "rich_click", "litestar.cli", "uvicorn", "dill")
    if name in sys.modules))
"""


async def test_serving_does_not_load_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-c", CLEAN], capture_output=True, text=True)
    loaded = done.stdout
    assert "litestar.cli" not in loaded and "rich_click" not in loaded, loaded + done.stderr
