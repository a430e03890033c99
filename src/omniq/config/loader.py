"""One configuration out of four places: code, then environment, then file or dict, then constants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, structs

from omniq.config.env import EnvConfig
from omniq.config.options import BY_NAME, BY_PATH, OPTIONS, SECTIONS
from omniq.config.places import EVENTS_ONLY, type_of
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
    layers: list[Values] = []
    if isinstance(source, OmniQConfig):
        layers.append(_checked(source))
    else:
        if source is not None:
            layers.append(_read_source(source))
        layers.append(EnvConfig().values())
    layers.append(_read_flat(options, where="the configuration"))
    for layer in layers:
        _lay(values, layer)
    if any(_says_where(layer) for layer in layers):
        _keep_the_rest(values)
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
        return place.url.lower().startswith("memory:") and place.type != "file"
    return place.type == "memory"


def _lay(values: Values, layer: Values) -> None:
    """Put a layer over what is there. What it says of a place sets an earlier place aside.

    A type alone keeps the earlier URL if that is of this type: code says what, the environment
    says where.
    """
    for place in _PLACES:
        said, url, uri = (layer.get(f"{place}.{key}") for key in ("type", "url", "obstore_uri"))
        if not (url or uri) and said == values.get(f"{place}.type"):
            continue
        if said or url or uri:
            values |= {f"{place}.url": None, f"{place}.obstore_uri": None}
            layer = layer | {f"{place}.type": _kind(place, said, url, uri)}
    values |= layer


def _kind(place: str, said: str | None, url: str | None, uri: str | None) -> str:
    """The one type that type, URL and obstore's URI mean together."""
    label = _label(f"{place}.url")
    if uri is not None:
        if url is not None:
            other = _label(f"{place}.obstore_uri")
            raise ConfigError(f"{label} and {other} name two places: leave one out")
        if said not in (None, "file"):
            raise ConfigError(
                f"{_label(f'{place}.obstore_uri')} means the type 'file', but the type said with "
                f"it is {said!r}: leave one of the two out"
            )
        return "file"
    if url is not None:
        said = type_of(url, said, label=label)
    assert said is not None
    if said in EVENTS_ONLY and place != "event_storage":
        raise ConfigError(
            f"{_label(f'{place}.type')}: {said!r} keeps events only, so it can be the "
            "event_storage_type and nothing else"
        )
    return said


def _says_where(layer: Values) -> bool:
    return any(layer.get(f"storage.{key}") for key in ("type", "url", "obstore_uri"))


def _keep_the_rest(values: Values) -> None:
    """Where tasks have a place of their own, results and events are kept where `storage` says.

    If that says nothing they are kept with the tasks, not in its default.
    """
    if values["task_queue.type"] is None:
        return
    for role in ("result_storage", "event_storage"):
        if values[f"{role}.type"] is None:
            values |= {
                f"{role}.{key}": values[f"storage.{key}"] for key in StorageConfig.__struct_fields__
            }


def _label(path: str) -> str:
    option = BY_PATH.get(path)
    return f"{option.name} ({option.variable})" if option else path


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
            found |= _paths(_said(value), f"{key}.")
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
            if value is not None and (key != "storage" or value != StorageConfig()):
                found |= _paths(_said(value), f"{key}.")
        else:
            found |= _paths({key: value}, "")
    return found


def _said(section: Struct) -> Values:
    """The fields of a section. The type of a place is not said where the URL says it."""
    fields = structs.asdict(section)
    if (
        isinstance(section, StorageConfig)
        and (section.url or section.obstore_uri)
        and section.type == StorageConfig().type
    ):
        del fields["type"]
    return fields


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
        if name in _PLACES and fields.get("type") is None:
            if fields.get("options"):
                raise ConfigError(
                    f"section {name!r} has options and no place: say its type or url, or put the "
                    "options where the place is said"
                )
            continue  # this role is kept with everything else
        top[name] = _STRUCTS[name](**fields)
    return OmniQConfig(**top)
