"""A framework's own task objects stand for the functions they hide."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from types import ModuleType
from typing import Any

import pytest

from omniq.errors import FunctionNotFound, InvalidTask
from omniq.queue.options import TaskOptions
from omniq.serialization import FunctionRegistry


@dataclass(frozen=True)
class Declared:
    """What some framework's decorator leaves in a function's place."""

    func: Callable[..., Any]
    queue: str = "default"


def stands_for(task: Declared) -> tuple[Callable[..., Any], TaskOptions]:
    @wraps(task.func)
    def run(*args: Any) -> Any:
        return "run", task.func(*args)

    return run, TaskOptions(queue=task.queue)


@pytest.fixture
def module() -> Iterator[ModuleType]:
    made = ModuleType("adopted_shop")
    exec("def pay(amount):\n    return amount", made.__dict__)
    made.pay = Declared(made.pay)  # type: ignore[attr-defined]
    sys.modules["adopted_shop"] = made
    yield made
    del sys.modules["adopted_shop"]


@pytest.fixture
def registry() -> FunctionRegistry:
    made = FunctionRegistry()
    made.adopt(Declared, stands_for)
    return made


class Lazy:
    """Stands for something that is made when somebody asks for it, its class included."""

    made = False

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        type(self).made = True
        return Declared


def test_an_unsigned_name_makes_no_lazy_object(
    registry: FunctionRegistry, module: ModuleType
) -> None:
    module.settings = Lazy()  # type: ignore[attr-defined]
    with pytest.raises(FunctionNotFound):
        registry.resolve("adopted_shop:settings")
    assert not Lazy.made


def test_it_is_referred_to_by_the_functions_name(
    registry: FunctionRegistry, module: ModuleType
) -> None:
    ref = registry.refer(module.pay)
    assert (ref.name, ref.travel) == ("adopted_shop:pay", "signed")
    assert ref.options == TaskOptions(queue="default")
    assert registry.refer(module.pay) is ref, "options are worked out once"


def test_a_copy_with_other_options_has_them(registry: FunctionRegistry, module: ModuleType) -> None:
    registry.refer(module.pay)
    ref = registry.refer(Declared(module.pay.func, queue="slow"))
    assert ref.name == "adopted_shop:pay"
    assert ref.options == TaskOptions(queue="slow")


def test_a_loaded_one_needs_no_signature(registry: FunctionRegistry, module: ModuleType) -> None:
    assert registry.resolve("adopted_shop:pay")(5) == ("run", 5)


def test_one_in_a_module_nobody_loaded_does(registry: FunctionRegistry, tmp_path: Any) -> None:
    (tmp_path / "adopted_later.py").write_text(
        "from tests.serialization.test_adopted import Declared\n"
        "def pay(amount):\n    return amount\n"
        "pay = Declared(pay)\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(FunctionNotFound):
            registry.resolve("adopted_later:pay")
        assert "adopted_later" not in sys.modules, "an unsigned name imports nothing"
        assert registry.resolve("adopted_later:pay", signed=True)(5) == ("run", 5)
    finally:
        sys.path.remove(str(tmp_path))
        sys.modules.pop("adopted_later", None)


def test_other_objects_are_refused_as_before(registry: FunctionRegistry) -> None:
    with pytest.raises(InvalidTask, match="a task needs a function"):
        registry.refer(object())  # type: ignore[arg-type]
    with pytest.raises(FunctionNotFound):
        registry.resolve("sys:path", signed=True)
