"""The environment: every `OMNIQ_*` variable, read with errors that say what to write."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

from omniq.config.options import BY_VARIABLE, OPTIONS, PREFIX, Option
from omniq.errors import did_you_mean

log = logging.getLogger("omniq.config")

_OTHERS = ("OMNIQ_TEST_", "OMNIQ_FAILPOINT")
"""Variables of the test suite: not settings."""

_warned: set[str] = set()
_expected: set[str] = set()


def expect(variables: Iterable[str]) -> None:
    """An adapter reads these variables itself, so they are nothing to warn of."""
    _expected.update(variables)


class EnvConfig:
    """The settings an environment holds. Empty variables count as not set."""

    __slots__ = ("environ",)

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self.environ = os.environ if environ is None else environ

    @staticmethod
    def variables() -> tuple[Option, ...]:
        """The table: each option knows its variable, type, default and meaning."""
        return OPTIONS

    def values(self) -> dict[str, Any]:
        """Path in the configuration -> value. ConfigError names the first wrong variable."""
        self.warn()
        return {
            option.path: option.read(text, variable)
            for variable, option in BY_VARIABLE.items()
            if (text := self.environ.get(variable, "").strip())
        }

    def unknown(self) -> list[str]:
        """Variables with our prefix that nobody reads."""
        return sorted(
            name
            for name in self.environ
            if name.startswith(PREFIX)
            and name not in BY_VARIABLE
            and name not in _expected
            and not name.startswith(_OTHERS)
        )

    def warn(self) -> None:
        """Log each unknown variable once: it may belong to another version, or be misspelt."""
        for name in self.unknown():
            if name not in _warned:
                _warned.add(name)
                near = did_you_mean(name, BY_VARIABLE)
                hint = near if "did you mean" in near else ""
                log.warning("environment variable %s is unknown and has no effect%s", name, hint)
