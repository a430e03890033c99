"""`module:attribute`: what is found, and what is said when it is not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omniq import AsyncOmniQ
from omniq.cli.load import load
from omniq.contrib.litestar.host import LitestarHost
from omniq.contrib.starlette.host import StarletteHost
from omniq.errors import ConfigError
from tests.programs import run

SHOP = """
import omniq
queue = omniq.AsyncOmniQ()
blocking = omniq.OmniQ()
short = omniq.AsyncTaskQueue()
memory = omniq.AsyncTaskQueue("memory")
names = ["not", "a", "queue"]
class settings:
    queue = queue
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "cli_shop.py").write_text(SHOP)
    (tmp_path / "cli_one.py").write_text("import omniq\ntasks = omniq.AsyncOmniQ()\n")
    (tmp_path / "cli_broken.py").write_text("import a_library_that_is_missing\n")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("cli_")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["queue", "blocking", "short", "settings.queue"])
def test_a_queue_of_either_face_is_found(name: str) -> None:
    (queue,) = load(f"cli_shop:{name}").queues
    assert isinstance(queue, AsyncOmniQ)


def test_a_module_with_one_queue_needs_no_attribute() -> None:
    assert len(load("cli_one").queues) == 1


def test_a_litestar_app_is_found_with_its_queues(here: Path) -> None:
    (here / "cli_web.py").write_text(
        "from litestar import Litestar\n"
        "from omniq.contrib.litestar import OmniQPlugin\n"
        "app = Litestar(plugins=[OmniQPlugin()])\n"
    )
    assert isinstance(load("cli_web:app"), LitestarHost)
    assert isinstance(load("cli_web"), LitestarHost)


WEB = {
    "fastapi:FastAPI": "omniq.contrib.fastapi",
    "starlette.applications:Starlette": "omniq.contrib.starlette",
}


@pytest.mark.parametrize("framework", WEB)
def test_an_app_is_found_with_the_queues_it_will_start(here: Path, framework: str) -> None:
    module, _, name = framework.partition(":")
    (here / "cli_web.py").write_text(
        f"from {module} import {name} as App\n"
        f"from {WEB[framework]} import OmniQExtension\n"
        "extension = OmniQExtension()\n"
        "app = App(lifespan=extension.lifespan)\n"
        "mails = OmniQExtension({'base_dir': '.mails'}, name='mails')\n"
        "mails.init_app(app)\n"
        "other = App()\n"
        "OmniQExtension({'base_dir': '.other'}).init_app(other)\n"
    )
    host = load("cli_web:app")
    web = sys.modules["cli_web"]
    assert isinstance(host, StarletteHost)
    assert host.queues == [web.extension.queue, web.mails.queue]
    assert load("cli_web:app", "mails").queues == [web.mails.queue]
    assert len(load("cli_web:other").queues) == 1
    with pytest.raises(ConfigError) as caught:
        load("cli_web:app", "mail")
    assert str(caught.value) == (
        "this app has no queue named 'mail'; did you mean 'mails'? (there is queue, mails)"
    )


def test_an_app_without_the_adapter_has_no_queue(here: Path) -> None:
    (here / "cli_web.py").write_text("from fastapi import FastAPI\napp = FastAPI()\n")
    done = run(["-m", "omniq.cli", "status", "cli_web:app"], cwd=here, paths=[here])
    assert done.returncode == 1
    assert "this FastAPI app has no queue: expected a FastAPI or Starlette app" in done.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("cli_shop:quue", "cli_shop has no attribute 'quue'; did you mean 'queue'?"),
        ("cli_shop:names", "cli_shop:names is a list: expected an AsyncOmniQ, an OmniQ or a "
         "TaskQueue, a Litestar app with OmniQPlugin, a FastAPI or Starlette app that starts OmniQ, "
         "or the application of a Django project with OmniQ in INSTALLED_APPS; did you mean "
         "cli_shop:queue?"),
        ("cli_shop:", "'cli_shop:' does not name a queue: write module:attribute, as in app:queue"),
        ("cli_shop.py:queue", "'cli_shop.py' is a file name: write the module's name, 'cli_shop'"),
        ("cli_shop", "cli_shop holds several queues: write cli_shop:queue or cli_shop:blocking or "
         "cli_shop:short or cli_shop:memory"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(target: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(target)
    assert str(caught.value) == message


def test_a_module_that_is_not_there(here: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load("cli_shp:queue")
    assert str(caught.value) == (
        f"no module 'cli_shp' in {here} or where Python looks; did you mean 'cli_shop'?"
    )


def test_what_a_module_misses_itself_is_not_hidden() -> None:
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_missing"):
        load("cli_broken:queue")


def test_a_module_without_a_queue() -> None:
    with pytest.raises(ConfigError, match="string holds no queue: it needs an AsyncOmniQ"):
        load("string")


def test_memory_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match="from here it looks empty and always will"):
        load("cli_shop:memory")
