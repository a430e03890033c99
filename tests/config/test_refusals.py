"""Configurations that cannot be: each refused with what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from omniq.config import load_config
from omniq.errors import ConfigError, UnknownOption
from omniq.models.config import OmniQConfig, StorageConfig, TaskDefaults, WorkerConfig


def test_an_unknown_option_is_refused_with_the_nearest_known() -> None:
    with pytest.raises(UnknownOption, match="no option 'max_worker'; did you mean 'max_workers'"):
        load_config(max_worker=3)
    with pytest.raises(TypeError):
        load_config({"leese": 3})


def test_an_unknown_option_in_a_section_is_refused() -> None:
    with pytest.raises(UnknownOption, match=r"section 'worker'.*'leas'; did you mean 'lease'"):
        load_config({"worker": {"leas": 3}})


def test_an_unknown_option_in_a_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "omniq.yaml").write_text("storage_typ: sqlite\n")
    with pytest.raises(UnknownOption, match=r"omniq\.yaml.*did you mean 'storage_type'"):
        load_config(tmp_path / "omniq.yaml")


NUMBERS: list[tuple[str, Any]] = [
    ("max_workers", 0),
    ("max_workers", -1),
    ("max_workers", True),
    ("max_workers", 1.5),
    ("async_workers", 0),
    ("thread_workers", 0),
    ("process_workers", 0),
    ("gevent_workers", -3),
    ("retries", -1),
    ("retry_delay", -1),
    ("timeout", 0),
    ("timeout", -1),
    ("ttl", 0),
    ("result_ttl", -1),
    ("lease", 0),
    ("lease", float("nan")),
    ("lease", None),
    ("grace", -1),
    ("max_losses", 0),
    ("max_payload", 0),
    ("dashboard_port", 0),
    ("event_retention", 0),
    ("history", -1),
    ("dead_letters", -1),
    ("namespace", "a/b"),
    ("default_queue", "a b"),
    ("queues", [1]),
    ("storage_url", "tasks.db"),
    ("storage_options", [1]),
    ("base_dir", ""),
    ("signing_keys", [("k1",)]),
    ("signing_keys", 5),
]


@pytest.mark.parametrize(("name", "value"), NUMBERS)
def test_an_impossible_value_is_refused_with_its_option(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{name}[= ]"):
        load_config(**{name: value})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"storage_type": "sqlit"},
            "storage_type='sqlit' is not right; did you mean 'sqlite'? It takes one of memory, "
            "file, sqlite, postgres, redis, nats, for example storage_type=sqlite",
        ),
        (
            {"storage_url": "rediz://:hunter2@host"},
            "storage_url (OMNIQ_STORAGE_URL) begins with rediz://, which is no place's scheme; did "
            "you mean 'redis'? OmniQ knows sqlite://, file://, s3://, gs://, az://, "
            "postgresql://, redis://, nats://, memory://, and with the type 'file' said beside "
            "the URL every filesystem of fsspec",
        ),
        (
            {"storage_url": "redis://:hunter2@host", "storage_type": "nats"},
            "storage_url (OMNIQ_STORAGE_URL) begins with redis://, which means the type 'redis', "
            "but the type said with it is 'nats': leave one of the two out",
        ),
        (
            {"storage_url": "redis://:hunter2@host", "obstore_uri": "s3://bucket"},
            "storage_url (OMNIQ_STORAGE_URL) and obstore_uri (OMNIQ_OBSTORE_URI) name two places: "
            "leave one out",
        ),
        (
            {"max_workers": "many"},
            "max_workers='many' is not right: it takes a whole number from 1 to 100000, or none, "
            "for example max_workers=10",
        ),
        (
            {"namespace": "a/b"},
            "namespace='a/b' is not right: it takes a name of 1 to 64 letters A-Z or a-z, digits, "
            "_ and -, for example namespace=emails",
        ),
        (
            {"signing_keys": "a secret"},
            "signing_keys is not right: it takes `key-id:secret` entries with commas between, "
            "for example signing_keys=2026b:<new secret>,2026a:<old secret>",
        ),
        (
            {"dashboard_host": [1]},
            "dashboard_host=[1] is not right: it takes an address or a host's name, "
            "for example dashboard_host=127.0.0.1",
        ),
    ],
)
def test_the_message_is_a_sentence(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(**options)
    assert str(caught.value) == text


def test_what_is_no_configuration_at_all_is_said() -> None:
    with pytest.raises(ConfigError, match="a mapping of options or the path of a YAML file, not i"):
        load_config(5)  # type: ignore[arg-type]


def test_the_same_holds_inside_a_finished_configuration() -> None:
    with pytest.raises(ConfigError, match=r"^worker\.lease=-1"):
        load_config(OmniQConfig(worker=WorkerConfig(lease=-1)))
    with pytest.raises(ConfigError, match=r"^tasks\.retries=-1"):
        load_config({"tasks": TaskDefaults(retries=-1)})
    with pytest.raises(ConfigError, match=r"^namespace="):
        load_config(OmniQConfig(namespace=""))


@pytest.mark.parametrize(
    "options",
    [
        {"storage_type": "memory"},
        {"storage_url": "memory://"},
        {"task_queue_type": "memory"},
    ],
)
def test_a_memory_queue_with_an_external_worker_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"would poll an empty queue forever.*embedded=True"):
        load_config(embedded=False, **options)
    assert load_config(embedded=True, **options).worker.embedded


def test_memory_for_results_only_does_not_concern_the_queue() -> None:
    assert not load_config(embedded=False, event_storage_type="memory").worker.embedded
    with pytest.raises(ConfigError):
        load_config(
            OmniQConfig(storage=StorageConfig(type="memory"), worker=WorkerConfig(embedded=False))
        )


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml.*No such file"):
        load_config(tmp_path / "nothing.yaml")


def test_a_file_that_is_no_yaml_is_said_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "omniq.yaml").write_text("a: 1\nb: [hunter2\n")
    with pytest.raises(ConfigError, match=r"omniq\.yaml', line [23]") as caught:
        load_config(tmp_path / "omniq.yaml")
    assert "hunter2" not in str(caught.value)


def test_a_file_that_runs_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "omniq.yaml").write_text("base_dir: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="could not determine a constructor"):
        load_config(tmp_path / "omniq.yaml")


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", "5\n"])
def test_a_file_that_holds_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "omniq.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"holds a (list|str|int): it takes a mapping of options"):
        load_config(tmp_path / "omniq.yaml")


def test_a_section_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(ConfigError, match="section 'worker' takes a mapping of options, not int"):
        load_config({"worker": 5})


def test_options_of_a_role_that_names_no_place_are_refused() -> None:
    with pytest.raises(ConfigError, match="'event_storage' has options and no place"):
        load_config({"event_storage": {"options": {"synchronous": "FULL"}}})


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "omniq.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "omniq.yaml")
