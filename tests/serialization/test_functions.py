"""Functions by name: registered, or signed, or carried; never imported on a stranger's word."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from omniq.errors import FunctionNotFound, InvalidTask
from omniq.serialization import SerializationManager
from omniq.serialization.functions import FunctionRegistry, Ref
from omniq.serialization.names import find
from tests.serialization.support import BINDING, Caller, Holder, Loud, add, keys

HERE = add.__module__


@pytest.fixture
def registry() -> FunctionRegistry:
    return FunctionRegistry()


def test_a_function_of_a_module_is_named_and_signed(registry: FunctionRegistry) -> None:
    ref = registry.refer(add)
    assert (ref.name, ref.travel) == (f"{HERE}:add", "signed")
    assert registry.refer(add) is ref
    assert registry.resolve(ref.name) is add
    assert registry.name_of(add) == ref.name


def test_a_registered_function_travels_by_its_name(registry: FunctionRegistry) -> None:
    assert registry.register(add, options={"queue": "sums"}) == f"{HERE}:add"
    assert registry.refer(add).travel == "name"
    assert registry.options_of(f"{HERE}:add") == {"queue": "sums"}
    assert registry.refer(f"{HERE}:add").func is add
    assert registry.knows(f"{HERE}:add")


def test_a_name_of_ones_own(registry: FunctionRegistry) -> None:
    assert registry.register(add, "sum") == "sum"
    assert registry.refer(add).name == "sum"
    assert registry.resolve("sum") is add


def test_what_wraps_a_function_stands_for_it(registry: FunctionRegistry) -> None:
    class Wrapper:
        def __init__(self, func: Any) -> None:
            functools.update_wrapper(self, func)

        def __call__(self, *args: Any) -> Any:
            return self.__wrapped__(*args)  # type: ignore[attr-defined]

    wrapper = Wrapper(add)
    assert registry.register(wrapper) == f"{HERE}:add"
    assert registry.refer(wrapper).travel == "name"
    assert registry.refer(add).name == f"{HERE}:add"
    assert registry.refer(add).travel == "name"


def test_two_functions_cannot_have_one_name(registry: FunctionRegistry) -> None:
    registry.register(add, "sum")
    with pytest.raises(InvalidTask, match="two functions are registered as 'sum'"):
        registry.register(os.getcwd, "sum")
    assert registry.resolve("sum") is add


def test_registering_again_replaces(registry: FunctionRegistry) -> None:
    def make(n: int) -> Any:
        def inner() -> int:
            return n

        return inner

    first, second = make(1), make(2)
    assert registry.register(first) == registry.register(second)
    assert registry.resolve(registry.name_of(second)) is second


def test_a_registered_lambda_needs_a_name(registry: FunctionRegistry) -> None:
    with pytest.raises(InvalidTask, match="a lambda has no name"):
        registry.register(lambda: 1)
    assert registry.register(lambda: 1, "one") == "one"


def carried(registry: FunctionRegistry, func: Any, *args: Any) -> tuple[Ref, Any]:
    """How a function is named, and what a worker gets when it calls what came along."""
    ref = registry.refer(func)
    assert ref.travel == "carried"
    manager = SerializationManager(keys())
    binding = BINDING._replace(function=ref.name)
    call = manager.decode_call(manager.encode_call(args, {}, binding, ref), binding)
    assert call.signed
    assert call.func is not None
    with pytest.raises(FunctionNotFound):
        FunctionRegistry().resolve(ref.name, signed=True)
    return ref, call.func(*call.args)


def test_lambdas_and_closures_go_along(registry: FunctionRegistry) -> None:
    assert carried(registry, lambda x: x + 1, 4)[1] == 5
    n = 7

    def closure(x: int) -> int:
        return x + n

    ref, value = carried(registry, closure, 1)
    assert value == 8
    assert "closure" in ref.name


def test_two_closures_of_one_name_stay_apart(registry: FunctionRegistry) -> None:
    functions = [lambda n=n: n for n in range(3)]
    assert [carried(registry, func)[1] for func in functions] == [0, 1, 2]


def test_partials_methods_and_objects_go_along(registry: FunctionRegistry) -> None:
    ref, value = carried(registry, functools.partial(add, 2), 3)
    assert (ref.name, value) == (f"{HERE}:partial(add)", 5)
    ref, value = carried(registry, Holder().method)
    assert (ref.name, value) == (f"{HERE}:Holder().method", "called")
    ref, value = carried(registry, Caller(), 4)
    assert (ref.name, value) == (f"{HERE}:Caller()", 8)


def test_a_class_method_and_a_builtin_have_names(registry: FunctionRegistry) -> None:
    for func, name in ((Holder.build, f"{HERE}:Holder.build"), (len, "builtins:len")):
        ref = registry.refer(func)
        assert (ref.name, ref.travel) == (name, "signed")
        assert FunctionRegistry().resolve(name, signed=True) == func


def test_a_coroutine_in_place_of_its_function_is_refused(registry: FunctionRegistry) -> None:
    async def work() -> None: ...

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidTask, match=r"write enqueue\(work, args=\(\.\.\.\)\)"):
            registry.refer(work())  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [None, 5, Loud()], ids=["None", "5", "object"])
def test_what_cannot_be_called_is_refused(registry: FunctionRegistry, value: Any) -> None:
    with pytest.raises(InvalidTask, match="needs a function"):
        registry.refer(value)


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 501])
def test_a_name_that_is_none_is_refused(registry: FunctionRegistry, name: str) -> None:
    with pytest.raises(InvalidTask):
        registry.refer(name)


def test_an_unknown_name_is_not_found_and_says_what_to_do(registry: FunctionRegistry) -> None:
    registry.register(add)
    with pytest.raises(FunctionNotFound, match=r"not registered.*@task.*did you mean") as caught:
        registry.resolve(f"{HERE}:ad")
    assert isinstance(caught.value, LookupError)


def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, name, raising=False)


def test_only_a_signed_name_is_imported(
    registry: FunctionRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(tmp_path, monkeypatch, "shop_a", "def pay():\n    return 'paid'\n")
    with pytest.raises(FunctionNotFound, match="not registered"):
        registry.resolve("shop_a:pay")
    assert "shop_a" not in sys.modules
    assert registry.resolve("shop_a:pay", signed=True)() == "paid"
    assert registry.resolve("shop_a:pay")() == "paid"


def test_importing_a_module_that_registers_prefers_what_it_registers(
    registry: FunctionRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import omniq.serialization as s\ndef pay(): ...\ns.FUNCTIONS.register(pay, options=5)\n"
    module(tmp_path, monkeypatch, "shop_b", text)
    from omniq.serialization import FUNCTIONS

    FUNCTIONS.resolve("shop_b:pay", signed=True)
    assert FUNCTIONS.options_of("shop_b:pay") == 5


def test_a_module_that_cannot_be_imported_is_said(
    registry: FunctionRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(tmp_path, monkeypatch, "shop_c", "raise RuntimeError('no database')\n")
    with pytest.raises(FunctionNotFound, match=r"RuntimeError: no database.*PYTHONPATH"):
        registry.resolve("shop_c:pay", signed=True)
    with pytest.raises(FunctionNotFound, match="ModuleNotFoundError"):
        registry.resolve("no_such_module:pay", signed=True)


@pytest.mark.parametrize(
    "name",
    [f"{HERE}:gone", f"{HERE}:keys.__globals__", f"{HERE}:Holder.__init__.__globals__", f"{HERE}:SECRET", f"{HERE}:", ":add", "os:path.join", f"{HERE}:<lambda>", f"{HERE}:f.<locals>.g", "add"],
)  # fmt: skip
def test_even_a_signed_name_leads_to_functions_only(registry: FunctionRegistry, name: str) -> None:
    with pytest.raises(FunctionNotFound):
        registry.resolve(name, signed=True)


def test_a_name_that_leads_nowhere_imports_nothing(
    registry: FunctionRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module(tmp_path, monkeypatch, "shop_d", "")
    with pytest.raises(FunctionNotFound):
        registry.resolve("shop_d:<lambda>", signed=True)
    assert "shop_d" not in sys.modules


def test_a_name_walks_through_classes_never_through_modules_or_objects() -> None:
    assert find(sys.modules[HERE], "Holder.build") == Holder.build
    assert find(os, "path.join") is None
    assert find(sys.modules[HERE], "add.__globals__") is None


def test_a_name_is_only_given_to_what_it_leads_back_to(registry: FunctionRegistry) -> None:
    def impostor() -> None: ...

    impostor.__qualname__ = "add"
    impostor.__module__ = HERE
    assert registry.refer(impostor).travel == "carried"
