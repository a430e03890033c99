"""What a user meets who has said a place wrongly: what to write, and never a password."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from omniq import AsyncOmniQ, OmniQConfig, StorageConfig, Task
from omniq.backend import Backend, MemoryBackend, NATSBackend, RedisBackend, create_storage
from omniq.backend.places import PLACES as TABLE
from omniq.backend.places import options_of
from omniq.config import ConfigProvider, load_config
from omniq.config.places import SCHEMES
from omniq.errors import (
    ConfigError,
    NotSerializable,
    OmniQError,
    StorageError,
    StorageUnavailable,
    UnknownOption,
)
from omniq.queue.engine import Engine
from omniq.session import manager_for

from .kit import PLACES, SERVERS, Named, all_said, name_of, url_of

every_place = pytest.mark.parametrize("place", PLACES, ids=name_of)
every_server = pytest.mark.parametrize("place", SERVERS, ids=name_of)


def test_the_table_and_the_schemes_name_the_same_types() -> None:
    assert set(TABLE) == set(SCHEMES)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("oracle", r"storage type 'oracle' is unknown; known: file, memory, nats, postgres, redis"),
        ("postgress", r"did you mean 'postgres'\?"),
        ("mysql://shop:hunter2@db/orders", r"begins with mysql://, which is no place's scheme"),
        ("rediss+clutter://:hunter2@db", r"did you mean 'rediss\+cluster'\?"),
        ("jsonl:///events", "keeps events only"),
        ("jsonl", "keeps events only"),
        ("sqlite://", "names no file"),
        ("sqlite://host/tasks.db", "has two slashes before its path: write three"),
    ],
)
def test_a_backend_of_no_place(source: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Backend(source)
    assert "hunter2" not in all_said(caught.value)


@pytest.mark.parametrize(
    ("backend", "url", "meant"),
    [(RedisBackend, "nats://:hunter2@h", "nats"), (NATSBackend, "sqlite:///hunter2", "sqlite")],
)
def test_a_backend_given_another_places_url(
    backend: type[RedisBackend | NATSBackend], url: str, meant: str
) -> None:
    with pytest.raises(ConfigError, match=f"means the type {meant!r}") as caught:
        backend(url)
    assert "hunter2" not in all_said(caught.value)


def test_a_url_without_a_scheme_is_not_repeated() -> None:
    with pytest.raises(ConfigError, match=r"^storage_url is no URL.*Write for example") as caught:
        create_storage(StorageConfig(url="shop:hunter2@db/orders"))
    assert "hunter2" not in all_said(caught.value)


def test_a_name_where_a_backend_belongs() -> None:
    with pytest.raises(ConfigError, match="storage_url") as caught:
        AsyncOmniQ(backend="redis://:hunter2@h")  # type: ignore[arg-type]
    assert "hunter2" not in all_said(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        {"storage_url": "redis://:hunter2@h"},
        {"storage_type": "memory"},
        {"storage_options": {"synchronous": "FULL"}},
        {"task_queue_type": "memory"},
        {"task_queue": MemoryBackend().storage},
        {"obstore_uri": "memory:///"},
    ],
)
def test_a_backend_beside_another_word_on_where_tasks_are(said: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"backend= and {next(iter(said))}= both say") as caught:
        AsyncOmniQ(backend=MemoryBackend(), **said)
    assert "hunter2" not in all_said(caught.value)


def test_a_backend_for_tasks_and_another_place_for_results() -> None:
    queue = AsyncOmniQ(backend=MemoryBackend(), result_storage_type="memory")
    assert queue.stores.results is not queue.stores.tasks


def test_what_is_wrong_is_said_when_the_queue_opens_at_the_latest() -> None:
    async def work() -> None:
        async with AsyncOmniQ(storage_options={"synchronos": "FULL"}):
            raise AssertionError("it opened")

    with pytest.raises(UnknownOption, match=r"sqlite storage has no option.*'synchronous'"):
        asyncio.run(work())


@every_place
def test_an_unknown_option(place: Named, tmp_path: Path) -> None:
    url = url_of(place, tmp_path)
    with pytest.raises(UnknownOption, match="has no option 'durabilty'; did you mean 'durability'"):
        Backend(url, durabilty="strict")
    with pytest.raises(UnknownOption, match="'clock'"):
        AsyncOmniQ(storage_url=url, storage_options={"clock": 5}).stores  # noqa: B018


@every_place
def test_an_option_of_the_wrong_value(place: Named, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="durability is 'normal' or 'strict', not 'safe'"):
        Backend(url_of(place, tmp_path), durability="safe")


@pytest.mark.parametrize("name", ["../x", "a b", "", "x" * 65, "ä", "a\n", "a\0b"])
@pytest.mark.parametrize("place", PLACES[1:], ids=name_of)
def test_a_namespace_that_would_be_no_safe_key(place: Named, name: str, tmp_path: Path) -> None:
    with pytest.raises(OmniQError, match="namespace"):
        Backend(url_of(place, tmp_path), namespace=name)


def test_a_queue_hands_its_namespace_and_its_durability_on(tmp_path: Path) -> None:
    for type in TABLE.keys() - {"memory", "jsonl"}:
        assert {"namespace", "durability"} <= options_of(TABLE[type].load()).keys()
    for place in SERVERS:
        config = OmniQConfig(storage=StorageConfig(url=place.url), durability="strict")
        assert AsyncOmniQ(config).stores.tasks._durability == "strict"  # type: ignore[attr-defined]


@pytest.mark.asyncio
async def test_memory_is_no_place_for_strict_durability(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"memory .* is refused by durability='strict': it keeps"):
        await AsyncOmniQ(storage_type="memory", durability="strict").open()
    with pytest.raises(ConfigError, match="synchronous='NORMAL' may lose"):
        await AsyncOmniQ(
            base_dir=tmp_path, durability="strict", storage_options={"synchronous": "NORMAL"}
        ).open()


MISSING = """
import sys
sys.modules[{driver!r}] = None  # as if it were not installed
from omniq import AsyncOmniQ, ConfigError
from omniq.backend import Backend
for make in (
    lambda: AsyncOmniQ({role}_type={type!r}).stores,
    lambda: Backend({type!r}),
):
    try:
        make()
    except ConfigError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("type", "driver", "extra"),
    [
        ("postgres", "asyncpg", "postgres"),
        ("redis", "redis", "redis"),
        ("nats", "nats", "nats"),
    ],
)
def test_a_driver_that_is_not_installed(type: str, driver: str, extra: str) -> None:
    said = program(MISSING.format(type=type, driver=driver, role="storage"))
    line = (
        f"storage type {type!r} needs {driver}, which is not installed: "
        f"pip install 'omniq-tasks[{extra}]'"
    )
    assert said.splitlines() == [line, line]


