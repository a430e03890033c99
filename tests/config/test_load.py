"""Where a setting may be said, and who wins."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from omniq.config import OPTIONS, is_memory, load_config, settings
from omniq.errors import ConfigError
from omniq.models.config import EventConfig, OmniQConfig, StorageConfig, WorkerConfig


def test_without_any_setting_the_structs_defaults_hold() -> None:
    assert load_config() == OmniQConfig()


def test_every_field_of_the_configuration_has_an_option() -> None:
    flat: set[str] = set()
    config = OmniQConfig(
        task_queue=StorageConfig(), result_storage=StorageConfig(), event_storage=StorageConfig()
    )
    for field in OmniQConfig.__struct_fields__:
        part = getattr(config, field)
        below = getattr(part, "__struct_fields__", None)
        flat |= {f"{field}.{key}" for key in below} if below else {field}
    roles = ("task_queue.", "result_storage.", "event_storage.")
    left_out = {
        path for path in flat if path.startswith(roles) and not path.endswith((".type", ".url"))
    }
    assert {option.path for option in OPTIONS} == flat - left_out


def test_code_wins_over_environment_over_file_over_constants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "LEASE", 11.0)
    assert load_config().worker.lease == 11
    file = tmp_path / "omniq.yaml"
    file.write_text("lease: 12\n")
    assert load_config(file).worker.lease == 12
    assert load_config({"lease": 12}).worker.lease == 12
    monkeypatch.setenv("OMNIQ_LEASE", "13")
    assert load_config(file).worker.lease == 13
    assert load_config({"lease": 12}).worker.lease == 13
    assert load_config(file, lease=14).worker.lease == 14


def test_a_finished_configuration_is_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIQ_LEASE", "13")
    config = OmniQConfig(worker=WorkerConfig(lease=5), events=EventConfig(level="DEBUG"))
    assert load_config(config) == config
    assert load_config(config, grace=1).worker == WorkerConfig(lease=5, grace=1)


def test_sections_and_options_in_one_file(tmp_path: Path) -> None:
    file = tmp_path / "omniq.yaml"
    file.write_text(
        "base_dir: data\n"
        "storage: sqlite:///tasks.db\n"
        "result_storage: memory\n"
        "retries: 5\n"
        "worker:\n  queues: [mail, reports]\n  thread_workers: 3\n"
        "logging:\n  components: {storage: debug}\n"
        "signing_keys:\n  k2: new-secret\n  k1: old-secret\n"
        "dashboard:\n"
    )
    config = load_config(str(file))
    assert config.base_dir == Path("data")
    assert config.storage == StorageConfig(type="sqlite", url="sqlite:///tasks.db")
    assert config.result_storage == StorageConfig(type="memory")
    assert config.task_queue is None
    assert config.tasks.retries == 5
    assert config.worker.queues == ("mail", "reports")
    assert config.worker.thread_workers == 3
    assert config.logging.components == {"storage": "DEBUG"}
    assert config.signing_keys == (("k2", "new-secret"), ("k1", "old-secret"))


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "omniq.yaml").touch()
    assert load_config(tmp_path / "omniq.yaml") == OmniQConfig()


def test_a_mapping_may_hold_structs() -> None:
    config = load_config({"worker": WorkerConfig(lease=5), "storage": StorageConfig(type="memory")})
    assert config.worker.lease == 5
    assert config.storage.type == "memory"


def test_options_take_timedeltas_and_none() -> None:
    config = load_config(timeout=timedelta(minutes=2), result_ttl=None, retry_delay=0)
    assert config.tasks.timeout == 120
    assert config.tasks.result_ttl is None
    assert config.tasks.retry_delay == 0


def test_a_role_wins_over_the_storage_of_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIQ_STORAGE_URL", "sqlite:///all.db")
    monkeypatch.setenv("OMNIQ_RESULT_STORAGE_URL", "redis://localhost/1")
    monkeypatch.setenv("OMNIQ_TASK_QUEUE_TYPE", "memory")
    config = load_config()
    assert config.storage.type == "sqlite"
    assert config.result_storage == StorageConfig(type="redis", url="redis://localhost/1")
    assert config.task_queue == StorageConfig(type="memory")
    assert config.event_storage == config.storage


def test_what_no_role_names_is_kept_with_the_tasks_if_nothing_else_is_said() -> None:
    config = load_config(task_queue_url="redis://localhost")
    assert (config.result_storage, config.event_storage) == (None, None)
    config = load_config(OmniQConfig(task_queue=StorageConfig(type="redis")))
    assert (config.result_storage, config.event_storage) == (None, None)
    config = load_config(storage_type="sqlite", task_queue_url="redis://localhost")
    assert config.result_storage == config.event_storage == StorageConfig(type="sqlite")
    config = load_config(storage_type="sqlite", result_storage_type="redis")
    assert (config.task_queue, config.event_storage) == (None, None)


def test_a_type_and_a_url_said_together_have_to_agree() -> None:
    url = "postgresql://localhost/app"
    config = load_config(storage_type="postgres", storage_url=url)
    assert config.storage == StorageConfig(type="postgres", url=url)
    with pytest.raises(ConfigError, match=r"means the type 'postgres', but .* 'memory'"):
        load_config(storage_type="memory", storage_url=url)
    with pytest.raises(ConfigError, match=r"^result_storage_url \(OMNIQ_RESULT_STORAGE_URL\) beg"):
        load_config(result_storage_type="redis", result_storage_url=url)


def test_a_url_sets_a_type_said_in_a_weaker_place_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIQ_STORAGE_URL", "redis://localhost")
    config = load_config({"storage_type": "sqlite"})
    assert config.storage == StorageConfig(type="redis", url="redis://localhost")
    monkeypatch.setattr(settings, "STORAGE_TYPE", "memory")
    assert load_config().storage.type == "redis"


def test_a_finished_structs_type_need_not_be_said_with_its_url() -> None:
    place = StorageConfig(url="nats://localhost")
    for config in (load_config(OmniQConfig(storage=place)), load_config({"storage": place})):
        assert config.storage == StorageConfig(type="nats", url="nats://localhost")
    with pytest.raises(ConfigError, match="'memory'"):
        load_config(OmniQConfig(storage=StorageConfig(type="memory", url="nats://localhost")))


def test_the_file_type_takes_any_filesystem_by_its_url() -> None:
    for url in ("sftp://host/tasks", "memory://tasks", "file:///var/tasks", "s3://bucket"):
        config = load_config(storage_type="file", storage_url=url)
        assert config.storage == StorageConfig(type="file", url=url)
        assert not is_memory(config.storage)
    with pytest.raises(ConfigError, match="'redis'"):
        load_config(storage_type="file", storage_url="redis://localhost")


def test_a_type_in_code_sets_a_url_of_the_environment_aside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMNIQ_STORAGE_URL", "postgres://localhost/app")
    assert load_config(storage_type="memory").storage == StorageConfig(type="memory")


def test_a_type_in_code_keeps_a_url_of_that_type(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgres://localhost/app"
    monkeypatch.setenv("OMNIQ_STORAGE_URL", url)
    assert load_config(storage_type="postgres").storage == StorageConfig(type="postgres", url=url)
    monkeypatch.setenv("OMNIQ_STORAGE_URL", "memory://x")
    assert load_config(storage_type="file").storage == StorageConfig(type="file")
    monkeypatch.delenv("OMNIQ_STORAGE_URL")
    monkeypatch.setenv("OMNIQ_OBSTORE_URI", "s3://bucket")
    assert load_config(storage_type="file").storage.obstore_uri == "s3://bucket"


def test_an_obstore_uri_means_file_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIQ_OBSTORE_URI", "s3://bucket/tasks")
    assert load_config().storage == StorageConfig(type="file", obstore_uri="s3://bucket/tasks")
    assert load_config(storage_type="sqlite").storage == StorageConfig(type="sqlite")
    monkeypatch.setenv("OMNIQ_STORAGE_TYPE", "file")
    assert load_config().storage.obstore_uri == "s3://bucket/tasks"
    monkeypatch.setenv("OMNIQ_STORAGE_TYPE", "redis")
    with pytest.raises(ConfigError, match=r"means the type 'file', but .* 'redis'"):
        load_config()


def test_an_obstore_uri_may_stand_in_the_section_of_a_role() -> None:
    config = load_config({"result_storage": {"obstore_uri": "gs://bucket/results"}})
    assert config.result_storage == StorageConfig(type="file", obstore_uri="gs://bucket/results")


def test_events_alone_may_be_kept_as_json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIQ_EVENT_STORAGE_TYPE", "jsonl")
    assert load_config().event_storage == StorageConfig(type="jsonl")
    monkeypatch.setenv("OMNIQ_EVENT_STORAGE_TYPE", "")
    monkeypatch.setenv("OMNIQ_EVENT_STORAGE_URL", "jsonl:////var/log/omniq")
    assert load_config().event_storage == StorageConfig(type="jsonl", url="jsonl:////var/log/omniq")
    for wrong in ({"result_storage_url": "jsonl:///x"}, {"storage": StorageConfig(type="jsonl")}):
        with pytest.raises(ConfigError, match=r"keeps events only|one of memory, file"):
            load_config(wrong)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("sqlite:///a.db", "sqlite"),
        ("memory://", "memory"),
        ("sqlite+aiosqlite:///a.db", "sqlite"),
        ("postgres://h/d", "postgres"),
        ("postgresql+asyncpg://h/d", "postgres"),
        ("REDIS://h", "redis"),
        ("rediss://h", "redis"),
        ("redis+cluster://h:7000,h:7001", "redis"),
        ("unix:///run/redis.sock", "redis"),
        ("valkey://h", "redis"),
        ("nats://h:4222", "nats"),
        ("tls://a:4222,tls://b:4222", "nats"),
        ("gs://bucket", "file"),
        ("az://container", "file"),
        ("s3://bucket", "file"),
        ("file:///var/tasks", "file"),
    ],
)
def test_a_url_says_its_type(url: str, kind: str) -> None:
    config = load_config(storage_url=url)
    assert config.storage.type == kind
    assert is_memory(config.storage) == (kind == "memory")
