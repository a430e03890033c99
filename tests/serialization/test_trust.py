"""Nothing that runs code is opened before its signature, and a signature holds for one place."""

from __future__ import annotations

import pickle
import random
import sys
from contextlib import suppress
from typing import Any

import pytest

from omniq.errors import (
    CorruptPayload,
    NotSerializable,
    OmniQError,
    SerializationError,
    UntrustedPayload,
)
from omniq.serialization import Binding, KeyRing, SerializationManager, _dill
from omniq.serialization.base import CARRIED, DILL, PLAIN, SIGNED
from omniq.serialization.functions import FunctionRegistry
from tests.serialization.support import BINDING, OTHER, RESULT, SECRET, Point, add, keys, opened


class Hostile:
    """A pickle that calls `opened` as it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (opened, ())


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of every payload that dill was really given."""
    seen: list[int] = []
    real = _dill.load

    def watched(data: bytes | memoryview) -> Any:
        seen.append(len(data))
        return real(data)

    monkeypatch.setattr(_dill, "load", watched)
    return seen


def test_a_forged_dill_payload_is_never_loaded(loads: list[int]) -> None:
    manager = SerializationManager(keys())
    evil = pickle.dumps((None, pickle.dumps(Hostile()), b""))
    forged = KeyRing([("k1", OTHER)])
    for tag in (DILL, CARRIED):
        payload = bytes((tag,)) + forged.sign(tag, BINDING, evil) + evil
        with pytest.raises(UntrustedPayload, match="it was not opened"):
            manager.decode_call(payload, BINDING)
        with pytest.raises(SerializationError):
            manager.decode_call(bytes((tag,)) + evil, BINDING)
    assert loads == []


def test_the_sentinel_does_count(loads: list[int]) -> None:
    manager = SerializationManager(keys())
    payload = manager.encode_value(Point(1, 2), RESULT)
    assert manager.decode_value(payload, RESULT) == Point(1, 2)
    assert len(loads) == 1


def test_thousands_of_mutations_are_all_refused(loads: list[int]) -> None:
    manager = SerializationManager(keys(("k2", OTHER), ("k1", SECRET)))
    registry = FunctionRegistry()
    good = [
        manager.encode_call((Point(1, 2),), {}, BINDING),
        manager.encode_call((1, 2), {}, BINDING, registry.refer(lambda x, y: x)),
        manager.encode_call((1, 2), {}, BINDING, registry.refer(add)),
    ]
    assert [payload[0] for payload in good] == [DILL, CARRIED, SIGNED]
    rng = random.Random(20261121)
    tried = accepted = 0
    for payload in good:
        for at in range(len(payload)):
            for bit in range(8):
                changed = bytearray(payload)
                changed[at] ^= 1 << bit
                tried += 1
                accepted += _accepted(manager, bytes(changed), BINDING)
            tried += 1
            accepted += _accepted(manager, payload[:at], BINDING)
        for _ in range(2000):
            changed = bytearray(payload)
            start = rng.randrange(len(changed))
            changed[start : start + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(9))
            if changed != payload:
                tried += 1
                accepted += _accepted(manager, bytes(changed), BINDING)
        tried += 1
        accepted += _accepted(manager, payload + b"\x00", BINDING)
    assert tried > 10_000
    assert accepted == 0
    assert loads == []


def _accepted(manager: SerializationManager, payload: bytes, binding: Binding) -> bool:
    """Whether a payload got through as something that is trusted."""
    try:
        return manager.decode_call(payload, binding).signed
    except SerializationError:
        return False


ELSEWHERE = [
    BINDING._replace(namespace="other"),
    BINDING._replace(queue="other"),
    BINDING._replace(task_id="0190f3c0-0000-7000-8000-000000000001"),
    BINDING._replace(field="result"),
    BINDING._replace(function="app:g"),
    BINDING._replace(epoch=1),
    # The same letters, cut in another place.
    BINDING._replace(namespace="defaul", queue="temails"),
    BINDING._replace(queue="emails 36:0190"),
]


@pytest.mark.parametrize("elsewhere", ELSEWHERE, ids=str)
def test_a_payload_moved_elsewhere_is_refused(elsewhere: Binding, loads: list[int]) -> None:
    manager = SerializationManager(keys())
    registry = FunctionRegistry()
    for payload in (
        manager.encode_call((Point(1, 2),), {}, BINDING),
        manager.encode_call((1,), {}, BINDING, registry.refer(add)),
        manager.encode_call((1,), {}, BINDING, registry.refer(lambda: 1)),
    ):
        with pytest.raises(UntrustedPayload):
            manager.decode_call(payload, elsewhere)
    assert loads == []


