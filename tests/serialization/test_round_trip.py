"""What goes in comes out: the same value, every part of the same type."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omniq.errors import NotSerializable
from omniq.serialization import MsgspecSerializer, SerializationDetector, SerializationManager
from omniq.serialization.base import DILL, PLAIN
from tests.serialization.support import BINDING, RESULT, Handle, Holder, Point, keys


class Color(Enum):
    RED = 1


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same types all the way down (NaN equals itself here)."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, set | frozenset):
        return {(type(v), v) for v in a} == {(type(v), v) for v in b}
    if isinstance(a, Decimal):  # a signalling NaN refuses to be compared
        return str(a) == str(b)
    if isinstance(a, float) and a != a:
        return bool(b != b)
    if isinstance(a, datetime | time):
        return (a, a.isoformat(), a.fold) == (b, b.isoformat(), b.fold)
    return bool(a == b)


PLAIN_VALUES: list[Any] = [
    None,
    True,
    0,
    -(2**63),
    2**64 - 1,
    1.5,
    float("inf"),
    float("nan"),
    "",
    "héllo\x00",
    b"\x00\xff",
    [1, [2, {"a": None}]],
    {"a": 1, "b": [True]},
    {1: "a", -5: "b"},
    datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    datetime(1, 1, 1, tzinfo=UTC),
]
RICH_VALUES: list[Any] = [
    2**64,
    -(2**63) - 1,
    10**5000,
    (1, 2),
    [(1, (2,)), [3]],
    {1, 2},
    frozenset({"a", (1, 2)}),
    bytearray(b"ab"),
    Decimal("1.10"),
    Decimal("NaN"),
    Decimal("-sNaN12"),
    UUID(int=7),
    date(2026, 1, 2),
    time(1, 2, 3, 4),
    timedelta(days=-1, microseconds=1),
    Path("/some/where"),
    datetime(2026, 1, 2, 3, 4, 5),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-5, minutes=-30))),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
    datetime(2026, 10, 25, 2, 30, fold=1),
    {(1, 2): "pair", None: 0, True: 1},
    {2**70: "key"},
    {date(2026, 1, 2): 1, UUID(int=1): 2},
    {"a": {"b": ({1},)}},
]
DILL_VALUES: list[Any] = [
    Point(1, 2),
    [Point(1, 2)],
    {"a": (Point(1, 2),)},
    Color.RED,
    1j,
    range(3),
    "\ud800",
    Point,
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1), "named")),
    ValueError,
]


@pytest.fixture(scope="module")
def manager() -> SerializationManager:
    return SerializationManager(keys())


@pytest.mark.parametrize("value", PLAIN_VALUES + RICH_VALUES, ids=lambda v: type(v).__name__)
def test_builtin_values_come_back_by_msgspec(manager: SerializationManager, value: Any) -> None:
    payload = manager.encode_value(value, RESULT)
    assert payload[0] == PLAIN
    assert same(manager.decode_value(payload, RESULT), value)
    assert SerializationDetector().detect(value) == "msgspec"


@pytest.mark.parametrize("value", DILL_VALUES, ids=lambda v: type(v).__name__)
def test_other_values_come_back_by_dill(manager: SerializationManager, value: Any) -> None:
    payload = manager.encode_value(value, RESULT)
    assert payload[0] == DILL
    assert same(manager.decode_value(payload, RESULT), value)


@pytest.mark.parametrize("value", PLAIN_VALUES + RICH_VALUES, ids=lambda v: type(v).__name__)
def test_plain_values_need_no_key(value: Any) -> None:
    manager = SerializationManager(None)
    assert same(manager.decode_value(manager.encode_value(value, RESULT), RESULT), value)


@pytest.mark.parametrize(
    "value", PLAIN_VALUES + RICH_VALUES + DILL_VALUES, ids=lambda v: type(v).__name__
)
def test_arguments_come_back(manager: SerializationManager, value: Any) -> None:
    payload = manager.encode_call((1, value), {"key": value}, BINDING)
    call = manager.decode_call(payload, BINDING)
    assert same(call.args, (1, value))
    assert same(call.kwargs, {"key": value})
    assert call.func is None


atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.datetimes(timezones=st.none() | st.just(UTC)),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
)
hashable = st.one_of(st.booleans(), st.integers(), st.text(), st.binary(), st.uuids())
values = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashable, inner, max_size=4),
        st.frozensets(hashable, max_size=4),
        st.sets(hashable, max_size=4),
    ),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values)
def test_any_builtin_value_comes_back(value: Any) -> None:
    manager = SerializationManager(keys())
    assert same(manager.decode_value(manager.encode_value(value, RESULT), RESULT), value)


def test_a_handle_travels_as_the_text_it_is(manager: SerializationManager) -> None:
    payload = manager.encode_call((Handle("abc"), [Handle("d")]), {}, BINDING)
    assert payload[0] == PLAIN
    assert same(manager.decode_call(payload, BINDING).args, ("abc", ["d"]))


def test_a_value_that_contains_itself_comes_back(manager: SerializationManager) -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    found = manager.decode_value(manager.encode_value(loop, RESULT), RESULT)
    assert found[0] == 1
    assert found[1] is found


def test_nesting_without_end_is_refused_and_named(manager: SerializationManager) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NotSerializable, match="nested too deeply") as caught:
        manager.encode_call((1, deep), {}, BINDING)
    assert caught.value.path.startswith("args[1]")
    while deep:  # freed by hand: Python's own deallocation is recursive
        deep = deep[0]


def test_objects_come_back_as_their_own_class(manager: SerializationManager) -> None:
    found = manager.decode_value(manager.encode_value(Holder(inner=Point(1, 2)), RESULT), RESULT)
    assert type(found) is Holder
    assert found.inner == Point(1, 2)


def test_msgspec_alone_refuses_what_it_would_change() -> None:
    from omniq.serialization.base import Unfit

    for value in DILL_VALUES:
        with pytest.raises(Unfit):
            MsgspecSerializer().encode(value)
