"""Tasks, results and events: each where its own setting says, else with the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from omniq import AsyncOmniQ, OmniQConfig, StorageConfig
from omniq.storage import AsyncMemoryStorage
from omniq.storage.base import BaseEventStorage


def kinds(queue: AsyncOmniQ) -> list[str]:
    stores = queue.stores
    return [type(place).__name__ for place in (stores.tasks, stores.results, stores.events)]


THREE = ["AsyncRedisStorage", "AsyncPostgresStorage", "AsyncFileStorage"]


def test_three_places_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMNIQ_STORAGE_URL", "nats://localhost")
    monkeypatch.setenv("OMNIQ_TASK_QUEUE_TYPE", "redis")
    monkeypatch.setenv("OMNIQ_RESULT_STORAGE_URL", "postgresql://localhost/results")
    monkeypatch.setenv("OMNIQ_EVENT_STORAGE_TYPE", "file")
    monkeypatch.setenv("OMNIQ_EVENT_STORAGE_URL", f"file://{tmp_path}/events")
    queue = AsyncOmniQ()
    assert kinds(queue) == THREE
    assert not queue.stores.one_place
    monkeypatch.delenv("OMNIQ_EVENT_STORAGE_TYPE")
    monkeypatch.delenv("OMNIQ_EVENT_STORAGE_URL")
    assert kinds(AsyncOmniQ()) == [*THREE[:2], "AsyncNATSStorage"]


def test_three_places_by_sections_structs_and_options(tmp_path: Path) -> None:
    events = f"file://{tmp_path}/events"
    assert (
        kinds(
            AsyncOmniQ(
                {
                    "task_queue": "redis",
                    "result_storage": {"url": "postgresql://localhost/results"},
                    "event_storage": events,
                }
            )
        )
        == THREE
    )
    assert (
        kinds(
            AsyncOmniQ(
                OmniQConfig(
                    task_queue=StorageConfig(type="redis"),
                    result_storage=StorageConfig(type="postgres"),
                    event_storage=StorageConfig(url=events),
                )
            )
        )
        == THREE
    )
    assert (
        kinds(
            AsyncOmniQ(
                storage_type="redis",
                result_storage_type="postgres",
                event_storage_url=events,
            )
        )
        == THREE
    )


def test_roles_at_one_place_share_its_connection() -> None:
    url = "redis://localhost:6379/0"
    queue = AsyncOmniQ(storage_url=url, result_storage_url=url)
    assert queue.stores.one_place
    queue = AsyncOmniQ(task_queue_type="memory", result_storage_url=url, event_storage_url=url)
    assert queue.stores.results is queue.stores.events
    assert queue.stores.tasks is not queue.stores.results


def test_a_part_given_wins_over_the_configuration() -> None:
    given = AsyncMemoryStorage()
    queue = AsyncOmniQ(event_storage=given, storage_type="redis", event_storage_type="nats")
    assert kinds(queue) == ["AsyncRedisStorage", "AsyncRedisStorage", "AsyncMemoryStorage"]
    assert queue.stores.events is given


@pytest.mark.parametrize(
    "options",
    [{"event_storage_type": "jsonl"}, {"event_storage_url": "jsonl:////{path}/events"}],
)
def test_events_as_json_lines(options: dict[str, str], tmp_path: Path) -> None:
    said = {name: value.format(path=str(tmp_path).lstrip("/")) for name, value in options.items()}
    queue = AsyncOmniQ(storage_type="memory", base_dir=tmp_path, **said)
    assert kinds(queue) == ["AsyncMemoryStorage", "AsyncMemoryStorage", "AsyncJSONLEventStorage"]
    assert isinstance(queue.stores.events, BaseEventStorage)
    assert str(tmp_path / "events") in queue.stores.events.describe()


def test_options_belong_to_the_place_they_are_said_with(tmp_path: Path) -> None:
    queue = AsyncOmniQ(
        {
            "base_dir": str(tmp_path),
            "durability": "strict",
            "storage": {"type": "sqlite"},
            "event_storage": {
                "url": f"sqlite:///{tmp_path}/events.db",
                "options": {"durability": "normal"},
            },
        }
    )
    assert queue.stores.tasks.capabilities.durability == "power"
    assert queue.stores.events.capabilities.durability == "process"
