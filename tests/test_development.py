"""The development commands do what they say."""

from __future__ import annotations

import inspect

import pytest


def test_m_asyncio_selects_every_async_test(request: pytest.FixtureRequest) -> None:
    """Among whatever tests this run has collected."""
    for item in request.session.items:
        if isinstance(item, pytest.Function):
            marked = item.get_closest_marker("asyncio") is not None
            assert not inspect.iscoroutinefunction(item.function) or marked, item.nodeid
