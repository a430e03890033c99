"""The Django app: `INSTALLED_APPS = [..., "omniq.contrib.django"]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_started, setting_changed
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules

from omniq.decorator import Fallback, set_fallback
from omniq.handle import AsyncTaskHandle
from omniq.models.task import Task

if TYPE_CHECKING:
    from omniq.contrib.django.handle import TaskHandle


class OmniQConfig(AppConfig):
    """Registers checks and imports the apps' `tasks` modules. Nothing is opened here."""

    name = "omniq.contrib.django"
    label = "omniq"
    verbose_name = "OmniQ"
    default = True
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from omniq.contrib.django.checks import register_checks

        register_checks()
        request_started.connect(_on_request, dispatch_uid="omniq")
        post_migrate.connect(_after_migrate, sender=self, dispatch_uid="omniq")
        setting_changed.connect(_on_setting_changed, dispatch_uid="omniq")
        set_fallback(Fallback(_enqueue, _aenqueue))
        if _autodiscovers():
            autodiscover_modules("tasks")


def _autodiscovers() -> bool:
    from omniq.contrib.django.conf import django_settings

    try:
        return django_settings().autodiscover
    except ImproperlyConfigured:
        return True  # the checks say what is wrong


def _enqueue(task: Task) -> TaskHandle[Any]:
    """`f.enqueue(...)` of a function of OmniQ's own `@task`."""
    from omniq.contrib.django.faces import queue

    return queue.enqueue(task)


async def _aenqueue(task: Task) -> AsyncTaskHandle[Any]:
    from omniq.contrib.django.faces import aqueue

    return await aqueue.enqueue(task)


def _on_request(**signal: Any) -> None:
    from omniq.contrib.django.workers.serving import on_request

    on_request(**signal)


def _after_migrate(**signal: Any) -> None:
    from omniq.contrib.django.tables import after_migrate

    after_migrate(**signal)


def _on_setting_changed(*, setting: str, **_: Any) -> None:
    if setting in ("OMNIQ", "TASKS", "DATABASES", "BASE_DIR"):
        from omniq.contrib.django.runtime import reset

        reset()