def test_the_driver_of_an_event_storage_that_is_not_installed() -> None:
    said = program(MISSING.format(type="jsonl", driver="duckdb", role="event_storage"))
    assert said.splitlines()[0].endswith("pip install 'omniq-tasks[duckdb]'")


def test_every_extra_named_exists() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for place in TABLE.values():
        assert place.extra is None or f"\n{place.extra} = [" in text


def test_nothing_is_imported_for_places_nobody_asked_for() -> None:
    drivers = {"asyncpg", "redis", "nats", "duckdb", "fsspec", "s3fs"}
    said = program(
        "import sys\nfrom omniq import AsyncOmniQ\nAsyncOmniQ().stores\n"
        f"print(sorted({drivers!r} & set(sys.modules)))"
    )
    assert said == "[]\n"


def program(text: str) -> str:
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@every_server
def test_credentials_are_not_shown_by_what_is_made_from_them(place: Named) -> None:
    queue = AsyncOmniQ(storage_url=place.url, storage_options={})
    storage = queue.stores.tasks
    shown = [repr(queue), queue.describe(), repr(storage), str(storage), storage.describe()]
    shown += [repr(storage.twin()), repr(Backend(place.url)), repr(queue.stores)]
    shown += [repr(ConfigProvider(storage_url=place.url).describe())]
    assert "hunter2" not in "\n".join(shown)


