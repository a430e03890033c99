"""What `import omniq` offers, and how little it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import omniq

LAZY = ["omniq", "omniq.storage"]
OFFERED: list[str] = import_module("omniq").__all__

# Imported by whoever uses them, never by `import omniq` or one of its light packages.
HEAVY = {
    *("aiosqlite", "sqlite3", "obstore", "dill", "croniter", "yaml", "msgspec", "asyncio"),
    *("litestar", "htpy", "datastar_py", "uvicorn", "click", "rich", "PIL", "gevent"),
}


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_import_is_light() -> None:
    assert loaded_by("import omniq, omniq.storage") & HEAVY == set()


def test_a_queue_loads_only_the_place_it_uses() -> None:
    memory = loaded_by("from omniq import TaskQueue; TaskQueue('memory').describe()")
    assert "aiosqlite" not in memory
    sqlite = loaded_by("from omniq import TaskQueue; TaskQueue('sqlite').describe()")
    assert "obstore" not in sqlite
    web = {"litestar", "htpy", "datastar_py", "uvicorn", "click", "rich", "PIL", "gevent"}
    assert (memory | sqlite) & web == set()


@pytest.mark.parametrize("package", LAZY)
def test_every_offered_name_can_be_had(package: str) -> None:
    module = import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)
    with pytest.raises(AttributeError, match=f"{package}.*no attribute 'TaskQeue'"):
        _ = module.TaskQeue


def test_type_checkers_see_the_same_names() -> None:
    assert omniq.__file__ is not None
    tree = ast.parse(Path(omniq.__file__).read_text())
    typed = [
        (alias.asname, f"{node.module}.{alias.name}")
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(name for name, _ in typed if name) == OFFERED
    for name, home in typed:
        module, _, original = home.rpartition(".")
        assert getattr(import_module(module), original) is getattr(omniq, name or "")


def test_star_import_gives_what_all_says() -> None:
    names: dict[str, object] = {}
    exec("from omniq import *", names)
    assert set(OFFERED) <= set(names)


def test_the_version_is_that_of_the_distribution() -> None:
    assert omniq.__version__ == version("omniq-tasks")


def test_the_package_says_it_is_typed() -> None:
    assert omniq.__file__ is not None
    assert Path(omniq.__file__).with_name("py.typed").exists()
