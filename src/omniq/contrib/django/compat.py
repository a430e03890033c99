"""Where Django's tasks framework is: in Django itself from 6.0 on, before in the backport.

`tasks()` gives the package, so that nothing is imported, and nothing complained about, before
tasks are used.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Literal

import django
from django.core.exceptions import ImproperlyConfigured

Package = Literal["django.tasks", "django_tasks"]


@cache
def package() -> Package | None:
    """The name of the package that tasks come from; None if there is neither."""
    if django.VERSION >= (6, 0):
        return "django.tasks"
    return "django_tasks" if find_spec("django_tasks") is not None else None


def tasks(module: str = "") -> ModuleType:
    """The package `django.tasks` or its backport, or one of its modules: `tasks("signals")`."""
    name = package()
    if name is None:
        raise ImproperlyConfigured(
            f"Django {django.get_version()} has no tasks framework of its own (6.0 is the first "
            "that has), and the backport is not installed: run `pip install "
            "'omniq-tasks[django]' django-tasks`. OmniQ's own queue (`from omniq.contrib.django "
            "import queue`) works without it."
        )
    return import_module(f"{name}.{module}" if module else name)
