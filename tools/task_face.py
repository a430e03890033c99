"""The blocking form of `@task`: the same decorator, whose functions enqueue without `await`."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

from sources import Module, load, source_of

HOME = "omniq.decorator"
TASK_NAMES = ("SyncTaskFunction", "task")

FUNCTION = '''
class SyncTaskFunction(TaskFunction[P, C, R]):
    """A function with options whose `enqueue` blocks. Calling it runs it here and now."""

    def enqueue(  # type: ignore[override]  # blocking is what differs
        self, *args: P.args, **kwargs: P.kwargs
    ) -> TaskHandle[R]:
        """Enqueue a call with these arguments on the queue opened last."""
        if (instead := fallback()) is not None:
            handle: TaskHandle[R] = instead.enqueue(Task(func=self.__wrapped__, args=args, kwargs=kwargs))
            return handle
        return TaskHandle[R]._of(portal.run(partial(super().enqueue, *args, **kwargs)))
'''

BODY = """
    if callable(func):
        return _blocking(async_task(func))
    return lambda f: _blocking(async_task(func, **options)(f))


def _blocking(made: TaskFunction[P, C, R]) -> SyncTaskFunction[P, C, R]:
    twin: SyncTaskFunction[P, C, R] = SyncTaskFunction(made.__wrapped__, made.options, made.name)
    FUNCTIONS.alias(twin, twin.name)
    return twin
"""


def task_face(need: Callable[[str, Module], None], imports: set[tuple[str, str]]) -> str:
    """The text of it; every signature is copied from the async decorator."""
    module = load(HOME)
    tree = ast.parse(source_of(HOME).read_text())
    decorator = module.classes["TaskDecorator"]
    forms = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "task"]
    *overloads, whole = forms
    doc = ast.get_docstring(whole, clean=False)
    whole.body = [ast.Expr(ast.Constant(doc))]
    for variable in ("P", "C", "R"):
        need(variable, module)
    for node in (decorator, *forms):
        for name in (n for n in ast.walk(node) if isinstance(n, ast.Name)):
            if name.id not in ("TaskFunction", "TaskDecorator"):
                need(name.id, module)
    imports |= {
        (HOME, "TaskFunction"),
        (HOME, "fallback"),
        (HOME, "task as async_task"),
        ("omniq._portal", "portal"),
        ("omniq.serialization", "FUNCTIONS"),
        ("functools", "partial"),
        ("typing", "overload"),
    }
    copied = "\n\n".join(ast.unparse(node) for node in (decorator, *overloads, whole))
    copied = re.sub(r"\b(TaskFunction|TaskDecorator)\b", r"Sync\1", copied)
    return f"{FUNCTION}\n\n{copied}{BODY}"
