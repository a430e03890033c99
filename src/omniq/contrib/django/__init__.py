"""Django: settings, tasks backend, transactions, commands, admin and dashboard.

`INSTALLED_APPS = [..., "omniq.contrib.django"]`, then `from omniq.contrib.django import queue`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniq._lazy import lazy

if TYPE_CHECKING:
    from omniq.contrib.django.apps import OmniQConfig as OmniQConfig
    from omniq.contrib.django.backends.backend import OmniQBackend as OmniQBackend
    from omniq.contrib.django.backends.eager import EagerBackend as EagerBackend
    from omniq.contrib.django.backends.task import OmniQTask as OmniQTask
    from omniq.contrib.django.faces import aqueue as aqueue
    from omniq.contrib.django.faces import queue as queue
else:
    __getattr__, __dir__, __all__ = lazy(
        __name__,
        {
            "EagerBackend": "omniq.contrib.django.backends.eager",
            "OmniQBackend": "omniq.contrib.django.backends.backend",
            "OmniQConfig": "omniq.contrib.django.apps",
            "OmniQTask": "omniq.contrib.django.backends.task",
            "aqueue": "omniq.contrib.django.faces",
            "queue": "omniq.contrib.django.faces",
        },
    )
