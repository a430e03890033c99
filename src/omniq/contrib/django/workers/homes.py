"""Every queue that the settings describe: that of `OMNIQ`, and those of backends in `TASKS`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omniq.contrib.django.compat import package
from omniq.contrib.django.conf import Overlay, django_settings, overlaid
from omniq.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from omniq.contrib.django.backends.backend import OmniQBackend


def homes(alias: str | None = None) -> list[Overlay]:
    """The settings of each queue, once; of one tasks backend alone if `alias` names it."""
    if alias is not None:
        return [backend(alias).overlay]
    found: dict[str, Overlay] = {}
    for home in (Overlay.of({}), *(each.overlay for each in backends().values())):
        with overlaid(home):
            found.setdefault(django_settings().key, home)
    return list(found.values())


def backends() -> dict[str, OmniQBackend]:
    """The backends of `TASKS` that are OmniQ's, by alias."""
    if package() is None:
        return {}
    from omniq.contrib.django.backends.backend import OmniQBackend
    from omniq.contrib.django.backends.framework import task_backends

    made = {alias: task_backends[alias] for alias in task_backends}
    return {alias: each for alias, each in made.items() if isinstance(each, OmniQBackend)}


def backend(alias: str) -> OmniQBackend:
    """One of them; raises ConfigError."""
    ours = backends()
    if alias in ours:
        return ours[alias]
    if package() is not None:
        from omniq.contrib.django.backends.framework import task_backends

        if alias in task_backends:
            raise ConfigError(
                f"the backend {alias!r} of TASKS is {type(task_backends[alias]).__name__}, which "
                "keeps its tasks elsewhere: OmniQ runs those of an OmniQBackend"
            )
    raise ConfigError(f"TASKS has no backend {alias!r}{did_you_mean(alias, ours)}")
