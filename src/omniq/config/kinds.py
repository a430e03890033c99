"""Kinds of values: how text from outside becomes a value, and which values are allowed.

A kind raises Wrong with what would have been right; who asked adds the option's name and the
value that was given, unless that is a secret.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, get_args

from msgspec import Struct

from omniq.errors import InvalidName, did_you_mean
from omniq.ids import check_name
from omniq.models.task import WorkerKind

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
EVENT_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "DISABLED")
STORAGE_TYPES: Final = ("memory", "file", "sqlite", "postgres", "redis", "nats")
EVENT_STORAGE_TYPES: Final = (*STORAGE_TYPES, "jsonl")
WORKER_TYPES: Final[tuple[str, ...]] = get_args(WorkerKind)


class Wrong(Exception):
    """Says what would be taken; `hint` what was meant. Internal: never leaves this package."""

    def __init__(self, words: str, hint: str = "") -> None:
        self.hint = hint
        super().__init__(words)


class Kind(Struct, frozen=True):
    """One kind of value. `words` describes it in the documentation and in errors."""

    words: str
    read: Callable[[Any], Any]
    example: str
    secret: bool = False


def number(*, least: int, most: int | None = None, example: int) -> Kind:
    """A whole number within bounds."""
    bounds = f"a whole number from {least}" + (f" to {most}" if most is not None else "")
    if least < -(2**31):
        bounds = "a whole number"

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise Wrong(bounds)
        try:
            found = int(value)
        except ValueError:
            raise Wrong(bounds) from None
        if found < least or (most is not None and found > most):
            raise Wrong(bounds)
        return found

    return Kind(bounds, read, str(example))


def seconds(*, zero: bool = False, example: str = "30") -> Kind:
    """A length of time: seconds, or a timedelta in code."""
    words = "a number of seconds, 0 or more" if zero else "a number of seconds above 0"

    def read(value: Any) -> float:
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise Wrong(words)
        try:
            found = float(value)
        except (ValueError, OverflowError):
            raise Wrong(words) from None
        if not math.isfinite(found) or found < 0 or (found == 0 and not zero):
            raise Wrong(words)
        return found

    return Kind(words, read, example)


def choice(*names: str, example: str, upper: bool = False) -> Kind:
    """One of a few words; case does not matter."""
    words = "one of " + ", ".join(names)

    def read(value: Any) -> str:
        text = value.strip() if isinstance(value, str) else ""
        text = text.upper() if upper else text.lower()
        if text not in names:
            raise Wrong(words, did_you_mean(text, names) if near(text, names) else "")
        return text

    return Kind(words, read, example)


def near(text: str, names: Iterable[str]) -> bool:
    """Whether there is a name to be offered instead (and not only a list of all)."""
    return "did you mean" in did_you_mean(text, names)


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower() if isinstance(value, str | int) else ""
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off"):
        return False
    raise Wrong("true or false")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Wrong("text")
    return value.strip()


def _host(value: Any) -> str:
    try:
        return _text(value)
    except Wrong:
        raise Wrong(HOST.words) from None


def _url(value: Any) -> str:
    if not isinstance(value, str) or not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value.strip()):
        raise Wrong(URL.words)
    return value.strip()


def _path(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise Wrong("a directory's path")
    return Path(value).expanduser()


def _name(value: Any) -> str:
    try:
        return check_name(value)
    except (InvalidName, TypeError):
        raise Wrong(NAME.words) from None


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, Iterable) or isinstance(value, Mapping):
        raise Wrong(NAMES.words)
    try:
        return tuple(_name(part) for part in value)
    except Wrong:
        raise Wrong(NAMES.words) from None


def _mapping(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise Wrong("a JSON object") from None
    if not isinstance(value, Mapping) or not all(isinstance(k, str) for k in value):
        raise Wrong("a JSON object")
    return dict(value)


def _levels(value: Any) -> dict[str, str]:
    words = f"a JSON object of component and level ({', '.join(LEVELS)})"
    try:
        levels = _mapping(value)
    except Wrong:
        raise Wrong(words) from None
    found = {name: str(level).upper() for name, level in levels.items()}
    if not all(level in LEVELS and name for name, level in found.items()):
        raise Wrong(words)
    return found


def _web_path(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*/?", value):
        raise Wrong(WEB_PATH.words)
    return "/" + value.strip("/")


def _keys(value: Any) -> tuple[tuple[str, str], ...]:
    """`kid2:secret,kid1:secret`, a mapping, or pairs; the first signs."""
    if isinstance(value, str):
        value = [part.strip().partition(":")[::2] for part in value.split(",") if part.strip()]
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, list | tuple):
        raise Wrong(KEYS.words)
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Wrong(KEYS.words)
        if not all(isinstance(part, str) and part for part in pair):
            raise Wrong(KEYS.words)
    return tuple((kid, secret) for kid, secret in pairs)


FLAG: Final = Kind("true or false", _flag, "true")
TEXT: Final = Kind("text", _text, "text")
HOST: Final = Kind("an address or a host's name", _host, "127.0.0.1")
BUNDLE: Final = Kind("text", _text, "https://cdn.example.org/datastar.js")
SECRET: Final = Kind("text", _text, "a-long-secret", secret=True)
URL: Final = Kind("a URL", _url, "sqlite:////var/lib/app/tasks.db", secret=True)
PATH: Final = Kind("a directory's path", _path, "/var/lib/app/omniq")
NAME: Final = Kind("a name of 1 to 64 letters A-Z or a-z, digits, _ and -", _name, "emails")
NAMES: Final = Kind("names with commas between", _names, "emails,reports")
MAPPING: Final = Kind("a JSON object", _mapping, '{"timeout": 5}', secret=True)
LOG_LEVELS: Final = Kind("a JSON object", _levels, '{"storage": "DEBUG"}')
WEB_PATH: Final = Kind("a path of the web app", _web_path, "/omniq")
KEYS: Final = Kind(
    "`key-id:secret` entries with commas between",
    _keys,
    "2026b:<new secret>,2026a:<old secret>",
    secret=True,
)
