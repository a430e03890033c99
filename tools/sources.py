"""Source files read with `ast`: classes, what they offer, and where their names come from."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module:
    """A source file: its classes and where its names come from."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.classes: dict[str, ast.ClassDef] = {}
        self.homes: dict[str, tuple[str, str]] = {}
        self.values: dict[str, str] = {}
        for node in self._statements(ast.parse(source_of(name).read_text()).body):
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    self.homes[alias.asname or alias.name] = node.module, alias.name
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    self.homes[alias.asname or alias.name] = alias.name, ""
            else:
                for own in defined_by(node):
                    self.homes[own] = name, own
                    if isinstance(node, ast.Assign):
                        self.values[own] = ast.unparse(node.value)

    def _statements(self, body: list[ast.stmt]) -> Iterator[ast.stmt]:
        for node in body:
            if isinstance(node, ast.If):  # if TYPE_CHECKING
                yield from self._statements([*node.body, *node.orelse])
            else:
                yield node


def defined_by(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def source_of(module: str) -> Path:
    path = ROOT / "src" / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def load(module: str) -> Module:
    return Module(module)


def value_of(module: str, name: str) -> str | None:
    """The text of what is assigned to a name of one of our modules."""
    return load(module).values.get(name) if module.startswith("omniq") else None


def find_class(module: str, name: str) -> tuple[Module, ast.ClassDef]:
    """The class and the module that defines it, through any number of re-exports."""
    home = load(module)
    while name not in home.classes:
        if name not in home.homes or home.homes[name] == (home.name, name):
            raise SystemExit(f"no class {name} in {module}")
        there, name = home.homes[name]
        home = load(there)
    return home, home.classes[name]


@dataclass
class Member:
    """A public method or attribute, with the module its names belong to."""

    node: Function | ast.AnnAssign
    home: Module
    overloads: list[Function] = field(default_factory=list)


def members(module: Module, cls: ast.ClassDef, stops: set[str]) -> dict[str, Member]:
    """What the class offers, its own first, then its bases' up to those that have a twin."""
    found: dict[str, Member] = {}
    for node in cls.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if "overload" in decorators(node):
                found.setdefault(node.name, Member(node, module)).overloads.append(node)
            elif node.name in found and found[node.name].overloads:
                found[node.name].node = node
            else:
                found[node.name] = Member(node, module)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = Member(node, module)
    for node in assigned_in_init(cls):
        found.setdefault(node.target.attr, Member(node, module))  # type: ignore[union-attr]
    for base in base_names(cls):
        if base in stops:
            continue
        home, name = module.homes.get(base, ("builtins", base))
        if home.startswith("omniq"):
            for key, member in members(*find_class(home, name), stops).items():
                inherit_docstring(found.setdefault(key, member).node, member.node)
    return found


def inherit_docstring(here: ast.AST, base: ast.AST) -> None:
    """An override that says nothing means what the method it overrides says."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    if not isinstance(here, kinds) or not isinstance(base, kinds):
        return
    if ast.get_docstring(base) and not ast.get_docstring(here):
        here.body.insert(0, base.body[0])


def assigned_in_init(cls: ast.ClassDef) -> list[ast.AnnAssign]:
    """`self.x: T = ...`"""
    inits = (n for n in cls.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    return [
        node
        for init in inits
        for node in init.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute)
    ]


def ancestors(module: Module, cls: ast.ClassDef, wanted: set[str]) -> list[str]:
    """The nearest bases that are wanted, looked for through those that are not."""
    found: list[str] = []
    for base in base_names(cls):
        home, name = module.homes.get(base, ("builtins", base))
        if base in wanted:
            found.append(base)
        elif home.startswith("omniq"):
            found += ancestors(*find_class(home, name), wanted)
    return found


def closer_of(members: set[str]) -> str | None:
    """The method that lets go of connections or threads; None: it holds none."""
    for opener, closer in (("open", "close"), ("start", "stop")):
        if {opener, closer} <= members:
            return closer
    return None


def base_names(cls: ast.ClassDef) -> list[str]:
    heads = [base.value if isinstance(base, ast.Subscript) else base for base in cls.bases]
    return [head.id for head in heads if isinstance(head, ast.Name)]


def decorators(node: Function) -> set[str]:
    return {ast.unparse(each).split("(")[0].split(".")[-1] for each in node.decorator_list}


def every_argument(args: ast.arguments) -> list[ast.arg]:
    extra = [arg for arg in (args.vararg, args.kwarg) if arg is not None]
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *extra]


def gives_items(node: Function) -> bool:
    head = ast.unparse(node.returns).split("[")[0] if node.returns else ""
    return head in ("AsyncIterator", "AsyncIterable", "AsyncGenerator")


def generic_arguments(cls: ast.ClassDef) -> str:
    for base in cls.bases:
        if isinstance(base, ast.Subscript) and ast.unparse(base.value) == "Generic":
            return f"[{ast.unparse(base.slice)}]"
    return ""


def order(member: Member) -> int:
    """Attributes and properties first; otherwise as they stand in the source."""
    node = member.node
    first = isinstance(node, ast.AnnAssign) or bool(decorators(node) & {"property"})
    return 0 if first else 1
