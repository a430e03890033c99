"""`settings.OMNIQ`: where each setting comes from, and how a wrong one is explained."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import django
import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from omniq.config.options import OPTIONS
from omniq.contrib.django import compat, conf
from omniq.contrib.django.conf import OPTION_OF, OWN, django_settings
from omniq.contrib.django.runtime import blocking
from tests.contrib.django.conftest import Omniq

PAGE = (Path(__file__).parents[3] / "docs/django.md").read_text(encoding="utf-8")


def test_keys_are_the_options_in_upper_case(omniq: Omniq) -> None:
    omniq(MAX_WORKERS=3, TIMEOUT=60, QUEUES=["default", "emails"])
    assert django_settings().omniq["timeout"] == 60.0
    config = blocking().config
    assert config.worker.max_workers == 3
    assert config.worker.queues == django_settings().queues == ("default", "emails")
    assert set(OPTION_OF) == {option.name.upper() for option in OPTIONS} - {"EMBEDDED"}


def test_a_backend_with_a_place_of_its_own_leaves_the_database(omniq: Omniq) -> None:
    omniq(DATABASE="default", RETRIES=0)
    with conf.overlaid(conf.Overlay.of({"STORAGE_URL": "sqlite:////srv/tasks.db"})):
        own = django_settings()
    assert own.database is None and own.omniq["retries"] == 0
    assert own.omniq["storage_url"] == "sqlite:////srv/tasks.db"
    with conf.overlaid(conf.Overlay.of({"RETRIES": 1})):
        assert django_settings().database == "default"


def test_the_environment_wins(omniq: Omniq, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIQ_MAX_WORKERS", "7")
    monkeypatch.setenv("OMNIQ_ENQUEUE_ON_COMMIT", "yes")
    monkeypatch.setenv("OMNIQ_DATABASE", "none")
    omniq(MAX_WORKERS=3, DATABASE="default")
    assert blocking().config.worker.max_workers == 7
    assert django_settings().enqueue_on_commit is True
    assert django_settings().database is None


def test_own_variables_are_no_mystery(
    omniq: Omniq, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for own in OWN:
        monkeypatch.setenv(own.variable, "")
    monkeypatch.setenv("OMNIQ_EMBEDDED_WORKER", "0")
    omniq(STORAGE_TYPE="memory")
    assert blocking().describe()
    assert "unknown" not in caplog.text


def test_without_settings_tasks_are_beside_the_project(
    omniq: Omniq, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conf, "under_test", lambda: False)
    omniq()
    assert blocking().config.base_dir == Path(settings.BASE_DIR) / ".omniq"
    with override_settings(BASE_DIR=None):
        assert blocking().config.base_dir == Path(".omniq")
    with override_settings(BASE_DIR="/srv/shop"):
        assert blocking().config.base_dir == Path("/srv/shop/.omniq")


def test_under_test_they_are_not(_test_environment: None, omniq: Omniq) -> None:
    omniq()
    assert not blocking().config.base_dir.is_relative_to(settings.BASE_DIR)


def test_a_wrong_key_or_value_is_named(omniq: Omniq) -> None:
    omniq(MAX_WORKER=2)
    with pytest.raises(ImproperlyConfigured, match="'MAX_WORKER'; did you mean 'MAX_WORKERS'"):
        django_settings()
    omniq(ENQUEUE_ON_COMMIT="perhaps")
    with pytest.raises(ImproperlyConfigured, match=r'OMNIQ\["ENQUEUE_ON_COMMIT"\]=\'perhaps\''):
        django_settings()
    with (
        override_settings(OMNIQ="sqlite"),
        pytest.raises(ImproperlyConfigured, match="OMNIQ is a str; a dict of settings is wanted"),
    ):
        django_settings()


def test_the_table_of_the_documentation_is_the_codes() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| `[A-Z_]+` \|", line)]
    assert rows == [
        f"| `{own.key}` | {own.kind.words}{', or None' if own.optional else ''} "
        f"| `{own.default}` | {own.meaning} |"
        for own in OWN
    ]


# -- where the tasks framework is ---------------------------------------------------------------


def test_the_framework_of_this_django() -> None:
    expected = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
    assert compat.package() == expected
    assert compat.tasks("base").__name__ == f"{expected}.base"
    assert compat.tasks().__name__ == expected


def test_without_any_framework_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(django, "VERSION", (5, 2, 0, "final", 0))
    monkeypatch.setitem(sys.modules, "django_tasks", None)
    monkeypatch.setattr(compat, "find_spec", lambda name: None)
    compat.package.cache_clear()
    try:
        with pytest.raises(ImproperlyConfigured, match=r"omniq-tasks\[django\]' django-tasks`"):
            compat.tasks()
    finally:
        compat.package.cache_clear()
