"""What a Litestar developer gets for `plugins=[OmniQPlugin()]`."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar, get, post
from litestar.config.csrf import CSRFConfig
from litestar.di import NamedDependency, Provide
from litestar.exceptions import LitestarDeprecationWarning
from litestar.params import FromQuery, JSONBody
from litestar.testing import TestClient

import omniq
from omniq import AsyncOmniQ, AsyncTaskHandle
from omniq.contrib.litestar import OmniQPlugin
from omniq.contrib.role import acting_as
from omniq.errors import ConfigError, StorageError

pytestmark = pytest.mark.asyncio


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@asynccontextmanager
async def served(app: Litestar) -> AsyncIterator[httpx.AsyncClient]:
    """The app, started in this very loop, so that its queue can be asked from here too."""
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    async with (
        app.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client


def add(x: int, y: int) -> int:
    return x + y


class Accepted(msgspec.Struct):
    task: AsyncTaskHandle[int]
    note: str


@post("/add")
async def enqueue_add(
    queue: NamedDependency[AsyncOmniQ], x: FromQuery[int], y: FromQuery[int]
) -> AsyncTaskHandle[int]:
    return await queue.enqueue(add, (x, y))


@post("/dict")
async def enqueue_in_dict(queue: NamedDependency[AsyncOmniQ]) -> dict[str, Any]:
    return {"task": await queue.enqueue(add, (1, 2))}


@post("/struct")
async def enqueue_in_struct(queue: NamedDependency[AsyncOmniQ]) -> Accepted:
    return Accepted(task=await queue.enqueue(add, (1, 2)), note="on its way")


async def test_without_any_setting_tasks_run_in_the_app(here: Path) -> None:
    app = Litestar([enqueue_add], plugins=[OmniQPlugin()])
    async with served(app) as client:
        answer = await client.post("/add", params={"x": 5, "y": 10})
        assert answer.status_code == 201
        assert await app.state.omniq.get_result(answer.text, timeout=20) == 15
        assert [card.embedded for card in await app.state.omniq.workers()] == [True]
    assert (here / ".omniq" / ".gitignore").read_text() == "*\n"


async def test_a_handle_is_sent_like_the_string_it_is() -> None:
    app = Litestar([enqueue_in_dict, enqueue_in_struct], plugins=[OmniQPlugin()])
    async with served(app) as client:
        for path in ("/dict", "/struct"):
            answer = await client.post(path)
            assert answer.status_code == 201, answer.text
            assert await app.state.omniq.get_result(answer.json()["task"], timeout=20) == 3


async def test_clients_are_told_that_a_handle_is_a_string() -> None:
    schema = Litestar([enqueue_add, enqueue_in_struct], plugins=[OmniQPlugin()]).openapi_schema
    told = schema.to_schema()
    (answer,) = told["paths"]["/add"]["post"]["responses"]["201"]["content"].values()
    assert answer["schema"]["type"] == "string"
    assert told["components"]["schemas"]["Accepted"]["properties"]["task"]["type"] == "string"


async def test_annotations_may_be_strings_of_names_imported_for_type_checkers_only(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "late_names.py").write_text("""\
from __future__ import annotations
from typing import TYPE_CHECKING
from litestar import post
if TYPE_CHECKING:
    from litestar.di import NamedDependency
    from omniq import AsyncOmniQ, AsyncTaskHandle

@post("/late")
async def late(queue: NamedDependency[AsyncOmniQ]) -> AsyncTaskHandle[int]:
    return await queue.enqueue(len, ("four",))
""")
    monkeypatch.syspath_prepend(here)
    import late_names  # type: ignore[import-not-found]

    app = Litestar([late_names.late], plugins=[OmniQPlugin()])
    async with served(app) as client:
        task = (await client.post("/late")).text
        assert await app.state.omniq.get_result(task, timeout=20) == 4
    del sys.modules["late_names"]


class Task(msgspec.Struct):
    """The app's own word, which happens to be one of ours."""

    title: str


@post("/todo")
async def todo(data: JSONBody[Task]) -> str:
    return data.title


async def test_names_of_the_app_are_not_taken_over() -> None:
    """Litestar prefers a plugin's names to a module's own: ours must be nobody else's."""
    app = Litestar([todo], plugins=[OmniQPlugin()])
    async with served(app) as client:
        assert (await client.post("/todo", json={"title": "wash up"})).text == "wash up"


