"""The one room that imports dill; itself imported only when dill is really needed.

(dill tells its own picklers from others by the word "dill" in the module's name.)

What the script itself defines (`__main__`) is written twice if it is met: as references,
so that the same script gets its own classes and globals back, and by value for any other
process. Which half is read is decided by the home both were written in.
"""

from __future__ import annotations

import io
import socket
from threading import Lock, RLock
from types import (
    AsyncGeneratorType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    TracebackType,
)
from typing import Any, Final

import dill

from omniq.serialization.names import MAIN, lookup, main_home

REFUSED: Final = (
    CoroutineType,
    GeneratorType,
    AsyncGeneratorType,
    FrameType,
    TracebackType,
    io.IOBase,
    socket.socket,
    type(Lock()),
    type(RLock()),
)
"""Bound to this process. dill would take some of them and make something else of them."""

_PROTOCOL: Final = 5


class Refused(TypeError):
    """A value that lives in this process only was met on the way."""

    def __init__(self, value: object) -> None:
        self.value = value
        super().__init__(type(value).__name__)


class _Pickler(dill.Pickler):  # type: ignore[misc]
    """Refuses what is bound to this process; writes `__main__` as asked."""

    def __init__(self, file: io.BytesIO, *, as_reference: bool) -> None:
        super().__init__(file, protocol=_PROTOCOL)
        self.as_reference, self.met_main = as_reference, False

    def persistent_id(self, obj: Any) -> str | None:
        if isinstance(obj, REFUSED) and not isinstance(obj, io.BytesIO | io.StringIO):
            raise Refused(obj)
        if type(obj) is not FunctionType and not isinstance(obj, type):
            return None
        of_main = obj.__module__ in MAIN
        # By value, a script's function takes the globals it uses along, and only those;
        # one of an importable module finds that module's globals by importing it.
        self._recurse = of_main and not self.as_reference
        if of_main:
            self.met_main = True
            if self.as_reference and lookup(obj.__module__, obj.__qualname__) is obj:
                return str(obj.__qualname__)
        return None


class _Unpickler(dill.Unpickler):  # type: ignore[misc]
    def persistent_load(self, qualname: str) -> Any:
        found = lookup("__main__", qualname)
        if found is None:
            raise AttributeError(f"this script no longer defines {qualname!r}")
        return found


def dump(value: Any) -> bytes:
    """`value` as bytes. Raises Refused, or whatever stops dill."""
    data, met_main = _dump(value, as_reference=True)
    if not met_main:
        return dill_dumps((None, data, b""))
    try:
        copy, _ = _dump(value, as_reference=False)
    except Exception:  # its globals cannot travel: only this script can open it again
        copy = b""
    return dill_dumps((main_home(), data, copy))


def load(data: bytes | memoryview) -> Any:
    """The value again. The bytes' signature must have been verified: this runs code."""
    home, reference, copy = _load(data)
    if home is None or home == main_home():
        return _load(reference)
    if not copy:
        raise AttributeError(f"it uses what only {home} has")
    return _load(copy)


def _dump(value: Any, *, as_reference: bool) -> tuple[bytes, bool]:
    file = io.BytesIO()
    pickler = _Pickler(file, as_reference=as_reference)
    pickler.dump(value)
    return file.getvalue(), pickler.met_main


def dill_dumps(value: Any) -> bytes:
    """Plain dill, for the small tuple around the halves."""
    return bytes(dill.dumps(value, protocol=_PROTOCOL))


def _load(data: bytes | memoryview) -> Any:
    return _Unpickler(io.BytesIO(data), ignore=True).load()
