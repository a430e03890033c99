"""What `manage.py check` says about settings that are wrong, impossible or unwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.test import override_settings

from omniq.contrib.django import checks
from tests.contrib.django.conftest import Omniq


def not_callable() -> None: ...


WORD = "not a function"


@pytest.fixture(autouse=True)
def _outside_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production: what is fine in a test is not fine there."""
    monkeypatch.setattr(checks, "under_test", lambda: False)


def check(*, deploy: bool = False) -> dict[str, CheckMessage]:
    """Our messages by id."""
    found = run_checks(tags=["omniq"], include_deployment_checks=deploy)
    return {each.id.removeprefix("omniq."): each for each in found if each.id}


ABSOLUTE = {"BASE_DIR": "/var/lib/shop"}

MISTAKES: list[tuple[str, dict[str, Any], str, str]] = [
    ("E001", {"STORAGE_TYP": "sqlite"}, "no key 'STORAGE_TYP'", "Did you mean 'STORAGE_TYPE'?"),
    ("E001", {"storage_type": "sqlite"}, "no key 'storage_type'", "Did you mean 'STORAGE_TYPE'?"),
    ("E001", {"RETRY_ATTEMPTS": 3}, "no key 'RETRY_ATTEMPTS'", "Did you mean 'RETRIES'?"),
    ("E001", {"EMBEDDED": True}, "no key 'EMBEDDED'", "Did you mean 'EMBEDDED_WORKER'?"),
    ("E001", {"ZZZ": 1}, "no key 'ZZZ'", "Known: ASYNC_WORKERS, AUTODISCOVER, "),
    (
        "E002",
        {"MAX_WORKERS": "many"},
        "OMNIQ[\"MAX_WORKERS\"]='many' is not right",
        "table of keys",
    ),
    ("E002", {"EMBEDDED_WORKER": "maybe"}, "it takes true or false", "table of keys"),
    (
        "E004",
        {"DATABASE": "default", "STORAGE_TYPE": "memory"},
        'OMNIQ["DATABASE"] and OMNIQ["STORAGE_TYPE"] both say',
        "Keep DATABASE alone",
    ),
    ("E005", {"DATABASE": "defualt"}, "did you mean 'default'?", "alias of DATABASES"),
    ("E006", {"DATABASE": "memory"}, "'memory' is in memory", "a path as its NAME"),
    ("E007", {"QUEUES": ["emails"]}, "go to 'default', which", "Add 'default' to QUEUES"),
    ("E008", {"DASHBOARD_AUTH": "shop.nobody.may"}, "No module named 'shop'", "takes the request"),
    ("E008", {"DASHBOARD_AUTH": f"{__name__}.WORD"}, "names a str", "takes the request"),
    (
        "E009",
        {"STORAGE_OPTIONS": {"synchronos": "FULL"}},
        "did you mean 'synchronous'",
        "a place that is",
    ),
    ("E009", {"STORAGE_OPTIONS": {"synchronous": "SOME"}}, "NORMAL or FULL", "leave both out"),
    ("W001", {"STORAGE_TYPE": "memory"}, "nobody works on them", "EMBEDDED_WORKER to True"),
    ("W002", {"DATABASE": "default", "ENQUEUE_ON_COMMIT": True}, "no effect", "Leave"),
    ("W004", {"BASE_DIR": "tasks"}, "'tasks', where tasks and keys are kept", "absolute path"),
]


