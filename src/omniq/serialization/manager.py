"""The way values take to bytes and back: plain where nothing is lost, else signed dill."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from types import NoneType
from typing import Any

from omniq.errors import CorruptPayload, NotSerializable, PayloadTooLarge, UntrustedPayload
from omniq.models.info import Shown
from omniq.serialization.base import CARRIED, DILL, PLAIN, SIGNED, Binding, Call, Unfit
from omniq.serialization.detector import ATOMS
from omniq.serialization.dill_ import DillSerializer
from omniq.serialization.functions import Ref
from omniq.serialization.msgspec_ import MsgspecSerializer, mark, pack, unpack_call
from omniq.serialization.signing import KeyRing
from omniq.serialization.text import preview, redact

_HALF = 2**63
_PLAIN = bytes((PLAIN,))
_SIGNED = bytes((SIGNED,))


class SerializationManager:
    """Chooses a format for every value and tags the payload with it.

    `keys` sign and verify; without them dill is refused both ways. `limit` is the size in
    bytes above which arguments and results are refused.
    """

    __slots__ = ("_dill", "_msgspec", "keys", "limit")

    def __init__(self, keys: KeyRing | None = None, *, limit: int = 1_048_576) -> None:
        self.keys, self.limit = keys, limit
        self._msgspec = MsgspecSerializer()
        self._dill = DillSerializer(keys)

    def encode_call(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        binding: Binding,
        ref: Ref | None = None,
    ) -> bytes:
        """A call as a payload; `ref` says whether its function's name is signed or it goes along."""
        travel = "name" if ref is None else ref.travel
        if travel == "carried":
            assert ref is not None
            payload = self._carry(ref, args, kwargs, binding)
        else:
            data = self._pack_call(args, kwargs)
            if data is None:
                payload = self._dill_call(args, kwargs, binding)
            elif travel == "signed" and self.keys is not None:
                payload = _SIGNED + self.keys.sign(SIGNED, binding, data) + data
            else:
                payload = _PLAIN + data
        if len(payload) > self.limit:
            raise self._too_large(args, kwargs, len(payload))
        return payload

    def decode_call(self, payload: bytes, binding: Binding) -> Call:
        """A payload's call. Raises UntrustedPayload or CorruptPayload, and opens neither."""
        tag = payload[0] if payload else 0
        if tag == PLAIN:
            args, kwargs = self._unpack_call(payload[1:], binding)
            return Call(args, kwargs)
        if tag == SIGNED:
            if self.keys is None:
                raise UntrustedPayload(
                    f"the arguments of task {binding.task_id} are signed, and this process has no "
                    "keys: set OMNIQ_SIGNING_KEYS to those of the process that enqueued it"
                )
            args, kwargs = self._unpack_call(self.keys.verify(payload, binding), binding)
            return Call(args, kwargs, None, True)
        if tag == DILL:
            args, kwargs = self._dill.decode(payload, binding)
            return Call(args, kwargs, None, True)
        if tag == CARRIED:
            func, args, kwargs = self._dill.decode(payload, binding)
            return Call(args, kwargs, func, True)
        raise _unknown_tag(tag, binding)

    def plain_payload(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], ref: Ref
    ) -> bytes | None:
        """A call by name with plain values, or None: then `encode_call` is the way."""
        if ref.travel != "name" or not ATOMS.issuperset(map(type, args)) or kwargs:
            return None
        try:
            payload = _PLAIN + pack((args, kwargs))
        except (OverflowError, UnicodeEncodeError):
            return None
        return payload if len(payload) <= self.limit else None

    def plain_call(self, payload: bytes) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """A call that needs no trust, or None: then `decode_call` with a binding is the way.

        Most calls are plain, and making a binding costs as much as opening one of them.
        """
        if payload[0] != PLAIN:
            return None
        try:
            return unpack_call(payload[1:])
        except Exception:  # `decode_call` says what is wrong
            return None

    def plain_value(self, value: Any) -> bytes | None:
        """A small plain value as a payload, or None: then `encode_value` is the way."""
        kind = type(value)
        if kind is NoneType or kind is bool or (kind is int and -_HALF <= value < _HALF):
            return _PLAIN + pack(value)
        return None

    def encode_value(self, value: Any, binding: Binding) -> bytes:
        """A value (a result, a progress) as a payload."""
        try:
            payload = _PLAIN + self._msgspec.encode(value)
        except Unfit:
            payload = b""
        if not payload:  # out here, so that a refusal is all that people read of
            payload = self._dill.encode(value, binding)
        if len(payload) > self.limit:
            raise PayloadTooLarge(
                f"the {binding.field} of task {binding.task_id} has {len(payload)} bytes, "
                f"{self.limit} are allowed: keep it elsewhere and return where it is "
                "(the limit is the option max_payload)",
                size=len(payload),
                limit=self.limit,
            )
        return payload

    def decode_value(self, payload: bytes, binding: Binding) -> Any:
        """A payload's value. Raises UntrustedPayload or CorruptPayload, and opens neither."""
        tag = payload[0] if payload else 0
        if tag == PLAIN:
            try:
                return self._msgspec.decode(payload[1:])
            except Exception as error:
                raise _corrupt(binding, error) from error
        if tag == DILL:
            return self._dill.decode(payload, binding)
        raise _unknown_tag(tag, binding)

    def show(self, payload: bytes, *, field: str = "args") -> Shown:
        """A payload for people: plain ones opened (secrets hidden), dill described, not loaded."""
        tag, size = payload[0] if payload else 0, len(payload)
        if tag in (DILL, CARRIED):
            digest = sha256(payload).hexdigest()[:12]
            text = f"dill, {size} bytes, sha256 {digest}…"
            return Shown(format="dill", size=size, opened=False, text=text)
        try:
            data = payload[1:] if tag == PLAIN else _unsigned(payload)
            if field == "args":
                args, kwargs = unpack_call(data)
                value: Any = {"args": list(args), "kwargs": kwargs}
            else:
                value = self._msgspec.decode(data)
        except Exception:  # whatever is wrong with them: nothing to show
            return Shown(format="unknown", size=size, opened=False, text=f"{size} unreadable bytes")
        return Shown(format="msgspec", size=size, opened=True, value=redact(value))

    def preview(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """The arguments in one short line, secrets hidden."""
        return preview(args, kwargs)

    def _pack_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes | None:
        """msgpack, or None if dill is needed. Flat calls of plain values take the short way."""
        try:
            if ATOMS.issuperset(map(type, args)) and (
                not kwargs or ATOMS.issuperset(map(type, kwargs.values()))
            ):
                return pack((args, kwargs))
        except (OverflowError, UnicodeEncodeError):
            pass
        try:
            return pack(([mark(v) for v in args], {k: mark(v) for k, v in kwargs.items()}))
        except (Unfit, OverflowError, UnicodeEncodeError, RecursionError):
            return None

    def _unpack_call(
        self, data: bytes | memoryview, binding: Binding
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            return unpack_call(data)
        except Exception as error:
            raise _corrupt(binding, error) from error

    def _dill_call(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], binding: Binding
    ) -> bytes:
        try:
            return self._dill.encode((args, dict(kwargs)), binding)
        except NotSerializable as error:
            refusal = error
        raise self._told(refusal, _named(args, kwargs), binding)

    def _carry(
        self, ref: Ref, args: tuple[Any, ...], kwargs: Mapping[str, Any], binding: Binding
    ) -> bytes:
        try:
            return self._dill.encode((ref.func, args, dict(kwargs)), binding, tag=CARRIED)
        except NotSerializable as error:
            refusal = error
        # Without keys it is the function that cannot go, and its arguments may be as they should.
        parts = _named(args, kwargs) if self.keys is not None else []
        raise self._told(refusal, [*parts, (f"the function {ref.name}", ref.func)], binding)

    def _told(
        self, error: NotSerializable, parts: list[tuple[str, Any]], binding: Binding
    ) -> NotSerializable:
        """A refusal of all together, told of the one part that is at fault, by its name.

        Raised where no exception is being handled, or people would read of both.
        """
        for path, value in parts:
            if self._unfit(value):
                try:
                    self._dill.encode(value, binding, path=path)
                except NotSerializable as clearer:
                    return clearer
        return error

    def _unfit(self, value: Any) -> bool:
        try:
            self._msgspec.encode(value)
        except Unfit:
            return True
        return False

    def _too_large(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], size: int
    ) -> PayloadTooLarge:
        def weight(item: tuple[str, Any]) -> int:
            try:
                return len(self._msgspec.encode(item[1]))
            except Unfit:
                return -1

        sizes = {path: weight((path, value)) for path, value in _named(args, kwargs)}
        largest = max(sizes, key=sizes.__getitem__, default="")
        which = (
            f"; the largest is {largest} with {sizes[largest]}" if sizes.get(largest, 0) > 0 else ""
        )
        return PayloadTooLarge(
            f"the arguments have {size} bytes, {self.limit} are allowed{which}: keep large values "
            "elsewhere and pass where they are (the limit is the option max_payload)",
            size=size,
            limit=self.limit,
        )


def _named(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Every argument with the name messages give it."""
    return [(f"args[{n}]", v) for n, v in enumerate(args)] + [
        (f"kwargs[{k!r}]", v) for k, v in kwargs.items()
    ]


def _unsigned(payload: bytes) -> bytes:
    """The data of a signed plain payload, for showing only: nothing in it can run."""
    if payload[0] != SIGNED:
        raise ValueError("unknown tag")
    return payload[2 + payload[1] + 32 :]


def _corrupt(binding: Binding, error: Exception) -> CorruptPayload:
    return CorruptPayload(
        f"the {binding.field} of task {binding.task_id} cannot be read: {type(error).__name__}"
    )


def _unknown_tag(tag: int, binding: Binding) -> CorruptPayload:
    return CorruptPayload(
        f"the {binding.field} of task {binding.task_id} are in no format this version knows "
        f"(tag {tag})"
    )
