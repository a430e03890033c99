"""Values that cannot travel are refused at once, and the message names them."""

from __future__ import annotations

import asyncio
import socket
import threading
import traceback
from pathlib import Path
from typing import Any

import pytest

from omniq.errors import InvalidTask, NotSerializable, PayloadTooLarge
from omniq.serialization import SerializationManager
from omniq.serialization.functions import FunctionRegistry
from tests.serialization.support import BINDING, RESULT, Holder, Point, keys


@pytest.fixture
def manager() -> SerializationManager:
    return SerializationManager(keys(), limit=1000)


def refused(manager: SerializationManager, *args: Any, **kwargs: Any) -> NotSerializable:
    with pytest.raises(NotSerializable) as caught:
        manager.encode_call(args, kwargs, BINDING)
    assert isinstance(caught.value, TypeError)
    assert caught.value.path in str(caught.value)
    return caught.value


def test_a_coroutine_is_refused(manager: SerializationManager) -> None:
    async def work() -> None: ...

    coroutine = work()
    error = refused(manager, 1, coroutine)
    coroutine.close()
    assert error.path == "args[1]"
    assert "is a coroutine" in str(error)


def test_a_generator_is_refused(manager: SerializationManager) -> None:
    assert "pass a list" in str(refused(manager, rows=(n for n in range(3))))


def test_a_lock_is_refused(manager: SerializationManager) -> None:
    assert refused(manager, threading.Lock()).path == "args[0]"
    assert refused(manager, lock=threading.RLock()).path == "kwargs['lock']"
    assert refused(manager, threading.Event()).path.startswith("args[0]")


def test_an_open_file_is_refused(manager: SerializationManager, tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as file:
        error = refused(manager, {"out": [file]})
    assert error.path == "args[0]['out'][0]"
    assert "path" in str(error)


def test_a_socket_inside_an_object_is_found(manager: SerializationManager) -> None:
    with socket.socket() as sock:
        assert refused(manager, user=Holder(name="x", sock=sock)).path == "kwargs['user'].sock"


def test_a_running_task_is_refused(manager: SerializationManager) -> None:
    async def main() -> NotSerializable:
        task = asyncio.ensure_future(asyncio.sleep(0))
        try:
            return refused(manager, task)
        finally:
            await task

    assert asyncio.run(main()).path.startswith("args[0]")


def test_an_object_whose_pickling_fails_is_named(manager: SerializationManager) -> None:
    class Stubborn:
        def __reduce__(self) -> str:
            raise RuntimeError("not me")

    error = refused(manager, 1, 2, [0, Stubborn()])
    assert error.path == "args[2][1]"
    assert "not me" in str(error)


def test_a_closure_over_something_bound_to_this_process_is_refused(
    manager: SerializationManager,
) -> None:
    lock = threading.Lock()

    def work() -> None:
        lock.acquire()

    ref = FunctionRegistry().refer(work)
    with pytest.raises(NotSerializable, match=r"the function .*work\.lock") as caught:
        manager.encode_call((1,), {}, BINDING, ref)
    assert caught.value.path.endswith(".lock")


def test_a_bad_argument_of_a_lambda_is_named_not_the_lambda(manager: SerializationManager) -> None:
    ref = FunctionRegistry().refer(lambda x: x)
    with pytest.raises(NotSerializable) as caught:
        manager.encode_call((threading.Lock(),), {}, BINDING, ref)
    assert caught.value.path == "args[0]"


def test_a_refusal_is_one_error_and_no_chain(manager: SerializationManager) -> None:
    """What was tried on the way to its words would be read as several mistakes."""
    offset, lock = 3, threading.Lock()
    bare = SerializationManager(None)

    def locked() -> None:
        lock.acquire()

    refer = FunctionRegistry().refer
    closure, holder = refer(lambda x: x + offset), refer(locked)
    for refuse in (
        lambda: bare.encode_call((1,), {}, BINDING, closure),
        lambda: bare.encode_call((1, lambda: offset), {}, BINDING),
        lambda: bare.encode_value(lambda: offset, RESULT),
        lambda: manager.encode_call((1,), {}, BINDING, holder),
        lambda: manager.encode_call((1, lock), {}, BINDING),
    ):
        with pytest.raises(NotSerializable) as caught:
            refuse()
        shown = "".join(traceback.format_exception(caught.value))
        assert shown.count("Traceback") == 1 and shown.count("NotSerializable: ") == 1, shown


def test_an_error_of_the_value_itself_is_shown_where_it_was_raised(
    manager: SerializationManager,
) -> None:
    class Stubborn:
        def __reduce__(self) -> str:
            raise RuntimeError("not me")

    with pytest.raises(NotSerializable) as caught:
        manager.encode_call((1, Stubborn()), {}, BINDING)
    assert isinstance(caught.value.__cause__, RuntimeError)
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count("Traceback") == 2, shown


def test_a_result_that_cannot_travel_is_named(manager: SerializationManager) -> None:
    with pytest.raises(NotSerializable, match="result") as caught:
        manager.encode_value({"a": threading.Lock()}, RESULT)
    assert caught.value.path == "result['a']"


def test_arguments_over_the_limit_name_the_largest(manager: SerializationManager) -> None:
    with pytest.raises(PayloadTooLarge, match=r"kwargs\['text'\].*max_payload") as caught:
        manager.encode_call((b"x" * 300, 1), {"text": "y" * 800}, BINDING)
    assert caught.value.size > 1100
    assert caught.value.limit == 1000
    assert isinstance(caught.value, InvalidTask)


def test_a_result_over_the_limit_is_refused(manager: SerializationManager) -> None:
    with pytest.raises(PayloadTooLarge, match="the result of task") as caught:
        manager.encode_value("y" * 1000, RESULT)
    assert caught.value.size > caught.value.limit


def test_dill_payloads_have_the_same_limit(manager: SerializationManager) -> None:
    with pytest.raises(PayloadTooLarge):
        manager.encode_call((Point("x" * 2000, 1),), {}, BINDING)  # type: ignore[arg-type]


def test_exactly_the_limit_is_allowed() -> None:
    payload = SerializationManager(None).encode_value("y" * 100, RESULT)
    manager = SerializationManager(None, limit=len(payload))
    assert manager.encode_value("y" * 100, RESULT) == payload
    with pytest.raises(PayloadTooLarge):
        manager.encode_value("y" * 101, RESULT)