async def test_the_dependency_may_have_another_name() -> None:
    @post("/")
    async def enqueue(tasks: NamedDependency[AsyncOmniQ]) -> str:
        return await tasks.enqueue(add, (2, 2))

    app = Litestar([enqueue], plugins=[OmniQPlugin(key="tasks")])
    async with served(app) as client:
        task = (await client.post("/")).text
        assert await app.state.omniq_tasks.get_result(task, timeout=20) == 4


async def test_a_plain_parameter_is_filled_as_well() -> None:
    @post("/")
    async def enqueue(queue: AsyncOmniQ) -> str:
        return await queue.enqueue(add, (3, 4))

    with pytest.warns(LitestarDeprecationWarning, match="Inferred dependency field 'queue'"):
        app = Litestar([enqueue], plugins=[OmniQPlugin()])
    async with served(app) as client:
        task = (await client.post("/")).text
        assert await app.state.omniq.get_result(task, timeout=20) == 7


async def test_two_plugins_live_in_one_app(here: Path) -> None:
    @post("/")
    async def enqueue(
        queue: NamedDependency[AsyncOmniQ], emails: NamedDependency[AsyncOmniQ]
    ) -> list[str]:
        return [await queue.enqueue(add, (1, 1)), await emails.enqueue(add, (2, 2))]

    emails = OmniQPlugin({"base_dir": ".emails"}, key="emails")
    app = Litestar([enqueue], plugins=[OmniQPlugin(), emails])
    async with served(app) as client:
        first, second = (await client.post("/")).json()
        assert await app.state.omniq.get_result(first, timeout=20) == 2
        assert await app.state.omniq_emails.get_result(second, timeout=20) == 4
        assert (await client.get("/omniq/health")).status_code == 200
        assert (await client.get("/omniq-emails/health")).status_code == 200
    assert (here / ".emails" / "omniq.db").exists() and (here / ".omniq" / "omniq.db").exists()


async def test_two_plugins_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Litestar(plugins=[OmniQPlugin(), OmniQPlugin({"base_dir": ".emails"})])
    assert str(caught.value) == (
        "two OmniQPlugins of one app both provide the dependency 'queue': give one of them a "
        "name of its own, such as OmniQPlugin(key='emails')"
    )


async def test_a_dependency_of_the_app_is_not_hidden() -> None:
    def mine() -> str:
        return "mine"

    with pytest.raises(ConfigError) as caught:
        Litestar(
            dependencies={"queue": Provide(mine, sync_to_thread=False)}, plugins=[OmniQPlugin()]
        )
    assert str(caught.value) == (
        "the app already has a dependency 'queue', which OmniQPlugin would hide: name the queue "
        "otherwise, such as OmniQPlugin(key='tasks')"
    )


async def test_a_key_that_no_parameter_can_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="has to be a Python identifier"):
        OmniQPlugin(key="my queue")


async def test_a_queue_made_elsewhere_takes_no_settings_here() -> None:
    with pytest.raises(ConfigError, match="both queue= and settings"):
        OmniQPlugin(queue=AsyncOmniQ(), max_workers=3)


order: list[str] = []
slow_started = asyncio.Event()


async def slow() -> None:
    slow_started.set()
    await asyncio.sleep(0.2)
    order.append("task done")


async def test_the_worker_drains_before_what_was_listed_before_is_closed() -> None:
    @asynccontextmanager
    async def database(app: Litestar) -> AsyncIterator[None]:
        order.append("database open")
        yield
        order.append("database closed")

    plugin = OmniQPlugin()
    app = Litestar(lifespan=[database], plugins=[plugin])
    async with app.lifespan():
        await plugin.queue.enqueue(slow)
        await slow_started.wait()
    assert order == ["database open", "task done", "database closed"]


async def test_a_queue_that_cannot_open_fails_the_start(here: Path) -> None:
    (here / "taken").mkdir()
    app = Litestar(plugins=[OmniQPlugin(storage_url=f"sqlite:///{here}/taken")])
    with pytest.RaisesGroup(pytest.RaisesExc(StorageError, match="directory")):
        async with app.lifespan():
            raise AssertionError("it started")


