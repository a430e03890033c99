"""Every variable: read into its type, refused with its name when it is wrong."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from omniq.config import EnvConfig, load_config
from omniq.config.options import BY_VARIABLE, OPTIONS
from omniq.errors import ConfigError

PROMISED = [
    "OMNIQ_BASE_DIR",
    "OMNIQ_LOG_LEVEL",
    "OMNIQ_DISABLE_LOGGING",
    "OMNIQ_COMPONENT_LOG_LEVELS",
    "OMNIQ_STORAGE_TYPE",
    "OMNIQ_STORAGE_URL",
    "OMNIQ_OBSTORE_URI",
    "OMNIQ_TASK_QUEUE_TYPE",
    "OMNIQ_TASK_QUEUE_URL",
    "OMNIQ_RESULT_STORAGE_TYPE",
    "OMNIQ_RESULT_STORAGE_URL",
    "OMNIQ_EVENT_STORAGE_TYPE",
    "OMNIQ_EVENT_STORAGE_URL",
    "OMNIQ_SIGNING_KEYS",
    "OMNIQ_DEFAULT_WORKER",
    "OMNIQ_MAX_WORKERS",
    "OMNIQ_THREAD_WORKERS",
    "OMNIQ_PROCESS_WORKERS",
    "OMNIQ_GEVENT_WORKERS",
    "OMNIQ_TASK_TIMEOUT",
    "OMNIQ_TASK_TTL",
    "OMNIQ_RETRY_ATTEMPTS",
    "OMNIQ_RETRY_DELAY",
    "OMNIQ_RESULT_TTL",
    "OMNIQ_DASHBOARD_ENABLED",
    "OMNIQ_DASHBOARD_PORT",
]

RIGHT: list[tuple[str, str, Any]] = [
    ("OMNIQ_BASE_DIR", "/var/lib/x", Path("/var/lib/x")),
    ("OMNIQ_NAMESPACE", "shop", "shop"),
    ("OMNIQ_STORAGE_TYPE", " SQLite ", "sqlite"),
    ("OMNIQ_STORAGE_OPTIONS", '{"timeout": 5}', {"timeout": 5}),
    ("OMNIQ_SIGNING_KEYS", "k2:a:b, k1:base64:eA==", (("k2", "a:b"), ("k1", "base64:eA=="))),
    ("OMNIQ_DEFAULT_PRIORITY", "-5", -5),
    ("OMNIQ_TASK_TIMEOUT", "1.5", 1.5),
    ("OMNIQ_TASK_TIMEOUT", "none", None),
    ("OMNIQ_RESULT_TTL", "None", None),
    ("OMNIQ_RETRY_ATTEMPTS", "0", 0),
    ("OMNIQ_RETRY_DELAY", "0", 0.0),
    ("OMNIQ_MAX_WORKERS", "20", 20),
    ("OMNIQ_DEFAULT_WORKER", "thread", "thread"),
    ("OMNIQ_EMBEDDED", "off", False),
    ("OMNIQ_DASHBOARD_ENABLED", "YES", True),
    ("OMNIQ_DISABLE_LOGGING", "1", True),
    ("OMNIQ_QUEUES", "mail, reports", ("mail", "reports")),
    ("OMNIQ_EVENT_LEVEL", "disabled", "DISABLED"),
    ("OMNIQ_LOG_LEVEL", "debug", "DEBUG"),
    ("OMNIQ_COMPONENT_LOG_LEVELS", '{"storage": "debug"}', {"storage": "DEBUG"}),
    ("OMNIQ_DASHBOARD_PATH", "/tasks/", "/tasks"),
]
WRONG = [
    ("OMNIQ_NAMESPACE", "a b", "letters A-Z or a-z"),
    ("OMNIQ_STORAGE_TYPE", "sqlit", "did you mean 'sqlite'"),
    ("OMNIQ_STORAGE_TYPE", "oracle", "one of memory, file, sqlite"),
    ("OMNIQ_MAX_WORKERS", "ten", "a whole number from 1"),
    ("OMNIQ_MAX_WORKERS", "0", "a whole number from 1"),
    ("OMNIQ_THREAD_WORKERS", "-1", "a whole number from 1"),
    ("OMNIQ_THREAD_WORKERS", "none", "a whole number from 1"),
    ("OMNIQ_RETRY_ATTEMPTS", "-1", "a whole number from 0"),
    ("OMNIQ_RETRY_ATTEMPTS", "1.5", "a whole number"),
    ("OMNIQ_RETRY_DELAY", "-0.1", "a number of seconds, 0 or more"),
    ("OMNIQ_LEASE", "0", "a number of seconds above 0"),
    ("OMNIQ_LEASE", "nan", "a number of seconds above 0"),
    ("OMNIQ_TASK_TIMEOUT", "inf", "a number of seconds above 0, or none"),
    ("OMNIQ_TASK_TTL", "1h", "a number of seconds above 0, or none"),
    ("OMNIQ_RESULT_TTL", "0", "a number of seconds above 0, or none"),
    ("OMNIQ_DEFAULT_WORKER", "threads", "did you mean 'thread'"),
    ("OMNIQ_EMBEDDED", "maybe", "true or false"),
    ("OMNIQ_DASHBOARD_PORT", "70000", "from 1 to 65535"),
    ("OMNIQ_DASHBOARD_PATH", "/a b", "a path of the web app"),
    ("OMNIQ_QUEUES", "mail,a.b", "names with commas"),
    ("OMNIQ_EVENT_LEVEL", "LOUD", "one of DEBUG, INFO, WARNING, ERROR, DISABLED"),
    ("OMNIQ_LOG_LEVEL", "INF", "did you mean 'INFO'"),
    ("OMNIQ_COMPONENT_LOG_LEVELS", "storage=DEBUG", "a JSON object"),
    ("OMNIQ_COMPONENT_LOG_LEVELS", '{"storage": "LOUD"}', "a JSON object of component and level"),
    ("OMNIQ_COMPONENT_LOG_LEVELS", "[1]", "a JSON object"),
]
SECRETS = [
    ("OMNIQ_SIGNING_KEYS", "hunter2"),
    ("OMNIQ_SIGNING_KEYS", "k1:fine,hunter2"),
    ("OMNIQ_SIGNING_KEYS", ":hunter2"),
    ("OMNIQ_STORAGE_URL", "hunter2"),
    ("OMNIQ_STORAGE_OPTIONS", "{hunter2"),
]


def test_every_promised_variable_is_in_the_table() -> None:
    assert set(PROMISED) <= set(BY_VARIABLE)
    assert EnvConfig.variables() == OPTIONS


def test_the_table_holds_no_name_twice() -> None:
    for attribute in ("name", "variable", "path"):
        assert len({getattr(option, attribute) for option in OPTIONS}) == len(OPTIONS)


@pytest.mark.parametrize(("variable", "text", "value"), RIGHT)
def test_right_values(variable: str, text: str, value: Any) -> None:
    assert EnvConfig({variable: text}).values() == {BY_VARIABLE[variable].path: value}


@pytest.mark.parametrize(("variable", "text", "wanted"), WRONG)
def test_wrong_values_name_variable_value_type_and_example(
    variable: str, text: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError) as caught:
        load_config()
    message = str(caught.value)
    assert f"{variable}={text!r}" in message
    assert wanted in message
    assert f"for example {variable}={BY_VARIABLE[variable].kind.example}" in message


@pytest.mark.parametrize(("variable", "text"), SECRETS)
def test_a_wrong_secret_is_never_said(variable: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EnvConfig({variable: text}).values()
    assert variable in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_the_examples_are_right_themselves() -> None:
    for option in OPTIONS:
        option.read(option.kind.example, option.name)


def test_an_empty_variable_is_not_set() -> None:
    assert EnvConfig({"OMNIQ_MAX_WORKERS": " "}).values() == {}


def test_unknown_variables_are_warned_about_once(caplog: pytest.LogCaptureFixture) -> None:
    environ = {
        "OMNIQ_MAX_WORKER": "3",
        "OMNIQ_QQQ": "secret-value",
        "OMNIQ_TEST_REDIS_URL": "x",
        "OTHER": "1",
    }
    with caplog.at_level(logging.WARNING, "omniq"):
        assert EnvConfig(environ).values() == {}
        EnvConfig(environ).values()
    lines = [each.getMessage() for each in caplog.records if each.name == "omniq.config"]
    assert len(lines) == 2
    assert "OMNIQ_MAX_WORKER is unknown" in lines[0]
    assert "did you mean 'OMNIQ_MAX_WORKERS'" in lines[0]
    assert "OMNIQ_QQQ is unknown" in lines[1]
    assert "secret-value" not in caplog.text
