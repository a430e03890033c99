"""Functions and classes with a home, and a binding, for the tests next to this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omniq.serialization import Binding, KeyRing

BINDING = Binding("default", "emails", "0190f3c0-0000-7000-8000-000000000000", "args", "app:f")
RESULT = BINDING._replace(field="result", epoch=3)
SECRET = b"0123456789abcdef0123456789abcdef"
OTHER = b"fedcba9876543210fedcba9876543210"


def keys(*pairs: tuple[str, bytes]) -> KeyRing:
    return KeyRing(pairs or [("k1", SECRET)])


@dataclass
class Point:
    x: int
    y: int


class Holder:
    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)

    inner: Any = None

    def method(self) -> str:
        return "called"

    @classmethod
    def build(cls) -> str:
        return cls.__name__


class Caller:
    def __call__(self, x: int) -> int:
        return x * 2


class Loud:
    """Its repr must never be run by anything that only shows it."""

    def __repr__(self) -> str:
        raise AssertionError("repr() of a foreign object was called")

    __str__ = __repr__


class Handle(str):
    """A str that holds more than its text, as a task handle does."""

    def __omniq_plain__(self) -> str:
        return str.__str__(self)


def add(x: int, y: int) -> int:
    return x + y


def opened() -> None:
    """What a hostile pickle would call."""
    raise AssertionError("an unverified payload was loaded")