@every_server
@pytest.mark.asyncio
async def test_credentials_are_not_shown_when_nobody_answers(
    place: Named, caplog: pytest.LogCaptureFixture
) -> None:
    queue = AsyncOmniQ(storage_url=place.url)
    with caplog.at_level(logging.DEBUG), pytest.raises(StorageUnavailable) as caught:
        await queue.open()
    told = all_said(caught.value)
    assert "hunter2" not in told + caplog.text
    assert "127.0.0.1" in str(caught.value)


WRONG_URLS: list[tuple[str, dict[str, Any]]] = [
    ("redis://shop:hunter2@h:port/0", {}),
    ("redis://shop:hunter2@h/0?nonsense=1", {}),
    ("redis://shop:hunter2@h/orders", {}),
    ("postgresql://shop:hunter2@h:port/d", {}),
    ("postgresql://shop:hunter2@h/d?nonsense=1", {}),
    ("nats://shop:hunter2@h:port", {}),
    ("nats://shop:hunter2@h?nonsense=1", {}),
    ("file://host:hunter2@/tasks", {}),
    ("s3://", {}),
    ("redis://h", {"password": "hunter2"}),
]


@pytest.mark.parametrize(("url", "options"), WRONG_URLS, ids=lambda value: str(value)[:60])
@pytest.mark.asyncio
async def test_a_url_that_cannot_be(
    url: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Said when the queue is made or opened, naming no secret, and never as unavailable."""
    with caplog.at_level(logging.DEBUG), pytest.raises(OmniQError) as caught:
        await AsyncOmniQ(storage_url=url, storage_options=options).open()
    assert not isinstance(caught.value, StorageUnavailable)
    assert isinstance(caught.value, ConfigError | StorageError)
    assert "hunter2" not in all_said(caught.value) + caplog.text


@every_server
def test_a_lambda_meets_a_place_that_others_can_write_to(place: Named) -> None:
    """Refused before anything is sent, so no server is needed."""
    queue = AsyncOmniQ(storage_url=place.url)
    for config, keyless in (
        (queue.config, True),
        (load_config(signing_keys=f"k1:{'s' * 32}"), False),
    ):
        manager = manager_for(config, queue.stores.tasks.capabilities)
        engine = Engine(config, manager, client="c")
        for task in (Task(func=lambda: place), Task(func=len, args=(object(),))):
            if keyless:
                with pytest.raises(NotSerializable, match=r"OMNIQ_SIGNING_KEYS=key-id:<secret"):
                    engine.insert(task)
            else:
                assert engine.insert(task).row.body


@every_server
@pytest.mark.parametrize("speaks", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["none", "web"])
@pytest.mark.asyncio
async def test_an_address_where_something_else_listens_or_nothing(
    place: Named, speaks: bytes | None
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert speaks is not None
        writer.write(speaks)
        await writer.drain()
        await reader.read()
        writer.close()

    with socket.socket() as address:
        address.bind(("127.0.0.1", 0))  # nobody else gets it, though nobody may listen at it
        port = address.getsockname()[1]
        web = speaks and await asyncio.start_server(answer, sock=address)
        url = place.url.replace("127.0.0.1:1", f"127.0.0.1:{port}")
        with pytest.raises(OmniQError, match="OMNIQ_STORAGE_URL") as caught:
            await AsyncOmniQ(storage_url=url).open()
        if web:
            web.close()
            await web.wait_closed()
    assert "hunter2" not in all_said(caught.value)


@pytest.mark.parametrize("place", [PLACES[1], *SERVERS], ids=name_of)
def test_what_every_place_has_may_stand_in_its_url(place: Named, tmp_path: Path) -> None:
    backend = Backend(f"{url_of(place, tmp_path)}?durability=strict&namespace=night")
    storage: Any = backend.storage
    assert (storage.namespace, storage._durability) == ("night", "strict")
    assert "?" not in storage.describe()
