"""The first choice: msgpack by msgspec, with marks for what msgpack has no word for.

A mark is an extension type whose data is msgpack or text again, so a tuple, a set or a
Decimal inside a list comes back as what it was. Plain values take the short way: no mark,
no second walk.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec.msgpack import Decoder, Encoder, Ext

from omniq.serialization.base import Unfit
from omniq.serialization.detector import ATOMS, DEPTH, PATH, is_plain, knows_zone

pack: Final = Encoder().encode


class MsgspecSerializer:
    """Builtin values <-> msgpack. Takes exactly what it gives back with the same types."""

    __slots__ = ()
    name: Final = "msgspec"

    def encode(self, value: Any) -> bytes:
        """`value` as msgpack. Raises Unfit for what would not come back as it is."""
        try:
            if is_plain(value):
                return pack(value)
        except (OverflowError, UnicodeEncodeError):
            pass  # an int beyond 64 bits is marked below; half a surrogate pair is not text
        try:
            return pack(mark(value))
        except (OverflowError, UnicodeEncodeError, RecursionError) as error:
            raise Unfit(str(error)) from error

    def decode(self, data: bytes | memoryview) -> Any:
        """The value again. Raises whatever msgspec or a mark raises on bytes that are wrong."""
        return _any(data)


def mark(value: Any, depth: int = DEPTH) -> Any:
    """`value` with an extension in place of everything msgpack has no word for."""
    kind = type(value)
    if kind is int and not -(2**63) <= value < 2**64:
        return Ext(_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if kind in ATOMS:
        return value
    if not depth:
        raise Unfit("nested too deeply")
    if kind is list:
        return [mark(v, depth - 1) for v in value]
    if kind is dict:
        if all(type(k) is str for k in value):
            return {k: mark(v, depth - 1) for k, v in value.items()}
        pairs = [[mark(k, depth - 1), mark(v, depth - 1)] for k, v in value.items()]
        return Ext(_DICT, pack(pairs))
    if kind is datetime and knows_zone(value.tzinfo):
        if value.tzinfo is UTC and not value.fold:
            return value
        zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else ""
        stamp = value.replace(tzinfo=None) if zone else value
        return Ext(_DATETIME, pack([stamp.isoformat(), value.fold, zone]))
    if kind is time and value.tzinfo is None:
        return Ext(_TIME, pack([value.isoformat(), value.fold]))
    write = _WRITE.get(kind)
    if write is not None:
        code, data = write(value, depth - 1)
        return Ext(code, data)
    stand_in = getattr(kind, "__omniq_plain__", None)
    if stand_in is not None:
        return mark(stand_in(value), depth - 1)
    raise Unfit(f"{kind.__module__}.{kind.__qualname__}")


_INT, _DICT, _DATETIME, _TIME = 1, 2, 3, 4
_TUPLE, _SET, _FROZENSET, _BYTEARRAY = 5, 6, 7, 8
_DECIMAL, _UUID, _DATE, _TIMEDELTA, _PATH = 9, 10, 11, 12, 13


def _items(value: Any, depth: int) -> bytes:
    return pack([mark(v, depth) for v in value])


_WRITE: Final[dict[type, Callable[[Any, int], tuple[int, bytes]]]] = {
    tuple: lambda v, depth: (_TUPLE, _items(v, depth)),
    set: lambda v, depth: (_SET, _items(v, depth)),
    frozenset: lambda v, depth: (_FROZENSET, _items(v, depth)),
    bytearray: lambda v, _: (_BYTEARRAY, bytes(v)),
    Decimal: lambda v, _: (_DECIMAL, str(v).encode()),
    UUID: lambda v, _: (_UUID, v.bytes),
    date: lambda v, _: (_DATE, v.isoformat().encode()),
    timedelta: lambda v, _: (_TIMEDELTA, pack([v.days, v.seconds, v.microseconds])),
    PATH: lambda v, _: (_PATH, str(v).encode()),
}


def _datetime(data: memoryview) -> datetime:
    text, fold, zone = _any(data)
    stamp = datetime.fromisoformat(text).replace(fold=fold)
    return stamp.replace(tzinfo=ZoneInfo(zone)) if zone else stamp


def _time(data: memoryview) -> time:
    text, fold = _any(data)
    return time.fromisoformat(text).replace(fold=fold)


_READ: Final[dict[int, Callable[[memoryview], Any]]] = {
    _INT: lambda d: int.from_bytes(d, "big", signed=True),
    _DICT: lambda d: dict(_any(d)),
    _DATETIME: _datetime,
    _TIME: _time,
    _TUPLE: lambda d: tuple(_any(d)),
    _SET: lambda d: set(_any(d)),
    _FROZENSET: lambda d: frozenset(_any(d)),
    _BYTEARRAY: bytearray,
    _DECIMAL: lambda d: Decimal(str(d, "utf-8")),
    _UUID: lambda d: UUID(bytes=bytes(d)),
    _DATE: lambda d: date.fromisoformat(str(d, "utf-8")),
    _TIMEDELTA: lambda d: timedelta(*_any(d)),
    _PATH: lambda d: Path(str(d, "utf-8")),
}


def _read(code: int, data: memoryview) -> Any:
    read = _READ.get(code)
    if read is None:
        raise ValueError(f"unknown mark {code}: written by a newer version of OmniQ?")
    return read(data)


_any: Final[Callable[[bytes | memoryview], Any]] = Decoder(ext_hook=_read).decode
unpack_call: Final = Decoder(tuple[tuple[Any, ...], dict[str, Any]], ext_hook=_read).decode
"""(args, kwargs) out of msgpack, shape checked."""
