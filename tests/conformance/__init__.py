"""The storage port's contract, held against every storage through both faces."""

import pytest

pytest.register_assert_rewrite("tests.conformance.machine", "tests.conformance.witness")
