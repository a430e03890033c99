"""Where tasks may be worked on, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from litestar import Litestar

from omniq import AsyncOmniQ
from omniq.contrib.announce import served_at
from omniq.contrib.litestar import OmniQPlugin
from omniq.contrib.litestar.host import LitestarHost
from omniq.errors import ConfigError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_word_that_is_no_placement() -> None:
    with pytest.raises(ConfigError) as caught:
        OmniQPlugin(placement="extern")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "OmniQPlugin(placement='extern') is not a placement; did you mean 'external'?"
    )


@pytest.mark.parametrize("placement", ["server", "external"])
def test_memory_cannot_be_worked_on_from_another_process(placement: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OmniQPlugin(storage_type="memory", placement=placement)  # type: ignore[arg-type]
    where = AsyncOmniQ(storage_type="memory").describe()
    assert str(caught.value) == (
        f"OmniQPlugin(placement={placement!r}) cannot work with {where}: it lives inside one "
        "process, so a worker in another one would watch an empty queue forever and look "
        "healthy. Write placement='asgi', or keep tasks where processes can share them: "
        "OmniQPlugin(storage_type='sqlite')."
    )


def test_a_worker_process_cannot_see_the_memory_of_an_app() -> None:
    app = Litestar(plugins=[OmniQPlugin(storage_type="memory")])
    with pytest.raises(ConfigError, match="from here it looks empty and always will"):
        LitestarHost(app)


def test_an_app_without_the_plugin_has_nothing_to_work_on() -> None:
    with pytest.raises(ConfigError) as caught:
        LitestarHost(Litestar())
    assert str(caught.value) == (
        "this Litestar app has no queue: add OmniQPlugin() to its plugins "
        "(from omniq.contrib.litestar import OmniQPlugin)"
    )


def test_one_of_several_plugins_is_chosen_by_its_key() -> None:
    emails = OmniQPlugin({"base_dir": ".emails"}, key="emails")
    app = Litestar(plugins=[OmniQPlugin(), emails])
    assert len(LitestarHost(app).queues) == 2
    assert LitestarHost(app, "emails").queues == [emails.queue]
    with pytest.raises(ConfigError, match=r"has the key 'email'; did you mean 'emails'\?"):
        LitestarHost(app, "email")


@pytest.mark.asyncio
async def test_server_placement_needs_the_litestar_command() -> None:
    app = Litestar(plugins=[OmniQPlugin(placement="server")])
    # Litestar's event emitter puts what fails at start into a group.
    with pytest.RaisesGroup(ConfigError) as caught:
        async with app.lifespan():
            raise AssertionError("it started")
    assert str(caught.value.exceptions[0]) == (
        "OmniQPlugin(placement='server') needs the Litestar command line, which starts the "
        "worker process: run this app with `litestar run`. With another server, write "
        "placement='asgi' for a worker inside each server process, or placement='external' and "
        "run `litestar workers run` (or `omniq worker module:app`) beside it."
    )


@pytest.mark.asyncio
async def test_external_placement_runs_nothing_here() -> None:
    plugin = OmniQPlugin(placement="external")
    async with Litestar(plugins=[plugin]).lifespan():
        await plugin.queue.enqueue(len, ("four",))
        assert await plugin.queue.workers() == []


def test_a_queue_set_to_no_embedded_worker_is_external() -> None:
    assert OmniQPlugin(embedded=False).placement == "external"
    assert OmniQPlugin().placement == "asgi"


@pytest.mark.parametrize(
    ("command", "address"),
    [
        ("/venv/bin/uvicorn app:app", "http://127.0.0.1:8000"),
        ("python -m uvicorn app:app --port 8123", "http://127.0.0.1:8123"),
        ("uvicorn app:app --host=0.0.0.0 --port=81", "http://127.0.0.1:81"),
        ("litestar run -p 9000 -H ::1", "http://[::1]:9000"),
        ("uvicorn app:app --uds /tmp/socket", None),
        ("uvicorn app:app --port 0", None),
        ("python serve.py --port 8123", None),
        ("python -X dev -W error -m uvicorn app:app -p 81", "http://127.0.0.1:81"),
        ("/usr/bin/python3.11 /venv/bin/litestar run", "http://127.0.0.1:8000"),
        ("python -m pytest tests/litestar", None),
    ],
)
def test_the_address_is_read_from_the_command(command: str, address: str | None) -> None:
    assert served_at(command.split(), {}) == address


def test_the_address_may_come_from_the_environment() -> None:
    assert served_at(["uvicorn", "app:app"], {"UVICORN_PORT": "8200"}) == "http://127.0.0.1:8200"


def test_a_process_the_server_spawned_knows_the_address_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spawned = "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5)"
    monkeypatch.setattr("sys.orig_argv", ["python", "-c", spawned, "--multiprocessing-fork"])
    monkeypatch.setattr("sys.argv", ["/venv/bin/uvicorn", "app:app", "--reload", "--port", "8100"])
    assert served_at(environ={}) == "http://127.0.0.1:8100"
