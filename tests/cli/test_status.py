"""`omniq status`, `omniq retry`, `omniq version` and `omniq dashboard`."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from omniq import AsyncOmniQ
from omniq.cli.commands import cli
from tests.programs import PATIENCE, Program

pytestmark = pytest.mark.once


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def omniq(*words: str) -> Result:
    return CliRunner().invoke(cli, words, prog_name="omniq")


def fail() -> None:
    raise ValueError("this one never works")


def failed_task() -> str:
    async def make() -> str:
        async with AsyncOmniQ() as queue:
            task = await queue.enqueue(fail, retries=0, queue="mail")
            async for _ in queue.results([task]):
                pass
            return task.id

    return asyncio.run(make())


def test_status_of_the_queue_in_this_folder() -> None:
    failed_task()
    shown = omniq("status")
    assert shown.exit_code == 0
    lines = [line.split() for line in shown.output.splitlines() if line]
    assert ["queue", "failed"] in lines and ["mail", "1"] in lines
    assert "nobody works on these tasks now" in shown.output


def test_status_for_programs() -> None:
    failed_task()
    report = json.loads(omniq("status", "--json").output)
    assert report["queues"] == {"mail": {"failed": 1}} and report["workers"] == []


def test_a_failed_task_is_run_again() -> None:
    task = failed_task()
    told = omniq("retry", task)
    assert told.exit_code == 0 and f"task {task} will run again" in told.output
    again = omniq("retry", task)
    assert again.exit_code == 1 and "is waiting or running" in again.output


def test_a_task_that_does_not_exist() -> None:
    failed_task()
    told = omniq("retry", "0198c0de-0000-7000-8000-000000000000")
    assert told.exit_code == 1
    assert told.output.startswith("Error: no task has the id '0198c0de-")


def test_looking_makes_no_queue(here: Path) -> None:
    told = omniq("status")
    assert told.exit_code == 1
    assert told.output.startswith(f"Error: no queue is kept in {here / '.omniq'}: go to your app's")
    assert list(here.iterdir()) == []


def test_a_misspelt_database_is_not_made(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "app.py").write_text(
        "from omniq import AsyncOmniQ\nqueue = AsyncOmniQ(storage_url='sqlite:///data/tsks.db')\n"
    )
    monkeypatch.syspath_prepend(here)
    for words in (["status", "app:queue"], ["retry", "--app", "app:queue", "some-id"]):
        told = omniq(*words)
        assert told.exit_code == 1
        assert told.output == (
            f"Error: no queue is kept at SQLite {here}/data/tsks.db: if storage_url "
            "(OMNIQ_STORAGE_URL) is not misspelt, start the app that keeps its tasks there first\n"
        )
    for role in ("STORAGE", "TASK_QUEUE"):  # the second of them wins over the first
        monkeypatch.setenv(f"OMNIQ_{role}_URL", f"sqlite:///{here}/tsks.db")
        told = omniq("status")
        assert told.exit_code == 1 and f"no queue is kept at SQLite {here}/tsks.db" in told.output
        assert f" if {role.lower()}_url (OMNIQ_{role}_URL) is not misspelt" in told.output
    assert [path.name for path in here.iterdir() if path.name != "__pycache__"] == ["app.py"]


def test_a_place_made_by_hand_is_named_by_no_setting(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "hand.py").write_text(
        "from omniq import AsyncOmniQ\nfrom omniq.backend import SQLiteBackend\n"
        "queue = AsyncOmniQ(backend=SQLiteBackend('tsks.db'))\n"
    )
    monkeypatch.syspath_prepend(here)
    told = omniq("status", "hand:queue")
    assert told.exit_code == 1 and "tsks.db: if it is not misspelt" in told.output
    assert not (here / "tsks.db").exists()


def test_a_base_folder_without_a_database_is_named_by_its_setting(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "base").mkdir()
    monkeypatch.setenv("OMNIQ_BASE_DIR", str(here / "base"))
    told = omniq("status")
    assert told.exit_code == 1 and "if base_dir (OMNIQ_BASE_DIR) is not misspelt" in told.output
    assert list((here / "base").iterdir()) == []


def test_a_dashboard_that_is_there_before_its_queue_says_so(here: Path) -> None:
    """It serves all the same: whoever starts it need not wait for the app."""
    url = {"OMNIQ_STORAGE_URL": f"sqlite:///{here}/tsks.db"}
    command = ["-m", "omniq.cli", "dashboard", "--port", "0"]
    for warned in (True, False):
        with Program(command, cwd=here, env=url) as served:
            served.says(r"Dashboard\s+(http://\S+token=\S+)")
            served.send(signal.SIGTERM)
            assert served.ends() == 0
        warning = (
            f"Warning: no queue is kept at SQLite {here}/tsks.db yet, so an empty one is made: is "
            "storage_url (OMNIQ_STORAGE_URL) right?"
        )
        assert (warning in served.output) == warned


def test_looking_makes_no_queue_of_another_database(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(here / "theirs.db")) as theirs:
        theirs.execute("CREATE TABLE orders (name TEXT)")
        theirs.commit()
    before = (here / "theirs.db").read_bytes()
    monkeypatch.setenv("OMNIQ_STORAGE_URL", f"sqlite:///{here}/theirs.db")
    for words in (["status"], ["retry", "0198c0de-0000-7000-8000-000000000000"]):
        told = omniq(*words)
        assert told.exit_code == 1
        assert f"no queue is kept at SQLite {here}/theirs.db" in told.output
    assert (here / "theirs.db").read_bytes() == before
    assert [path.name for path in here.iterdir()] == ["theirs.db"]


def test_looking_at_a_queue_leaves_nothing_beside_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNIQ_STORAGE_URL", f"sqlite:///{here}/tasks.db")
    monkeypatch.setenv("OMNIQ_BASE_DIR", str(here / "keys"))
    failed_task()
    monkeypatch.setenv("OMNIQ_BASE_DIR", str(here / "elsewhere"))
    assert json.loads(omniq("status", "--json").output)["queues"] == {"mail": {"failed": 1}}
    assert not (here / "elsewhere").exists()


def test_memory_has_no_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIQ_STORAGE_TYPE", "memory")
    told = omniq("status")
    assert told.exit_code == 1 and "memory" in told.output and "Traceback" not in told.output


def test_version() -> None:
    told = omniq("version")
    assert told.output.startswith("OmniQ ") and told.exit_code == 0
    assert omniq("--version").output == told.output
    assert omniq("--version", "status").output == told.output


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_a_host_that_is_not_ours_is_said(host: str) -> None:
    for words in (["dashboard", "--host", host], ["dashboard", "--host", host, "--port", "0"]):
        told = omniq(*words)
        assert told.exit_code == 1
        assert told.output.startswith(f"Error: cannot serve on '{host}': ")
        assert told.output.endswith("; choose another --host, such as 127.0.0.1\n")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    for name in [name for name in sys.modules if name.startswith("omniq._demo")]:
        monkeypatch.delitem(sys.modules, name)
    told = omniq("demo", "--exit", "--port", "0")
    assert told.exit_code == 1
    assert told.output == "Error: this command needs PIL: pip install 'omniq-tasks[demo]'\n"


def test_every_command_says_what_it_does() -> None:
    shown = omniq("--help").output
    assert [name for name in cli.commands if name not in shown] == []
    for name, command in cli.commands.items():
        assert command.help and omniq(name, "--help").exit_code == 0


def test_the_dashboard_stands_alone(here: Path) -> None:
    task = failed_task()
    with Program(["-m", "omniq.cli", "dashboard", "--port", "0"], cwd=here) as served:
        link = served.says(r"Dashboard\s+(http://\S+token=\S+)")[1]
        with httpx.Client(follow_redirects=True, timeout=PATIENCE) as browser:
            assert task in browser.get(link.replace("/?", "/tasks?")).text
        served.send(signal.SIGTERM)
        assert served.ends() == 0


def test_a_port_in_use_is_said(here: Path) -> None:
    with Program(["-m", "omniq.cli", "dashboard", "--port", "0"], cwd=here) as first:
        port = first.says(r"http://127.0.0.1:(\d+)")[1]
        with Program(["-m", "omniq.cli", "dashboard", "--port", port], cwd=here) as second:
            assert second.ends() == 1
    assert "choose another --port, or 0 for a free one" in second.output