def test_a_result_does_not_pass_as_arguments_nor_under_another_epoch() -> None:
    manager = SerializationManager(keys())
    payload = manager.encode_value(((Point(1, 2),), {}), RESULT._replace(field="result"))
    with pytest.raises(UntrustedPayload):
        manager.decode_call(payload, RESULT._replace(field="args"))
    value = manager.encode_value(Point(1, 2), RESULT)
    with pytest.raises(UntrustedPayload):
        manager.decode_value(value, RESULT._replace(epoch=RESULT.epoch + 1))


def test_a_signed_name_stripped_of_its_signature_is_no_longer_signed() -> None:
    manager = SerializationManager(keys())
    payload = manager.encode_call((1, 2), {}, BINDING, FunctionRegistry().refer(add))
    assert manager.decode_call(payload, BINDING).signed
    stripped = bytes((PLAIN,)) + bytes(keys().verify(payload, BINDING))
    assert not manager.decode_call(stripped, BINDING).signed


def test_keys_rotate() -> None:
    old = SerializationManager(keys(("k1", SECRET)))
    both = SerializationManager(keys(("k2", OTHER), ("k1", SECRET)))
    new = SerializationManager(keys(("k2", OTHER)))
    before, after = (m.encode_value(Point(1, 2), RESULT) for m in (old, both))
    assert both.decode_value(before, RESULT) == Point(1, 2)
    assert new.decode_value(after, RESULT) == Point(1, 2)
    with pytest.raises(UntrustedPayload, match=r"signed with key 'k1'.*OMNIQ_SIGNING_KEYS"):
        new.decode_value(before, RESULT)
    with pytest.raises(UntrustedPayload, match="'k2'"):
        old.decode_value(after, RESULT)


def test_without_a_key_dill_is_refused_both_ways() -> None:
    payload = SerializationManager(keys()).encode_value(Point(1, 2), RESULT)
    bare = SerializationManager(None)
    with pytest.raises(UntrustedPayload, match="OMNIQ_SIGNING_KEYS"):
        bare.decode_value(payload, RESULT)
    with pytest.raises(NotSerializable, match="OMNIQ_SIGNING_KEYS") as caught:
        bare.encode_call((1, [Point(1, 2)]), {}, BINDING)
    assert caught.value.path == "args[1][0]"
    with pytest.raises(NotSerializable, match="OMNIQ_SIGNING_KEYS"):
        bare.encode_call((1,), {}, BINDING, FunctionRegistry().refer(lambda x: x))


def test_without_a_key_signed_names_are_refused_and_plain_ones_sent() -> None:
    ref = FunctionRegistry().refer(add)
    signed = SerializationManager(keys()).encode_call((1, 2), {}, BINDING, ref)
    bare = SerializationManager(None)
    with pytest.raises(UntrustedPayload, match="OMNIQ_SIGNING_KEYS"):
        bare.decode_call(signed, BINDING)
    call = bare.decode_call(bare.encode_call((1, 2), {}, BINDING, ref), BINDING)
    assert (call.args, call.signed) == ((1, 2), False)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00",
        b"\xff" * 40,
        b"\x01",
        b"\x01\xc1",
        b"\x01\x91\x05",
        b"\x01\x92\x90\x90",
        b"\x02",
        b"\x03",
        b"\x03\x02k1",
    ],
    ids=repr,
)
def test_broken_bytes_are_corrupt(payload: bytes) -> None:
    with pytest.raises(CorruptPayload):
        SerializationManager(keys()).decode_call(payload, BINDING)


def test_random_bytes_never_raise_anything_foreign() -> None:
    manager, rng = SerializationManager(keys()), random.Random(7)
    for _ in range(5000):
        payload = bytes((rng.choice((PLAIN, SIGNED, DILL, CARRIED, 9)),)) + rng.randbytes(30)
        for decode in (manager.decode_call, manager.decode_value):
            with suppress(OmniQError):
                decode(payload, BINDING)
        manager.show(payload)


def test_a_bomb_of_nested_marks_is_corrupt() -> None:
    data = b"\xc0"
    for _ in range(5000):  # a tuple in a tuple in a tuple ...
        data = b"\x91" + b"\xc9" + len(data).to_bytes(4, "big") + b"\x05" + data
    with pytest.raises(CorruptPayload):
        SerializationManager(keys()).decode_value(bytes((PLAIN,)) + data, RESULT)


def test_a_class_that_is_gone_says_so() -> None:
    manager = SerializationManager(keys())
    payload = manager.encode_value(Point(1, 2), RESULT)
    here = Point.__module__
    module = sys.modules[here]
    try:
        del module.Point
        with pytest.raises(
            CorruptPayload, match="signed, but cannot be opened here: AttributeError"
        ):
            manager.decode_value(payload, RESULT)
    finally:
        module.Point = Point  # type: ignore[attr-defined]
