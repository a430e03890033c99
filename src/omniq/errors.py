"""Every error OmniQ raises, in one tree.

OmniQError
├── ConfigError                 a setting, an environment value, a file
│   └── UnknownOption           (also TypeError) with "did you mean"
├── InvalidTask                 (also ValueError) refused before anything is stored
│   ├── InvalidName             a queue, worker or tag name
│   ├── PayloadTooLarge         over the limit
│   └── FunctionNotFound        (also LookupError) cannot be found again by its name
├── SerializationError
│   ├── NotSerializable         (also TypeError) names the argument
│   ├── UntrustedPayload        missing, wrong or unknown signature
│   └── CorruptPayload          bytes that are not what their tag says
├── TaskError                   what became of a task, told to whoever waits
│   ├── TaskNotFound            (also LookupError)
│   ├── TaskFailed              the remote error as data: type, message, traceback
│   ├── TaskCancelled
│   ├── TaskExpired
│   ├── ResultExpired           the task ended, its result is past its TTL
│   └── ResultTimeout           (also TimeoutError) not yet ended
├── DuplicateTask               a unique key that another task holds
├── StorageError                the place refused or failed
│   ├── StorageUnavailable      (also ConnectionError) may go through later
│   ├── StorageClosed
│   └── SchemaError             made by another version
├── LeaseLost                   this worker's claim was taken over
├── SyncInAsync                 (also RuntimeError) a blocking call inside a running loop
├── NotStarted                  (also RuntimeError) used before its app was started
└── TaskSignal                  raised *by* a task to say what should happen next
    ├── Retry
    └── Snooze
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


_CENTURY = 3.2e9


class OmniQError(Exception):
    """The root: `except OmniQError` catches everything the library raises on purpose."""


class ConfigError(OmniQError):
    """A setting is unknown, impossible or does not fit another one."""


class UnknownOption(ConfigError, TypeError):
    """An option name nobody knows.

    `name` is what was given, `known` what would have been accepted.
    """

    def __init__(self, name: str, known: Iterable[str], *, where: str) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(f"{where} has no option {name!r}{did_you_mean(name, self.known)}")


class InvalidTask(OmniQError, ValueError):
    """The task cannot be accepted as it is; it was not stored.

    `stored`, from `enqueue_many`: the ids of the tasks sent with it, None for those refused.
    """

    stored: tuple[str | None, ...] = ()


class InvalidName(InvalidTask):
    """A name outside `[A-Za-z0-9_-]`, empty, or longer than 64 characters."""


class PayloadTooLarge(InvalidTask):
    """Arguments or a result larger than the limit. `size` and `limit` are bytes."""

    def __init__(self, message: str, *, size: int, limit: int) -> None:
        self.size, self.limit = size, limit
        super().__init__(message)


class FunctionNotFound(InvalidTask, LookupError):
    """A function that no worker could find again by its name."""


class SerializationError(OmniQError):
    """A value could not be turned into bytes or back."""


class NotSerializable(SerializationError, TypeError):
    """A value no serializer takes. `path` names it: `args[0]`, `kwargs['user']`, `result`."""

    def __init__(self, message: str, *, path: str) -> None:
        self.path = path
        super().__init__(message)


class UntrustedPayload(SerializationError):
    """Bytes that would run code when decoded carry no signature this process trusts."""


class CorruptPayload(SerializationError):
    """Bytes are not what their tag says they are."""


class TaskError(OmniQError):
    """Something became of a task. `task_id` says which."""

    def __init__(self, message: str, *, task_id: str) -> None:
        self.task_id = task_id
        super().__init__(message)


class TaskNotFound(TaskError, LookupError):
    """No task has this id, or it was removed after its retention."""


class TaskFailed(TaskError):
    """The task ended in an error. The remote exception is data, it is never re-created.

    `type` is the exception's dotted name, `remote_message` its text, `remote_traceback`
    the worker's traceback as text, `attempts` how often it was tried.
    """

    def __init__(
        self,
        task_id: str,
        *,
        type: str,
        remote_message: str,
        remote_traceback: str = "",
        attempts: int = 1,
    ) -> None:
        self.type, self.remote_message = type, remote_message
        self.remote_traceback, self.attempts = remote_traceback, attempts
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        super().__init__(f"{type}: {remote_message} (after {tries})", task_id=task_id)


class TaskCancelled(TaskError):
    """The task was cancelled before it could finish."""


class TaskExpired(TaskError):
    """The task's TTL passed before any worker started it."""


class ResultExpired(TaskError):
    """The task ended well, but its result is past its TTL."""


class ResultTimeout(TaskError, TimeoutError):
    """The task has not ended within the time given; it goes on."""


class DuplicateTask(OmniQError):
    """A unique key is held by another task. `holder` is that task's id.

    `stored`, from `enqueue_many`: the ids of the tasks sent with it, None for those refused.
    """

    stored: tuple[str | None, ...] = ()

    def __init__(self, message: str, *, key: str, holder: str) -> None:
        self.key, self.holder = key, holder
        super().__init__(message)


class StorageError(OmniQError):
    """The place where tasks are kept refused or failed."""


class StorageUnavailable(StorageError, ConnectionError):
    """The place does not answer; the same call may go through later."""


class StorageClosed(StorageError):
    """A storage is used before `open()` or after `close()`."""


class SchemaError(StorageError):
    """The stored schema was made by a version this one cannot work with."""


class LeaseLost(OmniQError):
    """The task was handed to another worker; what this one writes is refused."""


class SyncInAsync(OmniQError, RuntimeError):
    """A blocking call was made where an event loop is running."""


class NotStarted(OmniQError, RuntimeError):
    """A queue was asked for before the app that owns it was started."""


class TaskSignal(OmniQError):
    """Raised inside a task to say what should happen to it next."""


class Retry(TaskSignal):
    """Try again, even where the retry rules would not. `delay` in seconds; None: by the rules."""

    def __init__(self, message: str = "retry asked by the task", *, delay: float | None = None):
        if delay is not None and not 0 <= delay < _CENTURY:
            raise ValueError(f"Retry(delay={delay}): seconds, not negative nor over a century")
        self.delay = delay
        super().__init__(message)


class Snooze(TaskSignal):
    """Run again later without counting this attempt. `delay` in seconds."""

    def __init__(self, delay: float) -> None:
        if not 0 <= delay < _CENTURY:  # also refuses NaN
            raise ValueError(f"Snooze(delay={delay}): seconds, not negative nor over a century")
        self.delay = delay
        super().__init__(f"snoozed for {delay} s")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known name, or all of them."""
    choices = sorted(known)
    near = get_close_matches(name, choices, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(choices)}" if choices else ""
