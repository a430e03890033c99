"""Write `src/omniq/sync.py`: the blocking face, made from the async classes by reading them.

    python tools/gen_sync.py            write it
    python tools/gen_sync.py --check    exit 1 if the committed file is stale

Every public method keeps its signature and its docstring; its body hands the call to the
loop thread (`omniq._twin`). Async objects in results are wrapped in their twins, twins among
the arguments are unwrapped. Public attributes must be annotated in the class body, or be
properties, to be seen here.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import re
import subprocess
import sys
from dataclasses import dataclass

from sources import (
    ROOT,
    Function,
    Member,
    Module,
    ancestors,
    base_names,
    closer_of,
    decorators,
    every_argument,
    find_class,
    generic_arguments,
    gives_items,
    members,
    order,
    value_of,
)
from task_face import TASK_NAMES, task_face

TARGET = ROOT / "src/omniq/sync.py"


@dataclass(frozen=True)
class Face:
    """One async class and the name of its twin. `made`: users construct it themselves."""

    module: str
    name: str
    twin: str
    made: bool = True
    lazy: bool = False
    """Its module loads a driver: imported when one is made."""
    again: str | None = None
    """Makes it anew after a fork, from `made` and `self`, the twin that gave it."""
    hidden: tuple[str, ...] = ()
    """Public for the rooms below, not for users."""


HANDLE = "AsyncTaskHandle(made, self._async)"

FACES = [
    Face("omniq.storage.base", "Ear", "Ear", made=False),
    Face("omniq.storage.base", "AsyncStorage", "Storage", made=False, hidden=("join",)),
    Face("omniq.storage.memory", "AsyncMemoryStorage", "MemoryStorage", lazy=True),
    Face(
        *("omniq.storage.sqlite", "AsyncSQLiteStorage", "SQLiteStorage"),
        lazy=True,
        hidden=("join",),
    ),
    Face(
        *("omniq.storage.file", "AsyncFileStorage", "FileStorage"),
        lazy=True,
    ),
    Face(
        *("omniq.storage.postgres", "AsyncPostgresStorage", "PostgresStorage"),
        lazy=True,
        hidden=("join",),
    ),
    Face("omniq.storage.redis", "AsyncRedisStorage", "RedisStorage", lazy=True),
    Face("omniq.storage.nats", "AsyncNATSStorage", "NATSStorage", lazy=True),
    Face("omniq.storage.jsonl", "AsyncJSONLEventStorage", "JSONLEventStorage", lazy=True),
    Face("omniq.handle", "AsyncTaskHandle", "TaskHandle", made=False, again=HANDLE),
    Face("omniq.core", "AsyncOmniQ", "OmniQ", hidden=("engine", "stores", "settled")),
    Face("omniq.core", "AsyncTaskQueue", "TaskQueue", hidden=("engine", "stores", "settled")),
    Face("omniq.workers.worker", "Worker", "Worker", made=False),
    Face("omniq.workers.worker", "AsyncWorker", "AsyncWorker"),
    Face("omniq.workers.worker", "ThreadWorker", "ThreadWorker"),
    Face("omniq.workers.worker", "WorkerPool", "WorkerPool", hidden=("configured",)),
]

# What a caller of the blocking face may pass besides where the async one names a role.
ALSO_TAKES = {
    "BaseTaskQueue": "Storage",
    "BaseResultStorage": "Storage",
    "BaseEventStorage": "Storage | JSONLEventStorage",
    "Source": "OmniQ",
    "Backend": None,
}

# Promised under a second name.
ALIASES = {"SyncTaskQueue": "TaskQueue"}

# Plain methods that touch nothing another call may have half done: answered where they are called.
DIRECT = {"describe"}

ASYNC_TO_BLOCKING = {
    "AsyncIterator": "Iterator",
    "AsyncIterable": "Iterator",
    "AsyncGenerator": "Iterator",
    "AbstractAsyncContextManager": "AbstractContextManager",
}
HOME_OF = {"Iterator": "collections.abc", "AbstractContextManager": "contextlib"}


class Blocking(ast.NodeTransformer):
    """An annotation as the blocking face has it; notes the names it needs."""

    def __init__(self, writer: Writer, home: Module, *, taken: bool = False) -> None:
        self.writer, self.home, self.taken = writer, home, taken

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str):
            quoted: ast.AST = self.visit(ast.parse(node.value, mode="eval").body)
            return quoted
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        head = node.value.id if isinstance(node.value, ast.Name) else ""
        if head == "AsyncGenerator" and isinstance(node.slice, ast.Tuple):
            node.slice = node.slice.elts[0]
        if head == "Literal":
            self.writer.need(head, self.home)
            return node
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        name = ASYNC_TO_BLOCKING.get(node.id, node.id)
        if name in self.writer.twins:
            return ast.Name(self.writer.twins[name].twin)
        if name != node.id:
            self.writer.imports.add((HOME_OF[name], name))
            return ast.Name(name)
        self.writer.need(name, self.home)
        if self.taken and (also := ALSO_TAKES.get(name)):
            return ast.parse(f"{name} | {also}", mode="eval").body
        return node


class Writer:
    """Collects the text of `sync.py` and the imports it needs."""

    def __init__(self, faces: list[Face]) -> None:
        self.faces = faces
        self.twins = {face.name: face for face in faces}
        self.imports: set[tuple[str, str]] = set()
        self.typing_only: set[tuple[str, str]] = set()
        self.origins: dict[str, tuple[str, str]] = {}
        self.written: dict[str, set[str]] = {}

    def text(self) -> str:
        classes = [self.face(face) for face in self.faces]
        classes.append(task_face(self.need, self.imports))
        twins = (face.twin for face in self.faces)
        names = ", ".join(map(repr, sorted([*ALIASES, *TASK_NAMES, *twins])))
        if self.typing_only:
            self.imports.add(("typing", "TYPE_CHECKING"))
        lines = [
            f'"""{HEADER}"""',
            "from __future__ import annotations",
            *import_lines(self.imports | {("typing", "cast")}),
        ]
        if self.typing_only:
            lines += ["if TYPE_CHECKING:", *("    " + x for x in import_lines(self.typing_only))]
        aliases = [f"{alias} = {name}" for alias, name in ALIASES.items()]
        lines += [f"__all__ = [{names}]", *classes, *aliases]
        return formatted("\n".join(lines))

    def need(self, name: str, home: Module) -> None:
        """Import a name the signature of a method in `home` uses."""
        if name in home.homes:
            module, original = home.homes[name]
            other = self.origins.setdefault(name, (module, original))
            if other != (module, original):
                if value_of(*other) and value_of(*other) == value_of(module, original):
                    return  # one `TypeVar("R")` is as good as the other
                raise SystemExit(
                    f"{name} is {original} of {module} and {other}: rename one of them"
                )
            self.imports.add((module, original if original == name else f"{original} as {name}"))

    def inside(self, face: Face) -> str:
        """The name of the async class in the generated file."""
        return face.name if face.name != face.twin else f"_{face.name}"

    def face(self, face: Face) -> str:
        home, cls = find_class(face.module, face.name)
        bases = [self.twins[base] for base in ancestors(home, cls, set(self.twins))]
        found = members(home, cls, set(self.twins))
        inside = self.inside(face)
        original = face.name if inside == face.name else f"{face.name} as {inside}"
        (self.typing_only if face.lazy else self.imports).add((face.module, original))
        text = [f"class {face.twin}({self.bases(face, cls, bases, set(found), home)}):"]
        text.append(docstring(cls, "    "))
        if not bases and (closer := closer_of(set(found))):
            grace = "(0.0,)" if "grace" in ast.unparse(found[closer].node) else "()"
            text.append(f"    _closer = {closer!r}\n    _grace = {grace}\n")
        if face.made and "__init__" in found:
            text.append(self.constructor(face, found["__init__"]))
        kind = f"{inside}{generic_arguments(cls)}"
        text.append(
            f"    @property\n    def _async(self) -> {kind}:\n"
            f"        return cast({kind!r}, self._fresh())\n"
        )
        inherited = set[str]().union(*(self.written[base.name] for base in bases))
        written = self.written[face.name] = set(inherited)
        for name, member in sorted(found.items(), key=lambda item: order(item[1])):
            if name in face.hidden or (name.startswith("_") and name not in DUNDERS):
                continue
            body = self.member(name, member, closer_of(set(found)))
            said = "" if isinstance(member.node, ast.AnnAssign) else docstring(member.node, " " * 8)
            bare = body.replace(said, "")  # an override that says nothing new keeps the docstring
            if bare not in inherited:
                text.append(body)
                written.add(bare)
        return "\n".join(text) + "\n"

    def bases(
        self, face: Face, cls: ast.ClassDef, twins: list[Face], found: set[str], home: Module
    ) -> str:
        names = [twin.twin for twin in twins]
        if not names:
            names = ["StrTwin" if "str" in base_names(cls) else "Twin"]
            if "__aenter__" in found:
                names = ["Owned" if closer_of(found) else "Entered"]
            self.imports.add(("omniq._twin", names[0]))
        for base in cls.bases:
            if isinstance(base, ast.Subscript) and ast.unparse(base.value) in (
                "Generic",
                "Protocol",
            ):
                self.need(ast.unparse(base.value), home)
                for name in (n.id for n in ast.walk(base.slice) if isinstance(n, ast.Name)):
                    self.need(name, home)
                names.append(ast.unparse(base))
        return ", ".join(names)

    def constructor(self, face: Face, member: Member) -> str:
        assert isinstance(member.node, ast.FunctionDef)
        signature = self.signature(member.node, member.home)
        inside = self.inside(face)
        load_it = f"            from {face.module} import {inside}\n\n" if face.lazy else ""
        return (
            f"    def __init__{signature} -> None:\n{docstring(member.node, ' ' * 8)}"
            f"        def make() -> {inside}:\n{load_it}"
            f"            return {inside}({self.arguments(member.node)})\n\n"
            "        self._adopt(make)\n"
        )

    def member(self, name: str, member: Member, closer: str | None) -> str:
        node, home = member.node, member.home
        if isinstance(node, ast.AnnAssign):
            annotation = node.annotation
            if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in (
                "ClassVar",
                "Final",
            ):
                annotation = annotation.slice
            return self.read(name, annotation, home, "")
        if decorators(node) & {"property", "cached_property"}:
            assert node.returns is not None
            return self.read(name, node.returns, home, docstring(node, " " * 8))
        text = "".join(
            f"    @overload\n    def {self.head(each, home, name)}: ...\n"
            for each in member.overloads
        )
        if text:
            self.imports.add(("typing", "overload"))
        return text + self.method(name, node, home, overloaded=bool(text), closes=name == closer)

    def read(self, name: str, annotation: ast.expr, home: Module, doc: str) -> str:
        value = self.wrap(annotation, f"self._async.{name}") or f"self._async.{name}"
        return (
            f"    @property\n    def {name}(self) -> {self.annotation(annotation, home)}:\n"
            f"{doc}        return {value}\n"
        )

    def method(
        self, name: str, node: Function, home: Module, *, overloaded: bool, closes: bool
    ) -> str:
        marks = decorators(node)
        given = self.arguments(node)
        comma = ", " if given else ""
        doc = docstring(node, " " * 8)
        returns = node.returns or ast.Constant(None)
        blocking = DUNDERS.get(name, name)
        if marks & {"classmethod", "staticmethod"}:
            raise SystemExit(f"{home.name}: no rule for class and static methods: {name}")
        head = self.head(node, home, blocking)
        if "asynccontextmanager" in marks or "AsyncContextManager" in ast.unparse(returns):
            return (
                f"    def {head}:\n{doc}        return self._within(self._async.{name}({given}))\n"
            )
        if gives_items(node):
            item = returns.slice if isinstance(returns, ast.Subscript) else None
            items = f"self._iterate(self._async.{name}({given}))"
            wrapped = self.wrap(item, "item") if item is not None else None
            value = f"({wrapped} for item in {items})" if wrapped else items
        else:
            way = "self._run" if isinstance(node, ast.AsyncFunctionDef) else "self._call"
            if closes:
                way = "self._let_go"
            if overloaded:  # the arguments here fit all forms, the checker sees one at a time
                self.imports.add(("typing", "Any"))
                way = f"cast(Any, {way})"
            value = f"{way}(self._async.{name}{comma}{given})"
            if name in DIRECT:
                value = f"self._async.{name}({given})"
            value = self.wrap(returns, value) or value
        give = "" if ast.unparse(returns) == "None" else "return "
        return f"    def {head}:\n{doc}        {give}{value}\n"

    def head(self, node: Function, home: Module, name: str) -> str:
        returns = self.annotation(node.returns or ast.Constant(None), home)
        marks = decorators(node)
        if "asynccontextmanager" in marks:
            self.imports.add(("contextlib", "AbstractContextManager"))
            returns = returns.replace("Iterator[", "AbstractContextManager[", 1)
        return f"{name}{self.signature(node, home)} -> {returns}"

    def annotation(self, node: ast.expr, home: Module, *, taken: bool = False) -> str:
        copy = ast.parse(ast.unparse(node), mode="eval").body
        return ast.unparse(Blocking(self, home, taken=taken).visit(copy))

    def signature(self, node: Function, home: Module) -> str:
        args = ast.parse(f"def f({ast.unparse(node.args)}): ...").body[0]
        assert isinstance(args, ast.FunctionDef)
        for arg in every_argument(args.args):
            if arg.annotation is not None:
                text = self.annotation(arg.annotation, home, taken=True)
                arg.annotation = ast.parse(text, mode="eval").body
        for default in [*args.args.defaults, *args.args.kw_defaults]:
            for name in (
                n for n in ast.walk(default or ast.Constant(0)) if isinstance(n, ast.Name)
            ):
                self.need(name.id, home)
        return f"({ast.unparse(args.args)})"

    def arguments(self, node: Function) -> str:
        args = node.args
        positional = [*args.posonlyargs, *args.args][1:]
        given = [self.argument(arg) for arg in positional]
        if args.vararg:
            given.append(f"*{args.vararg.arg}")
        given += [f"{arg.arg}={self.argument(arg)}" for arg in args.kwonlyargs]
        if args.kwarg:
            given.append(f"**{args.kwarg.arg}")
        return ", ".join(given)

    def argument(self, arg: ast.arg) -> str:
        names = {n.id for n in ast.walk(arg.annotation or arg) if isinstance(n, ast.Name)}
        twins = {name for name in names & set(self.twins) if not self.is_str(self.twins[name])}
        if twins or names & set(ALSO_TAKES):
            self.imports.add(("omniq._twin", "inner"))
            return f"inner({arg.arg})"
        return arg.arg

    def is_str(self, face: Face) -> bool:
        return "str" in base_names(find_class(face.module, face.name)[1])

    def wrap(self, annotation: ast.expr, value: str) -> str | None:
        """An expression that wraps the async objects in `value`; None: there are none."""
        if isinstance(annotation, ast.Name) and annotation.id == "Self":
            self.imports.add(("typing", "Self"))
            return f"self._self({value})"
        head = annotation.value if isinstance(annotation, ast.Subscript) else annotation
        if isinstance(head, ast.Name) and head.id in self.twins:
            face = self.twins[head.id]
            twin = ast.unparse(annotation).replace(head.id, face.twin, 1)
            if face.again is None:
                return f"{twin}._of({value})"
            return f"{twin}._of({value}, lambda made: {face.again})"
        if isinstance(annotation, ast.BinOp):  # X | None
            sides = [annotation.left, annotation.right]
            inner = [side for side in sides if ast.unparse(side) != "None"]
            wrapped = self.wrap(inner[0], "some") if len(inner) == 1 else None
            return wrapped and f"None if (some := {value}) is None else {wrapped}"
        if isinstance(annotation, ast.Subscript) and isinstance(head, ast.Name):
            if head.id in ("list", "Sequence", "Iterable") and (
                wrapped := self.wrap(annotation.slice, "item")
            ):
                return f"[{wrapped} for item in {value}]"
            if head.id == "dict" and isinstance(annotation.slice, ast.Tuple):
                wrapped = self.wrap(annotation.slice.elts[1], "item")
                return wrapped and f"{{key: {wrapped} for key, item in {value}.items()}}"
        return None


DUNDERS = {"__anext__": "__next__", "__aiter__": "__iter__", "__len__": "__len__"}


def docstring(node: ast.ClassDef | Function, indent: str) -> str:
    text = ast.get_docstring(node)
    if not text:
        return ""
    for pattern, replacement in PLAIN_WORDS:
        text = re.sub(pattern, replacement, text)
    lines = [f"{indent}{line}".rstrip() for line in f'"""{text}'.splitlines()]
    if len(lines) > 1:
        return "\n".join([*lines, f'{indent}"""']) + "\n"
    return f'{lines[0]}"""\n'


