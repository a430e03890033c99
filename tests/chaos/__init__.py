"""Torture: workers and places that are killed, stopped and cut off."""

import pytest

pytest.register_assert_rewrite("tests.chaos.checker")
