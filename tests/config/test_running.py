"""Log levels, the provider, and what both never show."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from omniq.config import ConfigProvider, LoggingConfig, mask_url
from omniq.errors import ConfigError, UnknownOption
from omniq.models.config import LogConfig


@pytest.fixture(autouse=True)
def levels() -> Iterator[None]:
    """The loggers as they were, whatever a test did to them."""
    names = ("omniq", "omniq.storage", "omniq.queue")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.NOTSET)
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def level(name: str) -> int:
    return logging.getLogger(name).getEffectiveLevel()


def test_levels_of_everything_and_of_components() -> None:
    root = logging.getLogger().level
    LoggingConfig(LogConfig(level="WARNING", components={"storage": "DEBUG"})).apply()
    assert level("omniq") == level("omniq.queue") == logging.WARNING
    assert level("omniq.storage") == level("omniq.storage.sqlite") == logging.DEBUG
    assert logging.getLogger().level == root


def test_levels_change_while_running() -> None:
    logs = LoggingConfig()
    logs.apply()
    assert level("omniq.queue") == logging.INFO
    logs.set_level("debug")
    assert level("omniq.queue") == logging.DEBUG
    logs.set_level("ERROR", "omniq.storage")
    assert level("omniq.storage") == logging.ERROR
    logs.set_level("INFO")
    assert (level("omniq.queue"), level("omniq.storage")) == (logging.INFO, logging.ERROR)


def test_disabled_means_silent_and_comes_back() -> None:
    logs = LoggingConfig(LogConfig(components={"storage": "DEBUG"}))
    logs.apply()
    logs.config = LogConfig(disabled=True, components={"storage": "DEBUG"})
    logs.apply()
    assert not logging.getLogger("omniq.storage").isEnabledFor(logging.CRITICAL)
    logs.set_level("INFO")
    assert level("omniq.storage") == logging.DEBUG


def test_a_level_the_program_set_itself_is_left_alone() -> None:
    logging.getLogger("omniq").setLevel(logging.ERROR)
    LoggingConfig().apply()
    assert level("omniq") == logging.ERROR
    LoggingConfig(LogConfig(level="DEBUG")).apply()
    assert level("omniq") == logging.DEBUG


@pytest.mark.parametrize(
    ("wrong", "component"), [("LOUD", None), ("LOUD", "storage"), ("INFO", "")]
)
def test_a_wrong_level_is_refused(wrong: str, component: str | None) -> None:
    with pytest.raises(ConfigError, match="log_level"):
        LoggingConfig().set_level(wrong, component)


PLAIN = """
import logging, sys
before = logging.getLogger().level
from omniq.config import LoggingConfig
{setup}
LoggingConfig().apply()
log = logging.getLogger("omniq.storage")
log.info("chat")
log.warning("boom")
print(logging.getLogger().level == before)
"""


@pytest.mark.parametrize(
    ("setup", "seen"),
    [
        ("", "boom\n"),
        ("logging.basicConfig()", "INFO:omniq.storage:chat\nWARNING:omniq.storage:boom\n"),
        ("logging.getLogger('omniq').addHandler(logging.NullHandler())", ""),
    ],
    ids=["plain", "a log of its own", "silenced"],
)
def test_warnings_are_seen_where_nobody_set_up_a_log(setup: str, seen: str) -> None:
    code = PLAIN.format(setup=setup)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", seen)


def test_get_by_option_or_path() -> None:
    provider = ConfigProvider(lease=5, storage_type="memory")
    assert provider.get("lease") == provider.get("worker.lease") == 5
    assert provider.get("task_queue_type") is None
    with pytest.raises(UnknownOption, match="did you mean 'lease'"):
        provider.get("leese")


def test_what_may_change_while_running_does_and_is_told() -> None:
    provider, told = ConfigProvider(), list[tuple[str, Any]]()
    end = provider.listen(lambda path, value: told.append((path, value)))
    provider.set("event_level", "debug")
    provider.set("logging.level", "ERROR")
    provider.set("component_log_levels", {"storage": "DEBUG"})
    assert provider.config.events.level == "DEBUG"
    assert (level("omniq"), level("omniq.storage")) == (logging.ERROR, logging.DEBUG)
    end()
    end()
    provider.set("event_level", "INFO")
    assert told == [
        ("events.level", "DEBUG"),
        ("logging.level", "ERROR"),
        ("logging.components", {"storage": "DEBUG"}),
    ]


def test_what_may_not_change_while_running_is_refused() -> None:
    provider = ConfigProvider()
    with pytest.raises(ConfigError, match=r"storage_type cannot change.*event_level"):
        provider.set("storage_type", "memory")
    with pytest.raises(ConfigError, match="event_level='LOUD'"):
        provider.set("event_level", "LOUD")
    assert provider.config == ConfigProvider().config


def test_a_description_holds_no_secret() -> None:
    provider = ConfigProvider(
        storage_url="postgres://app:hunter2@db/app?sslpassword=hunter2",
        storage_options={"password": "hunter2"},
        signing_keys="k1:hunter2",
        dashboard_token="hunter2",
    )
    shown = provider.describe()
    assert "hunter2" not in repr(shown)
    assert shown["storage_url"] == "postgres://app:***@db/app?sslpassword=***"
    assert shown["signing_keys"] == (("k1", "***"),)
    assert shown["lease"] == 30


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("postgres://u:p@h:5432/db", "postgres://u:***@h:5432/db"),
        ("postgres://u:p@ss:w@h/db", "postgres://u:***@h/db"),
        ("redis://:pw@h", "redis://:***@h"),
        ("nats://token@h:4222", "nats://***@h:4222"),
        ("redis://h/0?password=pw&db=1", "redis://h/0?password=***&db=1"),
        ("s3://b?aws_secret_access_key=x&region=eu", "s3://b?aws_secret_access_key=***&region=eu"),
        ("postgres://u:p@a,u:p@b/db", "postgres://u:***@b/db"),
        ("could not reach redis://u:p@h/0 in time", "could not reach redis://u:***@h/0 in time"),
        ("mail a@b.c", "mail a@b.c"),
        ("postgres://u:p/w@h/db", "postgres://u:***@h/db"),
        ("postgres://u:p#w?x@y@h/db", "postgres://u:***@h/db"),
        ("redis://:p w@h:6379/0", "redis://:***@h:6379/0"),
        ("http://h:9000/a@b?c=d@e", "http://h:9000/a@b?c=d@e"),
        ("s3://b/a:b@c", "s3://b/a:b@c"),
        ("redis://u:p@h/0?client_name=a@b", "redis://u:***@h/0?client_name=a@b"),
    ],
)
def test_urls_lose_their_secrets(url: str, masked: str) -> None:
    assert mask_url(url) == masked
