"""Levels of the `omniq` loggers. The root logger and its handlers are the program's own.

No handler is set here, not even one that drops what it gets: where a program has set none, Python
itself writes warnings to standard error, and nobody should miss those.
"""

from __future__ import annotations

import logging
from typing import Final

from omniq.config.options import BY_PATH
from omniq.models.config import LogConfig

ROOT: Final = "omniq"
_SILENT: Final = logging.CRITICAL + 10


class LoggingConfig:
    """Applies log levels, at start and while running.

    A level that the program set on the `omniq` logger itself is left alone by `apply` as long
    as the configuration only holds the default.
    """

    __slots__ = ("_touched", "config")

    def __init__(self, config: LogConfig | None = None) -> None:
        self.config = config or LogConfig()
        self._touched: set[str] = set()

    def apply(self) -> None:
        """Make the loggers as the configuration says."""
        root = logging.getLogger(ROOT)
        default = self.config == LogConfig() and ROOT not in self._touched
        if not (default and root.level != logging.NOTSET):
            self._set(ROOT, _SILENT if self.config.disabled else self.config.level)
        wanted = {} if self.config.disabled else self.config.components
        for name in self._touched - {ROOT} - {_full(n) for n in wanted}:
            logging.getLogger(name).setLevel(logging.NOTSET)
        self._touched &= {ROOT}
        for name, level in wanted.items():
            self._set(_full(name), level)

    def set_level(self, level: str, component: str | None = None) -> None:
        """Change the level of everything, or of one component (`storage`, `workers` ...)."""
        if component is None:
            level = BY_PATH["logging.level"].read(level, "log_level")
            self.config = LogConfig(level=level, components=self.config.components)
        else:
            levels = {**self.config.components, component: level}
            levels = BY_PATH["logging.components"].read(levels, "component_log_levels")
            self.config = LogConfig(
                level=self.config.level, disabled=self.config.disabled, components=levels
            )
        self._touched.add(ROOT)
        self.apply()

    def _set(self, name: str, level: str | int) -> None:
        self._touched.add(name)
        logging.getLogger(name).setLevel(level)


def _full(component: str) -> str:
    """The logger of a component: `storage` and `omniq.storage` are the same."""
    return (
        component
        if component == ROOT or component.startswith(f"{ROOT}.")
        else f"{ROOT}.{component}"
    )
