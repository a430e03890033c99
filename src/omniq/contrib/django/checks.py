"""System checks: what `manage.py check` says about `settings.OMNIQ`, each with what to write.

E001-E009 are mistakes, W001-W005 what may surprise, W101-W105 what `check --deploy` adds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from omniq.backend import create_stores
from omniq.config import is_memory, load_config
from omniq.contrib.django.conf import (
    BY_KEY,
    OPTION_OF,
    DjangoSettings,
    label,
    near,
    raw_settings,
    read_settings,
    under_test,
)
from omniq.errors import ConfigError, OmniQError, did_you_mean
from omniq.models.config import OmniQConfig

PLACES = tuple(
    key
    for key, option in OPTION_OF.items()
    if option.path.endswith((".type", ".url", ".obstore_uri", ".options"))
)
"""Keys that say where tasks are kept, as DATABASE does."""
_VALUE = "The table of keys in OmniQ's documentation says what each may be."


def check_settings(**_: Any) -> list[CheckMessage]:
    """Keys, values and combinations."""
    try:
        given = raw_settings()
    except ImproperlyConfigured as error:
        hint = 'Write OMNIQ = {"STORAGE_TYPE": "sqlite"}, or leave OMNIQ out for the defaults.'
        return [Error(str(error), hint=hint, id="omniq.E003")]
    if found := [*_keys(given), *_values(given)]:
        return found
    try:
        read = read_settings(given)
        config = load_config(read.omniq)
    except (ImproperlyConfigured, ConfigError) as error:  # the environment's part, or both together
        return [Error(str(error), hint=_VALUE, id="omniq.E002")]
    return [
        *_database(given, read),
        *_place(read, config),
        *_queues(read, config),
        *_hook(read),
        *_surprises(read, config),
    ]


def check_deployment(**_: Any) -> list[CheckMessage]:
    """What works on a desk and not in production."""
    try:
        read = read_settings(raw_settings())
        config = load_config(read.omniq)
    except (ImproperlyConfigured, ConfigError):
        return []  # said above
    return list(_deployment(read, config))


def register_checks() -> None:
    """Called once, by the app."""
    register(check_settings, "omniq")
    register(check_deployment, "omniq", Tags.security, deploy=True)


def _keys(given: Mapping[str, Any]) -> Iterator[CheckMessage]:
    for key in given:
        if key not in BY_KEY and key not in OPTION_OF:
            hint = near(key).removeprefix("; ")
            yield Error(
                f"OMNIQ has no key {key!r}.", hint=hint[:1].upper() + hint[1:], id="omniq.E001"
            )


def _values(given: Mapping[str, Any]) -> Iterator[CheckMessage]:
    for key, value in given.items():
        reader = BY_KEY.get(key) or OPTION_OF.get(key)
        try:
            if reader is not None:
                reader.read(value, label(key))
        except ConfigError as error:
            yield Error(str(error), hint=_VALUE, id="omniq.E002")


def _database(given: Mapping[str, Any], read: DjangoSettings) -> Iterator[CheckMessage]:
    if read.database is None:
        return
    from omniq.contrib.django.database import begins_late, native_storage, trouble

    variables = [OPTION_OF[key].variable for key in PLACES]
    both = [label(key) for key in PLACES if given.get(key)]
    both += [name for name in variables if os.environ.get(name, "").strip()]
    if both:
        yield Error(
            f"{label('DATABASE')} and {', '.join(both)} both say where tasks are kept.",
            hint="Keep DATABASE alone to enqueue in your transactions. Without it tasks have a "
            "store of their own.",
            id="omniq.E004",
        )
    if (why := trouble(read.database)) is not None:
        hint = "Name an alias of DATABASES whose database can keep tasks."
        yield Error(why, hint=hint, id="omniq.E005")
    elif not under_test():
        try:
            native_storage(read.database)
        except (ConfigError, ImproperlyConfigured) as error:
            hint = "Give the database a NAME; SQLite's a file: a path as its NAME."
            yield Error(str(error), hint=hint, id="omniq.E006")
        if begins_late(read.database):
            yield Warning(
                f"The transactions of the database {read.database!r} begin without taking their "
                "turn at writing. One that has read cannot enqueue any more once a worker, or "
                'anybody else, has written meanwhile: "database is locked", at once.',
                hint=f"Set DATABASES[{read.database!r}]['OPTIONS'] = "
                "{'transaction_mode': 'IMMEDIATE'}.",
                id="omniq.W005",
            )


def _place(read: DjangoSettings, config: OmniQConfig) -> Iterator[CheckMessage]:
    from omniq.contrib.django.database import refuse_place

    if read.database is None:
        try:
            refuse_place(read, config)
        except ConfigError as error:
            hint = "Set STORAGE_TYPE or STORAGE_URL to a place that is there, or leave both out."
            yield Error(f"Tasks cannot be kept: {error}", hint=hint, id="omniq.E009")


def _queues(read: DjangoSettings, config: OmniQConfig) -> Iterator[CheckMessage]:
    name = config.tasks.queue
    if read.queues and name not in read.queues:
        yield Error(
            f"Tasks that name no queue go to {name!r}, which {label('QUEUES')} does not have"
            f"{did_you_mean(name, read.queues)}",
            hint=f"Add {name!r} to QUEUES, or set DEFAULT_QUEUE to one of them.",
            id="omniq.E007",
        )


def _hook(read: DjangoSettings) -> Iterator[CheckMessage]:
    if read.dashboard_auth is None:
        return
    try:
        found = import_string(read.dashboard_auth)
    except ImportError as error:
        hint = "Write the dotted path of a function that takes the request."
        yield Error(f"{label('DASHBOARD_AUTH')}: {error}.", hint=hint, id="omniq.E008")
        return
    if not callable(found):
        hint = "It must name a function that takes the request."
        said = f"{label('DASHBOARD_AUTH')} names a {type(found).__name__}, which cannot be called."
        yield Error(said, hint=hint, id="omniq.E008")


def _surprises(read: DjangoSettings, config: OmniQConfig) -> Iterator[CheckMessage]:
    if _memory(read, config) and not read.embedded_worker and not under_test():
        yield Warning(
            "Tasks are kept in memory, and nobody works on them: a worker in another process "
            "would not see them.",
            hint="Set EMBEDDED_WORKER to True, or keep tasks where processes can share them: "
            'STORAGE_TYPE = "sqlite".',
            id="omniq.W001",
        )
    if read.enqueue_on_commit and read.database is not None:
        yield Warning(
            f"{label('ENQUEUE_ON_COMMIT')} has no effect together with DATABASE: tasks are part "
            "of the transaction.",
            hint="Leave ENQUEUE_ON_COMMIT out.",
            id="omniq.W002",
        )
    atomic = [alias for alias, each in settings.DATABASES.items() if each.get("ATOMIC_REQUESTS")]
    if atomic and read.database is None and not read.enqueue_on_commit:
        yield Warning(
            "Each request runs in a transaction (ATOMIC_REQUESTS), and tasks are enqueued before "
            "it commits: a worker may start one before it can see what the request has written.",
            hint=f"Set {label('ENQUEUE_ON_COMMIT')} to True, or DATABASE to {atomic[0]!r}.",
            id="omniq.W003",
        )
    if not config.base_dir.is_absolute():
        yield Warning(
            f"{str(config.base_dir)!r}, where tasks and keys are kept, is relative: a server and "
            "a worker that start in different folders would not meet.",
            hint=f"Set BASE_DIR in the project's settings, or an absolute path as {label('BASE_DIR')}.",
            id="omniq.W004",
        )


def _deployment(read: DjangoSettings, config: OmniQConfig) -> Iterator[CheckMessage]:
    memory = _memory(read, config)
    if memory:
        yield Warning(
            "Tasks are kept in memory: they are lost when the process ends, and each process of "
            "the server has tasks of its own.",
            hint='Set STORAGE_TYPE to "sqlite", or DATABASE to an alias of DATABASES.',
            id="omniq.W101",
        )
    for name, folder in _served():
        if config.base_dir.absolute().is_relative_to(folder):
            yield Warning(
                f"{str(config.base_dir)!r} holds the key that signs tasks and the dashboard's "
                f"token, and is inside {name}, which the web server shows to everybody.",
                hint=f"Move {label('BASE_DIR')} out of {name}.",
                id="omniq.W102",
            )
    if read.embedded_worker:
        yield Warning(
            "Every process of the server works on tasks too: they take its time from requests, "
            "and end when it is recycled.",
            hint="Set EMBEDDED_WORKER to False and run `manage.py omniq_worker` beside the server.",
            id="omniq.W103",
        )
    if not config.signing_keys and not memory and _elsewhere(read, config):
        yield Warning(
            "Tasks are kept on another machine and SIGNING_KEYS is not set: functions without "
            "an importable name and arguments that only dill can encode are refused.",
            hint='Set OMNIQ_SIGNING_KEYS="<id>:<secret>" in the environment of all processes.',
            id="omniq.W104",
        )
    if read.dashboard_auth is not None:
        yield Warning(
            f"{read.dashboard_auth} alone decides who sees the dashboard and changes tasks there: "
            "Django's staff status and permissions are not asked.",
            hint="Leave DASHBOARD_AUTH out for staff with permissions, or silence this check.",
            id="omniq.W105",
        )


def _memory(read: DjangoSettings, config: OmniQConfig) -> bool:
    return read.database is None and is_memory(config.task_queue or config.storage)


def _elsewhere(read: DjangoSettings, config: OmniQConfig) -> bool:
    """Whether others than this machine can write to tasks or results."""
    if read.database is not None:
        from omniq.contrib.django.database import is_local, trouble

        return trouble(read.database) is None and not is_local(read.database)
    try:
        stores = create_stores(config)
    except OmniQError:  # E009 says what is wrong with it
        return False
    return not all(place.capabilities.local for place in (stores.tasks, stores.results))


def _served() -> Iterator[tuple[str, Path]]:
    for name in ("STATIC_ROOT", "MEDIA_ROOT"):
        if folder := getattr(settings, name, None):
            yield name, Path(folder).absolute()
    for entry in getattr(settings, "STATICFILES_DIRS", ()):
        yield "STATICFILES_DIRS", Path(entry[1] if isinstance(entry, list | tuple) else entry)
