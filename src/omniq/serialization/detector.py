"""Which serializer holds a value faithfully: what comes back must have the types that went in."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

DEPTH: Final = 64
"""Deeper nesting is left to dill, which also knows values that contain themselves."""

ATOMS: Final = frozenset({NoneType, bool, int, float, str, bytes})
"""msgpack holds these as they are (an int beyond 64 bits is found when it is encoded)."""

PATH: Final[type[Path]] = type(Path())

RICH: Final = frozenset(
    {Decimal, UUID, date, time, timedelta, tuple, set, frozenset, bytearray, PATH}
)
"""msgpack has no word for these; MsgspecSerializer marks them, so they come back as they were."""


def is_plain(value: Any, depth: int = DEPTH) -> bool:
    """Whether msgpack alone gives `value` back with every type intact."""
    kind = type(value)
    if kind in ATOMS:
        return True
    if not depth:
        return False
    if kind is list:
        return ATOMS.issuperset(map(type, value)) or all(is_plain(v, depth - 1) for v in value)
    if kind is dict:
        for key in value:
            if type(key) is not str and type(key) is not int:
                return False
        values = value.values()
        return ATOMS.issuperset(map(type, values)) or all(is_plain(v, depth - 1) for v in values)
    return kind is datetime and value.tzinfo is UTC and not value.fold


def is_rich(value: Any, depth: int = DEPTH) -> bool:
    """Whether marked msgpack gives `value` back with every type intact."""
    kind = type(value)
    if kind in ATOMS:
        return True
    if not depth:
        return False
    if kind is dict:
        return all(is_rich(k, depth - 1) and is_rich(v, depth - 1) for k, v in value.items())
    if kind in (list, tuple, set, frozenset):
        return all(is_rich(v, depth - 1) for v in value)
    if kind is datetime:
        return knows_zone(value.tzinfo)
    if kind is time:
        return value.tzinfo is None
    return kind in RICH or hasattr(kind, "__omniq_plain__")


def knows_zone(zone: Any) -> bool:
    """Whether a time zone can be written down: none, a fixed offset, or a named zone."""
    if type(zone) is timezone:  # one that was given a name of its own would lose it
        return zone.tzname(None) == timezone(zone.utcoffset(None)).tzname(None)
    return zone is None or (type(zone) is ZoneInfo and zone.key is not None)


class SerializationDetector:
    """Says which serializer fits a value: "msgspec" where nothing is lost, else "dill"."""

    __slots__ = ()

    def detect(self, value: Any) -> Literal["msgspec", "dill"]:
        """The name of the first serializer that gives `value` back as it is."""
        return "msgspec" if is_plain(value) or is_rich(value) else "dill"
