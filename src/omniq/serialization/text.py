"""Values as text for people: short, without secrets, and never by running foreign code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from types import NoneType
from typing import Any, Final
from uuid import UUID

LIMIT: Final = 200
HIDDEN: Final = "***"

_SECRET = re.compile(
    r"passw(or)?d|passphrase|secret|token|authorization|cookie|api_?-?key|private_?-?key|"
    r"credential|dsn",
    re.IGNORECASE,
)
_SMALL: Final = frozenset({NoneType, bool, float})
_SAFE: Final = frozenset({Decimal, UUID, datetime, date, time, timedelta})
_BRACKETS: Final[dict[type, tuple[str, str]]] = {list: ("[", "]"), tuple: ("(", ")")}
_HUGE: Final = 10**40


@lru_cache(maxsize=4096)
def is_secret(key: str) -> bool:
    """Whether a name says that its value is nobody's business."""
    return _SECRET.search(key) is not None


def preview(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """A call's arguments in at most 200 characters: `5, 'a.png', size=3, token=***`."""
    parts = []
    room = LIMIT
    for value in args:
        part = _text(value)
        parts.append(part)
        room -= len(part) + 2
        if room < 0:
            break
    else:
        for key, value in kwargs.items():
            part = f"{key}={HIDDEN if is_secret(key) else _text(value)}"
            parts.append(part)
            room -= len(part) + 2
            if room < 0:
                break
    line = ", ".join(parts)
    return line if len(line) <= LIMIT else line[: LIMIT - 1] + "…"


def _text(value: Any, depth: int = 3) -> str:
    kind = type(value)
    if kind is int:  # Python refuses to print an int of thousands of digits
        return repr(value) if -_HUGE < value < _HUGE else f"<int of {value.bit_length()} bits>"
    if kind is str:
        return repr(value) if len(value) <= LIMIT else repr(value[:LIMIT]) + "…"
    if kind in _SMALL:
        return repr(value)
    if kind is bytes or kind is bytearray:
        return f"<{len(value)} bytes>"
    if kind in _SAFE:
        return str(value)
    if kind is dict:
        return _dict(value, depth)
    if kind in (list, tuple, set, frozenset):
        return _list(value, depth)
    return f"<{kind.__name__}>"


def _dict(value: dict[Any, Any], depth: int) -> str:
    if not depth:
        return "{…}"
    parts: list[str] = []
    for key, item in value.items():
        if len(parts) == 10:
            parts.append("…")
            break
        hide = isinstance(key, str) and is_secret(key)
        parts.append(f"{_text(key, 1)}: {HIDDEN if hide else _text(item, depth - 1)}")
    return "{" + ", ".join(parts) + "}"


def _list(value: Any, depth: int) -> str:
    open_, close = _BRACKETS.get(type(value), ("{", "}"))
    if not depth:
        return f"{open_}…{close}"
    parts: list[str] = []
    for item in value:
        if len(parts) == 10:
            parts.append("…")
            break
        parts.append(_text(item, depth - 1))
    return open_ + ", ".join(parts) + close


def redact(value: Any, depth: int = 32) -> Any:
    """A copy of a plain value in which what stands under a secret's name is hidden."""
    if not depth:
        return "…"
    kind = type(value)
    if kind is dict:
        return {
            key: HIDDEN if isinstance(key, str) and is_secret(key) else redact(item, depth - 1)
            for key, item in value.items()
        }
    if kind is list:
        return [redact(item, depth - 1) for item in value]
    if kind is tuple:
        return tuple(redact(item, depth - 1) for item in value)
    return value