async def test_a_worker_process_enters_the_app_without_a_second_worker() -> None:
    plugin = OmniQPlugin()
    app = Litestar(plugins=[plugin])
    with acting_as("worker"):
        async with app.lifespan():
            task = await plugin.queue.enqueue(add, (1, 2))
            assert await plugin.queue.workers() == []
            assert (await task.status()) == "pending"


async def test_the_app_can_be_started_again() -> None:
    plugin = OmniQPlugin()
    app = Litestar(plugins=[plugin])
    for _ in range(2):
        async with app.lifespan():
            task = await plugin.queue.enqueue(add, (1, 2))
            assert await task.result(timeout=20) == 3


async def test_signal_handlers_of_the_host_stay() -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with Litestar(plugins=[OmniQPlugin()]).lifespan():
        during = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    assert during == before


async def test_the_dashboard_is_closed_by_its_token_and_not_in_the_schema() -> None:
    plugin = OmniQPlugin()
    app = Litestar([enqueue_add], plugins=[plugin])
    async with served(app) as client:
        closed = await client.get("/omniq/tasks", headers={"accept": "application/json"})
        assert closed.status_code == 401
        opened = await client.get(plugin.dashboard_url(""), follow_redirects=True)
        assert opened.status_code == 200 and "Overview" in opened.text
    assert list(app.openapi_schema.to_schema()["paths"]) == ["/add"]


async def test_actions_of_the_dashboard_work_where_the_app_checks_forms_itself() -> None:
    plugin = OmniQPlugin()
    guarded = CSRFConfig(secret="a secret of the app, which the dashboard does not know")
    app = Litestar([enqueue_add], plugins=[plugin], csrf_config=guarded)
    async with served(app) as client:
        task = await plugin.queue.enqueue(add, (1, 2), delay=3600)
        page = await client.get(plugin.dashboard_url(""), follow_redirects=True)
        token = re.search(r'name="_token" value="([0-9a-f]+)"', page.text)
        assert token is not None
        answer = await client.post(f"/omniq/tasks/{task}/retry", data={"_token": token[1]})
        assert answer.status_code == 303, answer.text
        assert await task.result(timeout=20) == 3
        assert (await client.post("/add", params={"x": 1, "y": 1})).status_code == 403


async def test_the_link_is_right_where_the_app_has_a_path() -> None:
    plugin = OmniQPlugin()
    app = Litestar([enqueue_add], path="/api/v1/", plugins=[plugin])
    async with served(app) as client:
        link = plugin.dashboard_url("http://test")
        assert link.startswith("http://test/api/v1/omniq/?token=")
        opened = await client.get(link, follow_redirects=True)
        assert opened.status_code == 200 and 'href="/api/v1/omniq/tasks"' in opened.text


async def test_the_dashboard_can_be_left_out() -> None:
    plugin = OmniQPlugin(dashboard=False)
    async with served(Litestar(plugins=[plugin])) as client:
        assert (await client.get("/omniq/health")).status_code == 404
    with pytest.raises(ConfigError, match="no dashboard"):
        plugin.dashboard_url("")


async def test_guards_replace_the_token() -> None:
    from litestar.connection import ASGIConnection
    from litestar.exceptions import NotAuthorizedException
    from litestar.handlers import BaseRouteHandler

    def only_admins(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        if connection.headers.get("x-user") != "admin":
            raise NotAuthorizedException("not for you")

    plugin = OmniQPlugin(guards=[only_admins])
    async with served(Litestar(plugins=[plugin])) as client:
        assert (await client.get("/omniq/tasks")).status_code == 401
        assert (await client.get("/omniq/tasks", headers={"x-user": "admin"})).status_code == 200
        assert plugin.dashboard_url("http://here") == "http://here/omniq/"


async def test_a_task_function_of_the_app_enqueues_itself() -> None:
    @omniq.task("plugin.test.double")
    async def double(value: int) -> int:
        return value * 2

    @get("/")
    async def start() -> str:
        return await double.enqueue(21)

    app = Litestar([start], plugins=[OmniQPlugin()])
    async with served(app) as client:
        task = (await client.get("/")).text
        assert await app.state.omniq.get_result(task, timeout=20) == 42


async def test_litestars_own_test_client_serves_it() -> None:
    app = Litestar([enqueue_add], plugins=[OmniQPlugin()])
    with TestClient(app) as client, client.portal() as portal:
        task = client.post("/add", params={"x": 20, "y": 22}).text
        assert portal.call(app.state.omniq.get_result, task, 20) == 42
