"""Where a function is at home, and how it is found there again."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

MAIN: Final = frozenset({"__main__", "__mp_main__"})

_SESSION: Final = f"__main__@{secrets.token_hex(6)}"
"""The home of what was typed in or given with -c: nothing outside this process finds it."""


def main_home() -> str:
    """The name under which this process's `__main__` is known to others.

    A module started with -m has its own name, a script its resolved path (two scripts in one
    directory stay apart), an interactive session a name that ends with the process.
    """
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name not in MAIN:
        return str(spec.name)
    file: str | None = getattr(main, "__file__", None)
    if file is None or (file.startswith("<") and file.endswith(">")):
        return _SESSION
    # A path that is not text could not be stored as a name.
    return os.path.realpath(file).encode("utf-8", "backslashreplace").decode()


def home_of(module: str) -> str:
    """The first half of a function's name: its module, or what stands for `__main__`."""
    return main_home() if module in MAIN else module


def is_script(home: str) -> bool:
    """Whether a home is the path of a script (a module's name has no separator)."""
    return "/" in home or "\\" in home


def is_session(home: str) -> bool:
    """Whether a home is an interactive session, of this process or another."""
    return home.startswith("__main__@")


def script_name(home: str) -> str:
    """A script's path, short enough for a message."""
    return Path(home).name


def find(module: ModuleType, qualname: str) -> Any:
    """What `qualname` is in `module`, or None. Walks through classes only, never modules."""
    found: Any = module
    for part in qualname.split("."):
        if found is not module and not isinstance(found, type):
            return None
        found = found.__dict__.get(part) if found is module else getattr(found, part, None)
        if found is None:
            return None
    return found


def lookup(module: str, qualname: str) -> Any:
    """What stands under this name in a module that is loaded, or None."""
    loaded = sys.modules.get(module)
    return None if loaded is None else find(loaded, qualname)
