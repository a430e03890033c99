"""Every test has a directory of its own, and the module-level functions an extension of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from omniq.contrib import fastapi, starlette


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    fastapi.shared.default.cache_clear()
    starlette.shared.default.cache_clear()
    return tmp_path
