"""Names of a package that are imported when they are first asked for.

So `import omniq` stays light, a driver is loaded by whoever uses it, and a package can offer
the blocking twin of its class although that is made several floors above.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple


class Lazy(NamedTuple):
    """The three names a package assigns: `__getattr__, __dir__, __all__ = lazy(...)`."""

    get: Callable[[str], Any]
    names: Callable[[], list[str]]
    all: list[str]


def lazy(package: str, homes: Mapping[str, str]) -> Lazy:
    """Offer every name of `homes` from its module; "module:name" if it has another name there."""

    def get(name: str) -> Any:
        home = homes.get(name)
        if home is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, there = home.partition(":")
        value = getattr(import_module(module), there or name)
        setattr(sys.modules[package], name, value)  # asked once only
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *homes})

    return Lazy(get, names, sorted(homes))
