"""What every test may ask for, and how Hypothesis is run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from omniq.clock import ManualClock

from .servers.fixtures import (  # noqa: F401  (fixtures are found by their names)
    nats_cluster_url,
    nats_url,
    postgres_programs,
    postgres_url,
    private_nats,
    private_postgres,
    private_redis,
    private_s3,
    redis_cluster_url,
    redis_url,
    s3_server,
    server_folder,
)

# The same examples everywhere and for ever: a failure in CI is a failure at every desk.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# New examples at each run, for whoever hunts: `HYPOTHESIS_PROFILE=hunt`, and
# `--hypothesis-seed=N` to see one of its finds again.
settings.register_profile("hunt", settings.get_profile("ci"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# A shell starts what runs beside it with SIGINT ignored, and every child of ours would inherit
# that; with a handler in this process they start as from a terminal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def clock() -> ManualClock:
    """A clock that moves only when the test says so."""
    return ManualClock()


@pytest.fixture
def db_path(tmp_path: Path) -> Path:
    """Where a test may keep a database of its own."""
    return tmp_path / "tasks.db"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where everything can be installed, a test that was skipped is a test that is missing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and reporter.stats.get("skipped") and _must_run_all():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = len(terminalreporter.stats.get("skipped", []))
    verdict = ", which fails this run" if skipped and _must_run_all() else ""
    terminalreporter.line(f"skipped: {skipped or 'none'}{verdict}")


def _must_run_all() -> bool:
    return bool(os.environ.get("CI") or os.environ.get("OMNIQ_TEST_NO_SKIP"))
