"""What `settings.OMNIQ` says.

Its keys are OmniQ's options in upper case (`STORAGE_URL`, `MAX_WORKERS`, ...) and the few
below that only mean something in Django. An environment variable `OMNIQ_<KEY>` wins over each.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from msgspec import Struct

from omniq.config.env import expect
from omniq.config.kinds import FLAG, NAMES, TEXT, Kind
from omniq.config.options import BY_NAME, PREFIX, Option
from omniq.errors import ConfigError, did_you_mean


class DjangoSettings(Struct, frozen=True, kw_only=True):
    """`settings.OMNIQ`, read and checked. `omniq` is what `AsyncOmniQ` takes."""

    omniq: dict[str, Any]
    key: str = ""
    """Settings with one key share a queue."""
    database: str | None = None
    enqueue_on_commit: bool = False
    embedded_worker: bool = False
    autodiscover: bool = True
    dashboard_auth: str | None = None
    queues: tuple[str, ...] = ()


class Own(Struct, frozen=True):
    """A key that only Django has. `field` is its place in DjangoSettings."""

    key: str
    field: str
    kind: Kind
    meaning: str
    optional: bool = False

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.key

    @property
    def default(self) -> Any:
        """What holds if nobody says anything."""
        return dict(
            zip(
                DjangoSettings.__struct_fields__[1:],
                DjangoSettings.__struct_defaults__,
                strict=True,
            )
        )[self.field]

    def read(self, value: Any, label: str) -> Any:
        """`value` in its right type; ConfigError with `label` if it has another."""
        reader = Option(self.key, self.key, "", self.kind, self.meaning, self.optional)
        return reader.read(value, label)


OWN: Final = (
    Own("DATABASE", "database", TEXT, "The alias in `DATABASES` whose database keeps the tasks. They are enqueued on Django's own connection, and so commit and roll back with your transaction. None: a store of OmniQ's own, as the other keys say.", True),
    Own("ENQUEUE_ON_COMMIT", "enqueue_on_commit", FLAG, "Without `DATABASE`: enqueue only when the transaction around has committed, and not at all if it rolls back."),
    Own("EMBEDDED_WORKER", "embedded_worker", FLAG, "Each serving process works on tasks too, from its first request on. Management commands never do."),
    Own("AUTODISCOVER", "autodiscover", FLAG, "Import the module `tasks` of every installed app at start, so that workers know its tasks."),
    Own("DASHBOARD_AUTH", "dashboard_auth", TEXT, "The dotted path of a function that is given the request and says who may look at the dashboard: True, False, a name, a `Principal` or a response. None: staff with the permission to view tasks.", True),
)  # fmt: skip
"""The keys that only Django has, in the order of the documentation."""

BY_KEY: Final[dict[str, Own]] = {own.key: own for own in OWN}
OPTION_OF: Final[dict[str, Option]] = {
    name.upper(): option for name, option in BY_NAME.items() if name != "embedded"
}
"""Key -> OmniQ's own option. Whether to embed a worker is EMBEDDED_WORKER's business."""

expect(own.variable for own in OWN)


class Overlay(NamedTuple):
    """Keys that differ from `settings.OMNIQ`: the OPTIONS of a tasks backend. Those that say the
    same have one `name`.
    """

    name: str
    given: Mapping[str, Any]

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Overlay:
        """The overlay that says this."""
        return cls(repr(sorted(given.items())) if given else "", given)


_NONE: Final = Overlay("", {})
_overlay: ContextVar[Overlay] = ContextVar("omniq_django_overlay", default=_NONE)
_read: dict[tuple[str, int], DjangoSettings] = {}


@contextmanager
def overlaid(overlay: Overlay) -> Iterator[None]:
    """Everything in here, and what is called from here, has these settings and their queue."""
    token = _overlay.set(overlay)
    try:
        yield
    finally:
        _overlay.reset(token)


def overlay() -> Overlay:
    """The one that holds here."""
    return _overlay.get()


def django_settings() -> DjangoSettings:
    """What holds here and now. Read at first use, and again after `setting_changed`."""
    over, tester = _overlay.get(), os.getpid() if under_test() else 0
    found = _read.get((over.name, tester))
    if found is None:
        found = read_settings({**raw_settings(), **_elsewhere(over.given), **over.given})
        _read[over.name, tester] = found
    return found


def _elsewhere(given: Mapping[str, Any]) -> dict[str, Any]:
    """An overlay with a place of its own does not keep its tasks in the DATABASE below it."""
    return {"DATABASE": None} if given.get("STORAGE_URL") or given.get("STORAGE_TYPE") else {}


def forget_settings() -> None:
    """Read them again when they are asked for next."""
    _read.clear()


def raw_settings() -> Mapping[str, Any]:
    """`settings.OMNIQ` as it was written; an empty mapping if it was not."""
    given = getattr(settings, "OMNIQ", None) or {}
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(
            f"OMNIQ is a {type(given).__name__}; a dict of settings is wanted, for example "
            'OMNIQ = {"STORAGE_TYPE": "sqlite"}'
        )
    return given


def read_settings(given: Mapping[str, Any]) -> DjangoSettings:
    """Check and sort; ImproperlyConfigured names the first wrong key."""
    try:
        options: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in given.items():
            if key in BY_KEY:
                own[BY_KEY[key].field] = BY_KEY[key].read(value, label(key))
            elif key in OPTION_OF:
                option = OPTION_OF[key]
                options[option.name] = option.read(value, label(key))
            else:
                raise ConfigError(unknown(key))
        queues = NAMES.read(given.get("QUEUES") or ())
        for each in OWN:
            if text := os.environ.get(each.variable, "").strip():
                own[each.field] = each.read(text, each.variable)
    except ConfigError as error:
        raise ImproperlyConfigured(str(error)) from None
    options.setdefault("base_dir", _base_dir())
    key = repr((sorted(options.items()), own.get("database")))
    return DjangoSettings(omniq=options, key=key, queues=queues, **own)


def label(key: str) -> str:
    """What a key is called in an error."""
    return f'OMNIQ["{key}"]'


def unknown(key: object) -> str:
    """What is wrong with a key that nobody knows."""
    return f"OMNIQ has no key {key!r}{near(key)}"


def near(key: object) -> str:
    """The end of that message: what may have been meant."""
    text = str(key).upper()
    if text == "EMBEDDED":
        return "; did you mean 'EMBEDDED_WORKER'?"
    for name, option in OPTION_OF.items():
        if option.constant == text:  # what the environment variable is called
            return f"; did you mean {name!r}?"
    return did_you_mean(text, [*BY_KEY, *OPTION_OF])


def under_test() -> bool:
    """Whether Django's test runner (or pytest-django) has set up its environment here."""
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(utils._TestState, "saved_data")


def _base_dir() -> Path:
    """Beside the project, wherever it was started from; a folder of their own for tests."""
    if under_test():
        return _tests_dir(os.getpid())
    project = getattr(settings, "BASE_DIR", None)
    return Path(".omniq") if project is None else Path(project) / ".omniq"


@cache
def _tests_dir(process: int) -> Path:
    """Tests must not meet the tasks of development, nor those of tests beside them."""
    folder = tempfile.mkdtemp(prefix=f"omniq-tests-{process}-")
    # Unlike atexit this is also kept by the processes of `test --parallel`.
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=0)
    return Path(folder)