@pytest.fixture
def databases_with_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more database, of the kind that only its own connection can see."""
    from django.conf import settings
    from django.db import connections

    memory = {**connections.settings["default"], "NAME": ":memory:"}
    monkeypatch.setitem(connections.settings, "memory", memory)
    monkeypatch.setitem(settings.DATABASES, "memory", memory)


@pytest.mark.parametrize(("id", "keys", "says", "hint"), MISTAKES)
def test_what_is_wrong_and_what_to_write(
    id: str,
    keys: dict[str, Any],
    says: str,
    hint: str,
    omniq: Omniq,
    databases_with_memory: None,
) -> None:
    omniq(**keys)
    found = check()
    assert list(found) == [id]
    assert says in found[id].msg
    assert hint in (found[id].hint or "")


def test_every_wrong_key_is_named_at_once(omniq: Omniq) -> None:
    omniq(STORAGE_TYP="sqlite", MAX_WORKER=2, RETRIES="often")
    messages = [each.msg for each in run_checks(tags=["omniq"])]
    assert len(messages) == 3, messages


@override_settings(OMNIQ=["STORAGE_TYPE"])
def test_settings_that_are_no_dict() -> None:
    assert "OMNIQ is a list; a dict of settings is wanted" in check()["E003"].msg


def test_the_environment_is_checked_too(omniq: Omniq, monkeypatch: pytest.MonkeyPatch) -> None:
    omniq()
    monkeypatch.setenv("OMNIQ_EMBEDDED_WORKER", "perhaps")
    assert "OMNIQ_EMBEDDED_WORKER='perhaps' is not right" in check()["E002"].msg
    monkeypatch.setenv("OMNIQ_EMBEDDED_WORKER", "1")
    monkeypatch.setenv("OMNIQ_DATABASE", "default")
    monkeypatch.setenv("OMNIQ_STORAGE_URL", "sqlite:////tmp/tasks.db")
    assert "OMNIQ_STORAGE_URL both say" in check()["E004"].msg


def test_a_vendor_that_cannot_keep_tasks(omniq: Omniq, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connections

    omniq(DATABASE="other")
    monkeypatch.setattr(type(connections["other"]), "vendor", "oracle")
    assert "of the kind 'oracle'" in check()["E005"].msg


def test_transactions_that_may_be_refused_an_enqueue(
    omniq: Omniq, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import connections

    omniq(DATABASE="default")
    for options, found in (({}, True), ({"transaction_mode": "IMMEDIATE"}, False)):
        monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", options)
        assert ("W005" in check()) is found
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", {"timeout": 5})
    assert "'transaction_mode': 'IMMEDIATE'" in str(check()["W005"].hint)


def test_requests_in_transactions(omniq: Omniq, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.conf import settings

    monkeypatch.setitem(settings.DATABASES["other"], "ATOMIC_REQUESTS", True)
    omniq()
    found = check()
    assert list(found) == ["W003"]
    assert "DATABASE to 'other'" in (found["W003"].hint or "")
    for keys in ({"ENQUEUE_ON_COMMIT": True}, {"DATABASE": "other"}):
        omniq(**keys)
        assert check() == {}


def test_good_settings_are_silent(omniq: Omniq) -> None:
    for keys in (
        {},
        {"DATABASE": "default"},
        {"STORAGE_TYPE": "memory", "EMBEDDED_WORKER": True},
        {"QUEUES": ["default", "emails"]},
        {"DASHBOARD_AUTH": f"{__name__}.not_callable"},
    ):
        omniq(**keys)
        assert check() == {}


UNWISE: list[tuple[str, dict[str, Any], str]] = [
    ("W101", {"STORAGE_TYPE": "memory"}, "lost when the process ends"),
    ("W103", {"EMBEDDED_WORKER": True}, "works on tasks too"),
    ("W104", {"STORAGE_URL": "redis://tasks.example"}, "SIGNING_KEYS is not set"),
    ("W104", {"OBSTORE_URI": "s3://bucket/tasks"}, "SIGNING_KEYS is not set"),
    ("W104", {"RESULT_STORAGE_TYPE": "postgres"}, "SIGNING_KEYS is not set"),
    ("W105", {"DASHBOARD_AUTH": f"{__name__}.not_callable"}, "alone decides"),
]


@pytest.mark.parametrize(("id", "keys", "says"), UNWISE)
def test_what_is_unwise_in_production(
    id: str, keys: dict[str, Any], says: str, omniq: Omniq
) -> None:
    omniq(**keys)
    found = check(deploy=True)
    assert says in found[id].msg
    assert found[id].hint
    assert id not in check()


@pytest.mark.parametrize("name", ["STATIC_ROOT", "MEDIA_ROOT", "STATICFILES_DIRS"])
def test_keys_and_tasks_in_a_folder_that_is_served(name: str, omniq: Omniq, tmp_path: Path) -> None:
    omniq(BASE_DIR=tmp_path / "public" / ".omniq")
    public = str(tmp_path / "public")
    with override_settings(**{name: [("files", public)] if name.endswith("DIRS") else public}):
        assert f"inside {name}" in check(deploy=True)["W102"].msg
    with override_settings(
        **{name: [str(tmp_path / "p")] if name.endswith("DIRS") else "/nowhere"}
    ):
        assert "W102" not in check(deploy=True)
