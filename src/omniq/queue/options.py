"""What a function says about itself once, in `@task(...)`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import msgspec
from msgspec import UNSET, Struct, UnsetType

from omniq.errors import ConfigError, UnknownOption
from omniq.models.task import RetryPolicy, Seconds, WorkerKind


class TaskOptions(Struct, frozen=True, kw_only=True):
    """Defaults of one function; what is left out follows the queue's configuration."""

    queue: str | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    ttl: Seconds | UnsetType | None = UNSET
    timeout: Seconds | UnsetType | None = UNSET
    result_ttl: Seconds | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    worker: WorkerKind | UnsetType = UNSET
    retries: int | UnsetType = UNSET
    retry_delay: float | UnsetType = UNSET
    retry_on: tuple[str, ...] = ()
    """Dotted names of the exceptions worth a retry; empty: all."""
    never_retry: tuple[str, ...] = ()

    @classmethod
    def checked(cls, given: dict[str, Any]) -> Self:
        """The options of a decorator; raises UnknownOption for a name nobody knows."""
        known = [field.name for field in msgspec.structs.fields(cls)]
        for name in given:
            if name not in known:
                raise UnknownOption(name, known, where="@task(...)")
        return cls(**given)

    def retry_policy(self, base: RetryPolicy) -> RetryPolicy | None:
        """The function's own policy on top of `base`, or None if it says nothing."""
        changes: dict[str, Any] = {}
        if not isinstance(self.retries, UnsetType):
            changes["retries"] = self.retries
        if not isinstance(self.retry_delay, UnsetType):
            changes["delay"] = self.retry_delay
        if self.retry_on:
            changes["only"] = self.retry_on
        if self.never_retry:
            changes["never"] = self.never_retry
        return msgspec.structs.replace(base, **changes) if changes else None


def exception_names(classes: Any, *, option: str) -> tuple[str, ...]:
    """Exception classes, or their names, as the dotted names that rules match."""
    if isinstance(classes, str | type) or not isinstance(classes, Iterable):
        classes = (classes,)
    names: list[str] = []
    for cls in classes:
        if isinstance(cls, str):
            names.append(cls)
        elif isinstance(cls, type) and issubclass(cls, BaseException):
            plain = cls.__module__ in ("builtins", "__main__")
            names.append(cls.__qualname__ if plain else f"{cls.__module__}.{cls.__qualname__}")
        else:
            raise ConfigError(f"{option}={cls!r}: give exception classes or their dotted names")
    return tuple(names)
