"""From `module:attribute` to the queues that are there."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from omniq._portal import portal
from omniq.contrib.host import Host, QueueHost, refuse_unshared
from omniq.core import AsyncOmniQ
from omniq.errors import ConfigError, did_you_mean
from omniq.sync import OmniQ


class Framework(NamedTuple):
    """Apps of a web framework that may hold queues, and what makes hosts of them."""

    app: str
    """What an app is an instance of, as module:class. Never imported for this: a module that
    holds such an app has done it."""
    host: str
    """The host for such an app, called with the app and the name of one of its queues."""
    adapters: tuple[str, ...]
    """Modules of ours an app has its queue from. Without any of them imported it has none."""
    wanted: str
    """What such an app needs, for people."""


FRAMEWORKS = (
    Framework(
        "litestar:Litestar",
        "omniq.contrib.litestar.host:LitestarHost",
        ("omniq.contrib.litestar",),
        "a Litestar app with OmniQPlugin",
    ),
    Framework(  # FastAPI's apps are Starlette's
        "starlette.applications:Starlette",
        "omniq.contrib.starlette.host:StarletteHost",
        ("omniq.contrib.fastapi", "omniq.contrib.starlette"),
        "a FastAPI or Starlette app that starts OmniQ",
    ),
    Framework(  # what wsgi.py and asgi.py of a project hold
        "django.core.handlers.base:BaseHandler",
        "omniq.contrib.django.workers.host:DjangoHost",
        ("omniq.contrib.django",),
        "the application of a Django project with OmniQ in INSTALLED_APPS",
    ),
)
HOLDERS = (
    "an AsyncOmniQ, an OmniQ or a TaskQueue, "
    f"{', '.join(each.wanted for each in FRAMEWORKS[:-1])}, or {FRAMEWORKS[-1].wanted}"
)


def load(target: str, name: str | None = None) -> Host:
    """The host at `module:attribute`; with `module` alone, the only one that module holds.

    `name` picks one of several queues of an app. Raises ConfigError with what to write.
    """
    where, _, attribute = target.partition(":")
    if not where or (":" in target and not attribute):
        raise ConfigError(
            f"{target!r} does not name a queue: write module:attribute, as in app:queue"
        )
    module = _import(where)
    found = _attribute(module, attribute) if attribute else _only_one(module)
    host = _host(found, name)
    if host is None:
        raise ConfigError(
            f"{target} is {_a(type(found).__name__)}: expected {HOLDERS}{_candidates(module)}"
        )
    for queue in host.queues:
        refuse_unshared(queue)
    return host


def default_host(*, must_exist: bool = False) -> Host:
    """The queue that the environment's settings describe, or the one in `.omniq/` here.

    `must_exist`: only looking at a queue should not make one.
    """
    queue = AsyncOmniQ(embedded=False)
    place, base_dir = queue.config.task_queue or queue.config.storage, queue.config.base_dir
    if must_exist and place.type == "sqlite" and place.url is None and not base_dir.is_dir():
        raise ConfigError(
            f"no queue is kept in {base_dir.resolve()}: go to your app's directory, set "
            "OMNIQ_BASE_DIR or OMNIQ_STORAGE_URL, or name the app as module:attribute"
        )
    return QueueHost(queue)


def _import(where: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    if where.endswith(".py") or "/" in where:
        hint = where.removesuffix(".py").replace("/", ".").strip(".")
        raise ConfigError(f"{where!r} is a file name: write the module's name, {hint!r}")
    try:
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{where}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports is missing
        raise ConfigError(
            f"no module {error.name!r} in {here} or where Python looks"
            f"{did_you_mean(where, _modules_beside(where))}"
        ) from None


def _modules_beside(where: str) -> Iterable[str]:
    parent, dot, _ = where.rpartition(".")
    if parent:
        try:
            spec = find_spec(parent)
        except ModuleNotFoundError:
            return []
        folders = [Path(each) for each in (spec and spec.submodule_search_locations) or ()]
    else:
        folders = [Path.cwd()]
    files = [path for folder in folders for path in folder.glob("*.py")]
    packages = [path.parent for folder in folders for path in folder.glob("*/__init__.py")]
    stems = {path.stem for path in [*files, *packages]} - {"__init__"}
    return [f"{parent}{dot}{stem}" for stem in stems]


def _attribute(module: ModuleType, dotted: str) -> Any:
    found: Any = module
    for part in dotted.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            names = [name for name in dir(found) if not name.startswith("_")]
            better = _hosts_in(module) or names
            raise ConfigError(
                f"{module.__name__} has no attribute {dotted!r}{did_you_mean(part, better)}"
            ) from None
    return found


def _only_one(module: ModuleType) -> Any:
    names = _hosts_in(module)
    if len(names) == 1:
        return getattr(module, names[0])
    if not names:
        raise ConfigError(
            f"{module.__name__} holds no queue: it needs {HOLDERS}, at the top of the module"
        )
    choices = " or ".join(f"{module.__name__}:{name}" for name in names)
    raise ConfigError(f"{module.__name__} holds several queues: write {choices}")


def _candidates(module: ModuleType) -> str:
    names = _hosts_in(module)
    return f"; did you mean {module.__name__}:{names[0]}?" if names else ""


def _hosts_in(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (isinstance(value, AsyncOmniQ | OmniQ) or _framework(value) is not None)
    ]


def _host(found: Any, name: str | None) -> Host | None:
    if isinstance(found, OmniQ):
        if portal.running:  # the module itself has used it already, on the blocking face's loop
            found.close()
        found = found._async
    if isinstance(found, AsyncOmniQ):
        return QueueHost(found)
    framework = _framework(found)
    if framework is None:
        return None
    if not any(adapter in sys.modules for adapter in framework.adapters):
        raise ConfigError(
            f"this {type(found).__name__} app has no queue: expected {framework.wanted} "
            f"(from {framework.adapters[0]})"
        )
    made: Host = _look_up(framework.host)(found, name)
    return made


def _framework(value: Any) -> Framework | None:
    """The framework of an app, asked without importing any."""
    for each in FRAMEWORKS:
        module = each.app.partition(":")[0]
        # An application may be wrapped into a function, as one with a lifespan for Django is.
        inner = getattr(value, "__wrapped__", value)
        if module in sys.modules and isinstance(inner, _look_up(each.app)):
            return each
    return None


def _look_up(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _a(word: str) -> str:
    return f"{'an' if word[:1] in 'AEIOUaeiou' else 'a'} {word}"
