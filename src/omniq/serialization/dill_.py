"""The fallback: dill, always signed, imported only when it is needed.

Loading a pickle runs code, so nothing here reaches dill before the signature over the bytes,
and over everything they are bound to, was found good.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from omniq.errors import CorruptPayload, NotSerializable, UntrustedPayload
from omniq.serialization.base import DILL, Binding

if TYPE_CHECKING:
    from omniq.serialization.signing import KeyRing


class DillSerializer:
    """Any value dill takes <-> signed bytes. Without keys it refuses both ways."""

    __slots__ = ("keys",)
    name: Final = "dill"

    def __init__(self, keys: KeyRing | None) -> None:
        self.keys = keys

    def encode(self, value: Any, binding: Binding, *, tag: int = DILL, path: str = "") -> bytes:
        """`value` in its envelope. NotSerializable says which part of `value` is at fault.

        `path` is what `value` is called in that message.
        """
        path = path or binding.field
        if self.keys is None:
            culprit, at = _needs_dill(value, path)
            raise NotSerializable(
                f"{at} ({_type_name(culprit)}) can only travel by dill, and this queue's place "
                "is not on one machine, so dill needs a key that all processes share: set "
                "OMNIQ_SIGNING_KEYS=key-id:<secret of 32 bytes or more>, or pass plain values "
                "and functions of a module",
                path=at,
            )
        from omniq.serialization import _dill

        try:
            data = _dill.dump(value)
        except Exception as error:
            culprit, at = _culprit(value, path)
            if (why := _why(culprit, at, error)) is not None:
                raise NotSerializable(why, path=at) from None
            raise NotSerializable(
                f"{at} ({_type_name(culprit)}) cannot be serialized: "
                f"{type(error).__name__}: {error}",
                path=at,
            ) from error
        return bytes((tag,)) + self.keys.sign(tag, binding, data) + data

    def decode(self, payload: bytes, binding: Binding) -> Any:
        """The value of an envelope whose signature is good."""
        if self.keys is None:
            raise UntrustedPayload(
                f"the {binding.field} of task {binding.task_id} were written by dill, and this "
                "process has no key to trust them by: set OMNIQ_SIGNING_KEYS to the keys of the "
                "process that enqueued it"
            )
        data = self.keys.verify(payload, binding)
        from omniq.serialization import _dill

        try:
            return _dill.load(data)
        except Exception as error:
            raise CorruptPayload(
                f"the {binding.field} of task {binding.task_id} are signed, but cannot be opened "
                f"here: {type(error).__name__}: {error}"
            ) from error


def _type_name(value: object) -> str:
    kind = type(value)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def _why(culprit: Any, path: str, error: Exception) -> str | None:
    """All there is to say of a refusal; None: only dill's own error tells what is wrong."""
    from omniq.serialization._dill import Refused

    kind = _type_name(culprit)
    if kind == "coroutine":
        return f"{path} is a coroutine: await it and pass what it gives, or pass the function"
    if kind in ("generator", "async_generator"):
        return f"{path} is a generator: pass a list of its items"
    if isinstance(error, RecursionError):
        return f"{path} is nested too deeply to be serialized"
    if isinstance(error, Refused):
        return (
            f"{path} ({kind}) belongs to this process (it holds a {error}) and cannot travel: "
            "pass what is needed to make it again, a path or an address for example"
        )
    return None


def _children(value: Any, path: str) -> list[tuple[Any, str]]:
    """The parts of a value, with the names a person would give them."""
    if isinstance(value, Mapping):
        return [(v, f"{path}[{_key(k)}]") for k, v in value.items()]
    if isinstance(value, list | tuple | set | frozenset):
        return [(v, f"{path}[{n}]") for n, v in enumerate(value)]
    found = [(v, f"{path}.{name}") for name, v in getattr(value, "__dict__", {}).items()]
    code, cells = getattr(value, "__code__", None), getattr(value, "__closure__", None)
    if code is not None and cells:
        for name, cell in zip(code.co_freevars, cells, strict=False):
            try:
                found.append((cell.cell_contents, f"{path}.{name}"))
            except ValueError:
                continue  # a cell that is not filled yet
    return found


def _key(key: object) -> str:
    return repr(key) if type(key) in (str, int) else f"<{type(key).__name__}>"


def _culprit(value: Any, path: str, depth: int = 6) -> tuple[Any, str]:
    """The deepest part that dill does not take; called only when the whole has failed."""
    from omniq.serialization import _dill

    if depth and not isinstance(value, _dill.REFUSED):
        for part, at in _children(value, path)[:1000]:
            try:
                _dill.dump(part)
            except Exception:
                return _culprit(part, at, depth - 1)
    return value, path


def _needs_dill(value: Any, path: str, depth: int = 6) -> tuple[Any, str]:
    """The deepest part that msgpack does not take."""
    from omniq.serialization.detector import is_rich

    if depth and isinstance(value, dict | list | tuple | set | frozenset):
        for part, at in _children(value, path)[:1000]:
            if not is_rich(part):
                return _needs_dill(part, at, depth - 1)
    return value, path
