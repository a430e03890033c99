"""The configuration in force, for whoever asks, with the few things that may change meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import structs

from omniq.config.loader import load_config
from omniq.config.logging import LoggingConfig
from omniq.config.masking import HIDDEN, mask_url
from omniq.config.options import BY_NAME, BY_PATH, OPTIONS, Option
from omniq.errors import ConfigError, UnknownOption
from omniq.models.config import OmniQConfig

CHANGEABLE: Final = frozenset(
    {"logging.level", "logging.disabled", "logging.components", "events.level"}
)
"""What may change while running; the rest is wired into open connections and workers."""

Listener = Callable[[str, Any], None]


class ConfigProvider:
    """Holds the configuration in force. Names are options (`lease`) or paths (`worker.lease`)."""

    __slots__ = ("_listeners", "_logging", "config")

    def __init__(
        self, source: OmniQConfig | Mapping[str, Any] | str | None = None, **options: Any
    ) -> None:
        self.config = load_config(source, **options)
        self._logging = LoggingConfig(self.config.logging)
        self._listeners: list[Listener] = []

    def get(self, name: str) -> Any:
        """The value in force. UnknownOption if there is no such name."""
        return self._value(_option(name))

    def set(self, name: str, value: Any) -> None:
        """Change a value while running and tell the listeners; only some can (see CHANGEABLE)."""
        option = _option(name)
        if option.path not in CHANGEABLE:
            can = ", ".join(sorted(o.name for o in OPTIONS if o.path in CHANGEABLE))
            raise ConfigError(
                f"{option.name} cannot change while running: set it before the start "
                f"(these can: {can})"
            )
        value = option.read(value, name)
        section, _, key = option.path.partition(".")
        part = structs.replace(getattr(self.config, section), **{key: value})
        self.config = structs.replace(self.config, **{section: part})
        if section == "logging":
            self.apply_logging()
        for listener in tuple(self._listeners):
            listener(option.path, value)

    def apply_logging(self) -> None:
        """Give the `omniq` loggers the levels in force."""
        self._logging.config = self.config.logging
        self._logging.apply()

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(path, value)` after each change; the answer ends that."""
        self._listeners.append(listener)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def describe(self) -> dict[str, Any]:
        """Every option and its value, secrets masked: safe to log and to show."""
        return {option.name: _shown(option, self._value(option)) for option in OPTIONS}

    def _value(self, option: Option) -> Any:
        value: Any = self.config
        for part in option.path.split("."):
            value = getattr(value, part)
            if value is None:
                break
        return value


def _option(name: str) -> Option:
    option = BY_NAME.get(name) or BY_PATH.get(name)
    if option is None:
        raise UnknownOption(name, [*BY_NAME, *BY_PATH], where="the configuration")
    return option


def _shown(option: Option, value: Any) -> Any:
    if not option.kind.secret or not value:
        return value
    if option.name == "signing_keys":
        return tuple((kid, HIDDEN) for kid, _ in value)
    if isinstance(value, dict):
        return dict.fromkeys(value, HIDDEN)
    return mask_url(value) if "://" in value else HIDDEN
