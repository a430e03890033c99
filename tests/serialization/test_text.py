"""What people see of a payload: short, without secrets, and without running anything."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any

import pytest

from omniq.serialization import SerializationManager, _dill, preview
from omniq.serialization.functions import FunctionRegistry
from omniq.serialization.text import HIDDEN, is_secret, redact
from tests.serialization.support import BINDING, RESULT, Loud, Point, add, keys


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> SerializationManager:
    def never(data: object) -> None:
        raise AssertionError("dill was asked to load")

    monkeypatch.setattr(_dill, "load", never)
    return SerializationManager(keys())


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((5, 10), {}, "5, 10"),
        ((), {}, ""),
        (("a", None, True, 1.5), {"size": 3}, "'a', None, True, 1.5, size=3"),
        (([1, (2,)], {"a": {1}}), {}, "[1, (2)], {'a': {1}}"),
        ((b"xyz",), {}, "<3 bytes>"),
        ((Decimal("1.5"), datetime(2026, 1, 2, tzinfo=UTC)), {}, "1.5, 2026-01-02 00:00:00+00:00"),
        ((Point(1, 2),), {"loud": Loud()}, "<Point>, loud=<Loud>"),
        ((), {"password": "hunter2"}, "password=***"),
        (({"api_key": "hunter2", "n": [{"Token": "hunter2"}]},), {}, "{'api_key': ***, 'n': [{'Token': ***}]}"),
        ((10**5000,), {}, f"<int of {(10**5000).bit_length()} bits>"),
        (([[[[[1]]]]],), {}, "[[[[…]]]]"),
    ],
)  # fmt: skip
def test_previews(args: tuple[Any, ...], kwargs: dict[str, Any], text: str) -> None:
    assert preview(args, kwargs) == text


def test_previews_are_short_whatever_comes() -> None:
    long = "x" * 100_000
    calls: list[tuple[tuple[Any, ...], dict[Any, Any]]] = [
        ((long,), {}),
        ((long, long), {"a": long}),
        (tuple(range(10_000)), {}),
        (([long] * 1000, dict.fromkeys(range(1000), long)), {}),
        ((), {f"k{n}": n for n in range(1000)}),
    ]
    for args, kwargs in calls:
        assert 150 < len(preview(args, kwargs)) <= 200


@pytest.mark.parametrize(
    "key",
    ["password", "db_passwd", "SECRET_KEY", "token", "refreshToken", "Authorization", "set-cookie", "api_key", "apiKey", "API-KEY", "dsn", "private_key"],
)  # fmt: skip
def test_names_of_secrets(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize("key", ["name", "size", "pass_count", "key", "path"])
def test_names_of_other_things(key: str) -> None:
    assert not is_secret(key)


def test_redacting_leaves_the_value_itself_alone() -> None:
    value = {"a": [{"token": "hunter2", "b": ({"secret": [1]},)}]}
    assert redact(value) == {"a": [{"token": HIDDEN, "b": ({"secret": HIDDEN},)}]}
    assert value["a"][0]["token"] == "hunter2"


def test_plain_arguments_are_shown_open(manager: SerializationManager) -> None:
    payload = manager.encode_call((5, (1,)), {"token": "hunter2"}, BINDING)
    shown = manager.show(payload)
    assert (shown.format, shown.opened, shown.size) == ("msgspec", True, len(payload))
    assert shown.value == {"args": [5, (1,)], "kwargs": {"token": HIDDEN}}


def test_signed_plain_arguments_are_shown_open(manager: SerializationManager) -> None:
    payload = manager.encode_call((5,), {}, BINDING, FunctionRegistry().refer(add))
    assert manager.show(payload).value == {"args": [5], "kwargs": {}}


def test_a_plain_result_is_shown_open(manager: SerializationManager) -> None:
    payload = manager.encode_value({"n": 1, "password": "x"}, RESULT)
    assert manager.show(payload, field="result").value == {"n": 1, "password": HIDDEN}


def test_dill_is_described_and_never_loaded(manager: SerializationManager) -> None:
    for payload in (
        manager.encode_value(Point(1, 2), RESULT),
        manager.encode_call((1,), {}, BINDING, FunctionRegistry().refer(lambda x: x)),
    ):
        shown = manager.show(payload, field="result")
        assert (shown.format, shown.opened, shown.value) == ("dill", False, None)
        digest = sha256(payload).hexdigest()[:12]
        assert re.fullmatch(rf"dill, {len(payload)} bytes, sha256 {digest}…", shown.text)


@pytest.mark.parametrize("payload", [b"", b"\x09abc", b"\x01\xc1", b"\x02", b"\x02\x10"])
def test_broken_bytes_are_shown_as_such(manager: SerializationManager, payload: bytes) -> None:
    shown = manager.show(payload)
    assert (shown.format, shown.opened) == ("unknown", False)
