"""`site`: each durable place in turn, alone for one test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.sites import DURABLE, LOCAL, SERVED, Site
from tests.servers.server import Server


@pytest.fixture(params=DURABLE)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """Each durable place in turn, alone for this test."""
    name = str(request.param)
    settings: dict[str, Any] = {"base_dir": str(tmp_path / ".omniq"), "storage_type": name}
    if name in LOCAL:
        return Site(name, settings, None)
    start: Callable[[], Server] = request.getfixturevalue(SERVED[name])
    server = start()
    return Site(name, settings | {"storage_url": server.url}, server)
