"""One configuration out of four places: code, then environment, then file or dict, then constants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, structs

from omniq.config.env import EnvConfig
from omniq.config.options import BY_NAME, BY_PATH, OPTIONS, SECTIONS
from omniq.errors import ConfigError, UnknownOption
from omniq.models.config import (
    DashboardConfig,
    EventConfig,
    LogConfig,
    OmniQConfig,
    RetentionConfig,
    StorageConfig,
    TaskDefaults,
    WorkerConfig,
)

_PLACES: Final = ("storage", "task_queue", "result_storage", "event_storage")
_STRUCTS: Final[dict[str, type[Struct]]] = {
    "storage": StorageConfig,
    "task_queue": StorageConfig,
    "result_storage": StorageConfig,
    "event_storage": StorageConfig,
    "tasks": TaskDefaults,
    "worker": WorkerConfig,
    "events": EventConfig,
    "retention": RetentionConfig,
    "dashboard": DashboardConfig,
    "logging": LogConfig,
}

Values = dict[str, Any]
"""Path in the configuration -> value."""


def load_config(
    source: OmniQConfig | Mapping[str, Any] | str | Path | None = None, **options: Any
) -> OmniQConfig:
    """The configuration that holds: options, environment, `source`, constants, in this order.

    `source` is a mapping or the path of a YAML file; its keys are the names of options, or
    sections as in OmniQConfig. A finished OmniQConfig is code, so the environment does not
    change it, options still do.
    """
    values = {option.path: option.default for option in OPTIONS}
    if isinstance(source, OmniQConfig):
        _lay(values, _checked(source))
    else:
        if source is not None:
            _lay(values, _read_source(source))
        _lay(values, EnvConfig().values())
    _lay(values, _read_flat(options, where="the configuration"))
    return check_config(_build(values))


def check_config(config: OmniQConfig) -> OmniQConfig:
    """Give the configuration back if its parts fit together, else raise ConfigError."""
    place = config.task_queue or config.storage
    if not config.worker.embedded and is_memory(place):
        raise ConfigError(
            "a memory queue cannot have an external worker: memory belongs to one process, so "
            "the worker would poll an empty queue forever. Either keep the worker in this "
            "process (embedded=True), or keep tasks where both processes find them "
            "(storage_type='sqlite')"
        )
    return config


def is_memory(place: StorageConfig) -> bool:
    """Whether this place ends with the process."""
    if place.url is not None:
        return place.url.partition(":")[0].lower() == "memory"
    return place.type == "memory"


def _lay(values: Values, layer: Values) -> None:
    """Put a layer over what is there. A type said later sets an earlier URL aside."""
    for place in _PLACES:
        if layer.get(f"{place}.type") is not None:
            for other in ("url", "obstore_uri"):
                if f"{place}.{other}" in values:
                    values[f"{place}.{other}"] = None
    uri = layer.get("storage.obstore_uri")
    if uri is not None and not layer.get("storage.type") and not layer.get("storage.url"):
        values |= {"storage.type": "file", "storage.url": None}
    values |= layer


def _read_source(source: Mapping[str, Any] | str | Path) -> Values:
    if isinstance(source, Mapping):
        return _read_tree(source, where="the configuration")
    if not isinstance(source, str | Path):
        raise ConfigError(
            "a configuration is an OmniQConfig, a mapping of options or the path of a YAML file, "
            f"not {type(source).__name__}"
        )
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigError(f"configuration file {str(path)!r} cannot be read: {reason}") from error
    import yaml  # costs as much as the rest of this room, and few read a file

    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise ConfigError(f"configuration file {str(path)!r}{line}: {problem}") from None
    if tree is None:
        return {}
    if not isinstance(tree, Mapping):
        raise ConfigError(
            f"configuration file {str(path)!r} holds a {type(tree).__name__}: it takes a mapping "
            "of options, for example `storage_type: sqlite`"
        )
    return _read_tree(tree, where=f"configuration file {str(path)!r}")


def _read_tree(tree: Mapping[str, Any], *, where: str) -> Values:
    """A mapping whose keys are options or sections; a section may be a struct already."""
    flat: Values = {}
    found: Values = {}
    for key, value in tree.items():
        if key not in SECTIONS:
            flat[key] = value
        elif key in _PLACES and isinstance(value, str):
            name = f"{key}.url" if "://" in value else f"{key}.type"
            found[name] = BY_PATH[name].read(value, key)
        elif isinstance(value, _STRUCTS[key]):
            found |= _paths(structs.asdict(value), f"{key}.")
        elif isinstance(value, Mapping):
            found |= _read_section(key, value, where)
        elif value is not None:
            raise ConfigError(
                f"{where}: section {key!r} takes a mapping of options, not {type(value).__name__}"
            )
    return _read_flat(flat, where=where, more=SECTIONS) | found


def _read_section(section: str, values: Mapping[str, Any], where: str) -> Values:
    fields = _STRUCTS[section].__struct_fields__
    for key in values:
        if key not in fields:
            raise UnknownOption(str(key), fields, where=f"{where}, section {section!r},")
    return _paths(values, f"{section}.")


def _read_flat(values: Mapping[str, Any], *, where: str, more: Iterable[str] = ()) -> Values:
    found = {}
    for name, value in values.items():
        option = BY_NAME.get(name)
        if option is None:
            raise UnknownOption(str(name), [*BY_NAME, *more], where=where)
        found[option.path] = option.read(value, name)
    return found


def _paths(values: Mapping[str, Any], prefix: str) -> Values:
    """Fields of a section by path, read where the table has them, else taken as they are."""
    return {
        f"{prefix}{key}": (
            BY_PATH[f"{prefix}{key}"].read(value, f"{prefix}{key}")
            if f"{prefix}{key}" in BY_PATH
            else value
        )
        for key, value in values.items()
    }


def _checked(config: OmniQConfig) -> Values:
    """The values of a finished configuration, each checked as if it were given alone."""
    found: Values = {}
    for key, value in structs.asdict(config).items():
        if key in SECTIONS:
            found |= {} if value is None else _paths(structs.asdict(value), f"{key}.")
        else:
            found |= _paths({key: value}, "")
    return found


def _build(values: Values) -> OmniQConfig:
    top: Values = {}
    sections: dict[str, Values] = {name: {} for name in _STRUCTS}
    for path, value in values.items():
        section, dot, key = path.partition(".")
        if dot:
            sections[section][key] = value
        else:
            top[section] = value
    for name, fields in sections.items():
        if name in _PLACES[1:]:
            if fields.get("type") is None and fields.get("url") is None:
                continue  # this role is kept with everything else
            fields["type"] = fields.get("type") or _scheme(fields["url"])
        elif name == "storage" and fields["url"] is not None:
            fields["type"] = _scheme(fields["url"])
        top[name] = _STRUCTS[name](**fields)
    return OmniQConfig(**top)


_SCHEMES: Final = {"postgresql": "postgres", "rediss": "redis", "tls": "nats", "valkey": "redis"}


def _scheme(url: str) -> str:
    """The storage type a URL means (its scheme, without a driver's name)."""
    scheme = url.partition(":")[0].partition("+")[0].lower()
    if scheme in ("s3", "gs", "gcs", "az", "abfs", "azure"):
        return "file"
    return _SCHEMES.get(scheme, scheme)
