"""The storage port's contract, held against every storage through both faces."""

import sys

if "pytest" in sys.modules:  # a neighbour does without, and starts four times as fast
    import pytest

    pytest.register_assert_rewrite("tests.conformance.machine", "tests.conformance.witness")
