"""What the command line says, and does not say, whatever the command is."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

import pytest

from omniq import AsyncOmniQ
from omniq.storage import AsyncMemoryStorage, durability
from tests.programs import Program, run

pytestmark = pytest.mark.newer

CLI = ["-m", "omniq.cli"]

SLOW = """\
import time
print("importing", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("words", [["worker", "slow:queue"], ["status", "slow:queue"]])
def test_an_interrupted_import_is_quiet(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    with Program([*CLI, *words], cwd=tmp_path) as program:
        program.says("importing")
        program.send(signal.SIGINT)
        assert program.ends() == 130
    assert program.output == "importing\n"


def test_an_interrupt_before_the_commands_are_there_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "click.py").write_text(SLOW)  # what the commands import first
    with Program([*CLI, "status"], cwd=tmp_path, paths=[tmp_path]) as program:
        program.says("importing")
        program.send(signal.SIGINT)
        assert program.ends() == 130
    assert program.output == "importing\n"


APP = """\
from omniq import AsyncOmniQ
queue = AsyncOmniQ()
"""


def test_unknown_variables_are_shown(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    for words in (["status"], ["status", "app:queue"]):
        told = run([*CLI, *words], cwd=tmp_path, OMNIQ_STORAGE_TYP="memory", OMNIQ_MAX_WORKERS="3")
        assert told.stderr.splitlines()[0] == (
            "Warning: environment variable OMNIQ_STORAGE_TYP is unknown and has no effect; "
            "did you mean 'OMNIQ_STORAGE_TYPE'?"
        )
        assert told.stderr.count("Warning") == 1


FAILING = """\
from omniq import TaskQueue, task
queue = TaskQueue(embedded=False)
@task(retries=0)
def boom():
    raise ValueError("on purpose")
"""


def test_a_worker_shows_what_it_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(FAILING)
    assert run(["-c", "import app; app.queue.enqueue(app.boom)"], cwd=tmp_path).returncode == 0
    told = run([*CLI, "worker", "app:queue", "--batch"], cwd=tmp_path)
    assert told.stderr.count("Warning: task ") == 1
    assert "failed for good in attempt 1: ValueError: on purpose" in told.stderr


@pytest.mark.parametrize(
    "setup",
    [
        "logging.basicConfig(format=FORM)",
        "logging.getLogger('omniq').addHandler(HERE)",
        "logging.getLogger('omniq.config').addHandler(HERE)",
    ],
)
def test_a_program_with_a_log_of_its_own_has_them_there(setup: str, tmp_path: Path) -> None:
    own = f"""\
import logging
FORM = "own: %(message)s"
HERE = logging.StreamHandler()
HERE.setFormatter(logging.Formatter(FORM))
{setup}
"""
    (tmp_path / "app.py").write_text(own + APP)
    told = run([*CLI, "status", "app:queue"], cwd=tmp_path, OMNIQ_STORAGE_TYP="memory")
    assert told.stderr.count("OMNIQ_STORAGE_TYP is unknown") == 1
    assert "own: environment variable" in told.stderr


def test_where_tasks_are_kept_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(storage: str) -> None:
        async with AsyncOmniQ(storage_url=storage, base_dir=tmp_path) as queue:
            await queue.start_worker()  # whose heartbeat has a connection of its own
            async with AsyncOmniQ(storage_url=storage, base_dir=tmp_path):
                pass

    with caplog.at_level(logging.INFO, logger="omniq.storage"):
        asyncio.run(work(f"sqlite:///{tmp_path}/tasks.db"))
        assert caplog.text.count("Tasks are kept at SQLite") == 1
        asyncio.run(work(f"sqlite:///{tmp_path}/other.db"))
        assert caplog.text.count("Tasks are kept at SQLite") == 2


@pytest.mark.asyncio
async def test_a_memory_place_says_it_once_too(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durability, "_told", set())  # other tests may have opened one
    with caplog.at_level(logging.INFO, logger="omniq.storage"):
        place = AsyncMemoryStorage()
        await place.open()
        await place.twin().open()
        await place.close()
        await place.open()
    assert caplog.text.count("nothing survives the end of the process that keeps it") == 1
