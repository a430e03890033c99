"""Starlette needs no FastAPI, and importing either starts nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.programs import run

pytestmark = [pytest.mark.asyncio, pytest.mark.once]
BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("fastapi", "pydantic", "django", "litestar"[: LITESTAR]):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
"""
PROGRAM = """
import asyncio, httpx, omniq as core
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from omniq.contrib import starlette as omniq

@core.task("double")
def double(x: int) -> int:
    return x * 2

async def start(request):
    return PlainTextResponse(await omniq.get_queue(request).enqueue(double, (21,)))

app = Starlette(routes=[Route("/", start)], lifespan=omniq.lifespan)

async def main():
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            task = (await client.get("/")).text
            print(await app.state.omniq.get_result(task, 60))
            print((await client.get("/omniq/health")).text)

asyncio.run(main())
assert not {"fastapi", "django"} & set(sys.modules)
"""


async def test_everything_works_where_fastapi_cannot_be_imported(here: Path) -> None:
    (here / "program.py").write_text(BLOCKED.replace("LITESTAR", "0") + PROGRAM)
    done = run(["program.py"], cwd=here)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["42", '{"status":"ok"}']
    app = PROGRAM.partition("async def main")[0]
    (here / "app.py").write_text(BLOCKED.replace("LITESTAR", "0") + app)
    done = run(["-m", "omniq.cli", "status", "app:app", "--json"], cwd=here, paths=[here])
    assert done.returncode == 0, done.stderr
    assert '"succeeded": 1' in done.stdout


@pytest.mark.parametrize("room", ["starlette", "fastapi"])
async def test_importing_makes_nothing_and_does_not_load_the_dashboard(
    here: Path, room: str
) -> None:
    (here / "program.py").write_text(
        "import sys\n"
        f"from omniq.contrib import {room} as omniq\n"
        "omniq.lifespan, omniq.init_app\n"
        "print([name for name in ('litestar', 'htpy', 'django', 'uvicorn') if name in sys.modules])\n"
    )
    done = run(["program.py"], cwd=here)
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert [path.name for path in here.iterdir()] == ["program.py"]


@pytest.mark.parametrize("room", ["starlette", "fastapi"])
async def test_a_missing_extra_is_named(here: Path, room: str) -> None:
    (here / "program.py").write_text(
        f"import sys\nsys.modules[{room!r}] = None\n"
        f"try:\n    import omniq.contrib.{room}\n"
        "except ModuleNotFoundError as error:\n    print(error)\n"
    )
    done = run(["program.py"], cwd=here)
    wanted = f"omniq.contrib.{room} needs {room}: pip install 'omniq-tasks[{room}]'\n"
    assert (done.stdout, done.stderr) == (wanted, "")


async def test_without_a_dashboard_litestar_is_not_needed(here: Path) -> None:
    program = PROGRAM.replace('            print((await client.get("/omniq/health")).text)\n', "")
    program = program.replace(
        "lifespan=omniq.lifespan", "lifespan=omniq.OmniQExtension(dashboard=False).lifespan"
    )
    (here / "program.py").write_text(BLOCKED.replace("LITESTAR", "8") + program)
    done = run(["program.py"], cwd=here)
    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr
