"""No settings from outside, and none left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from omniq.config import env


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("OMNIQ_")]:
        monkeypatch.delenv(name)
    env._warned.clear()
    yield
    env._warned.clear()
