"""What the page of the documentation shows is run: its app, and the tests it writes for it."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from omniq.contrib import fastapi
from omniq.serialization import FUNCTIONS
from tests.test_docs import ROOT, blocks

pytestmark = pytest.mark.asyncio
PAGE = blocks(ROOT / "docs" / "fastapi.md")
TESTS = [
    block for block in PAGE if "app.router.lifespan_context" in block or "TestClient(" in block
]


def compiled(text: str) -> CodeType:
    made: CodeType = compile(text, "page.py", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return made


@pytest.mark.parametrize("number", range(3))
async def test_the_tests_on_the_page_pass(number: int, here: Path) -> None:
    assert len(TESTS) == 3
    names: dict[str, Any] = {"__name__": "page"}
    exec(compiled(PAGE[0].replace("@omniq.task(", '@omniq.task("page.send", ')), names)
    code = compiled(TESTS[number])
    result = eval(code, names)
    if code.co_flags & inspect.CO_COROUTINE:
        await result
    assert (here / ".omniq").is_dir()
    assert names["omniq"] is fastapi and FUNCTIONS.knows("page.send")


@pytest.mark.parametrize("number", range(len(PAGE)))
async def test_every_app_on_the_page_starts(number: int) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    if PAGE[number] in TESTS:
        return
    text = PAGE[number].replace('"/var/lib/shop"', '".shop"')
    exec(compiled(text.replace("@omniq.task(", f'@omniq.task("page.{number}", ')), names)
    app = names.get("app")
    if app is not None:
        async with app.router.lifespan_context(app):
            assert app.state.omniq.describe()
