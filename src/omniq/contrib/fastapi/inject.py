"""`Depends()` in tasks: what a queue puts around every call its workers make."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from msgspec.structs import replace

from omniq.contrib.fastapi.plan import Need, Plan, check, plan_task
from omniq.contrib.fastapi.solve import (
    LoopSide,
    Outside,
    OwnLoopSide,
    Side,
    ThreadSide,
    around_call,
    finished,
)
from omniq.queue.engine import Loaded
from omniq.serialization import FUNCTIONS

Function = Callable[..., Any]


class Injector:
    """Fills in a call's dependencies; a call that has none is given back as it is."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._plans: WeakKeyDictionary[Function, Plan | None] = WeakKeyDictionary()

    def __call__(self, call: Loaded) -> Loaded:
        plan = self._plan(call.func)
        if plan is None:
            return call
        fill = self._beside_coroutine if call.is_async else self._beside_plain
        return replace(call, func=fill(call.func, plan))

    def check_known(self) -> None:
        """Refuse tasks of this process whose needs only a request could fill; ConfigError."""
        for name in FUNCTIONS.names():
            func = FUNCTIONS.refer(name).func
            plan = None if func is None else self._plan(func)
            if func is not None and plan is not None:
                check(func, plan.needs, self._outside.overrides)

    def _plan(self, func: Function) -> Plan | None:
        try:
            return self._plans[func]
        except TypeError:  # it cannot be kept
            return plan_task(func)
        except KeyError:
            plan = self._plans[func] = plan_task(func)
            return plan

    def _beside_coroutine(self, func: Function, plan: Plan) -> Function:
        async def filled(*args: Any, **kwargs: Any) -> Any:
            given, needs = _given(func, plan, args, kwargs)
            check(func, needs, self._outside.overrides)

            async def call(values: dict[str, Any]) -> Any:
                bound = inspect.BoundArguments(plan.whole, {**given, **values})
                return await func(*bound.args, **bound.kwargs)

            at_home = asyncio.get_running_loop() is self._outside.home()
            side: Side = LoopSide() if at_home else OwnLoopSide()
            return await around_call(needs, self._outside, side, call)

        return filled

    def _beside_plain(self, func: Function, plan: Plan) -> Function:
        def filled(*args: Any, **kwargs: Any) -> Any:
            given, needs = _given(func, plan, args, kwargs)
            check(func, needs, self._outside.overrides)

            async def call(values: dict[str, Any]) -> Any:
                bound = inspect.BoundArguments(plan.whole, {**given, **values})
                return func(*bound.args, **bound.kwargs)

            side = ThreadSide(self._outside)
            return finished(around_call(needs, self._outside, side, call))

        return filled


def _given(
    func: Function, plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[dict[str, Any], tuple[Need, ...]]:
    """What the task was enqueued with, by parameter, and what is left to be filled in.

    Positions count the parameters that are not filled in; one that is can be given by name.
    """
    chosen = {need.name for need in plan.needs if need.name in kwargs}
    rest = {name: value for name, value in kwargs.items() if name not in chosen}
    try:
        given = plan.given.bind(*args, **rest).arguments
    except TypeError as error:
        raise TypeError(f"{func.__qualname__}(): {error}") from None
    by_name = {name: kwargs[name] for name in chosen}
    return {**given, **by_name}, tuple(each for each in plan.needs if each.name not in chosen)