PLAIN_WORDS = [
    (r"\basync\s+(with|for)\b", r"\1"),
    (r"the end of the event loop", "the end of the process"),
    (r"`await ", "`"),
    (r"\bAsync(?=[A-Z]\w+)", ""),
]

HEADER = """The blocking face of OmniQ. Generated by `tools/gen_sync.py`: do not edit.

Each class here is the twin of an async one. It takes the same arguments and gives the same
answers, and its calls block. They run on one event loop in a thread of its own, which starts
with the first call and ends with the process; `._async` is the async object behind a twin.
Inside a running event loop every call raises `SyncInAsync`.
"""


def import_lines(names: set[tuple[str, str]]) -> list[str]:
    return [
        f"from {module} import {name}" if name else f"import {module}"
        for module, name in sorted(names)
    ]


def formatted(text: str) -> str:
    for tool in (["isort", "-q", "-"], ["black", "-q", "-"]):
        done = subprocess.run(
            [sys.executable, "-m", *tool],
            input=text,
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{tool[0]}: {done.stderr}\n{text}")
        text = done.stdout
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether it is stale")
    check: bool = parser.parse_args().check
    new = Writer(FACES).text()
    old = TARGET.read_text() if TARGET.exists() else ""
    if new == old:
        return 0
    if not check:
        TARGET.write_text(new)
        print(f"wrote {TARGET.relative_to(ROOT)}: {new.count(chr(10))} lines")
        return 0
    changes = [
        line
        for line in difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    print("src/omniq/sync.py is stale: run `python tools/gen_sync.py`", *changes[:20], sep="\n")
    if len(changes) > 20:
        print(f"... and {len(changes) - 20} more lines")
    return 1


if __name__ == "__main__":
    sys.exit(main())
