"""The dashboard inside other apps: links are right, hosts keep their manners, and so do we."""

from __future__ import annotations

import logging
import re
from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, Response, Router, asgi, get, post
from litestar.config.csrf import CSRFConfig
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler
from litestar.types import Receive, Scope, Send

from omniq import AsyncOmniQ
from omniq.dashboard import DashboardApp, dashboard_router, mounted
from omniq.dashboard.mount import PREFIX, inner_scope
from omniq.models.status import Status
from tests.dashboard.kit import SAME, TOKEN, client, form_token, until
from tests.dashboard.shop import add, fail

pytestmark = [pytest.mark.asyncio, pytest.mark.once]


async def check(app: Any, prefix: str, queue: AsyncOmniQ) -> None:
    """Everything a visitor does below `prefix`, following only links of the pages."""
    task_id = await queue.enqueue(fail, ("no",))
    await until(queue, task_id, Status.FAILED)
    async with client(app) as visitor:
        assert (await visitor.get(f"{prefix}/")).status_code == 401
        answer = await visitor.get(f"{prefix}/tasks?token={TOKEN}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"{prefix}/tasks")
        assert f"Path={prefix or '/'};" in answer.headers["set-cookie"]
        for path in ("/", "/tasks", "/workers", "/about", f"/tasks/{task_id}"):
            text = (await visitor.get(prefix + path)).text
            links = re.findall(r'(?:href|src|action)="([^"#]+)', text)
            assert len(links) > 10
            assert all(link.startswith(f"{prefix}/") for link in links), links
            for link in set(links) - {f"{prefix}/theme", f"{prefix}/logout"}:
                if re.search(r"/(retry|delete|cancel)$", link):
                    continue
                found = await visitor.get(link.replace("&amp;", "&"))
                assert found.status_code == 200, link
            calls = re.findall(r"data-init=\"@get\(&#34;(.*?)&#34;", text)
            for call in calls:
                stream = await visitor.get(call.replace("&amp;", "&") + "&once=1")
                assert stream.headers["content-type"].startswith("text/event-stream")
        assert calls
        answer = await visitor.post(
            f"{prefix}/tasks/{task_id}/retry",
            data={"_token": form_token(text)},
            headers=SAME,
        )
        assert answer.headers["location"] == f"{prefix}/tasks/{task_id}?notice=retried"
        assert (await visitor.get(f"{prefix}/no/such/page")).status_code == 404


async def test_alone(queue: AsyncOmniQ) -> None:
    await check(DashboardApp(queue), "", queue)


@pytest.mark.parametrize("path", ["/omniq", "/a/b", "/tasks", "/omniq/"])
async def test_as_a_router_of_a_litestar_host(queue: AsyncOmniQ, path: str) -> None:
    app = Litestar([dashboard_router(lambda: queue, path)], logging_config=None)
    await check(app, path.rstrip("/"), queue)


async def test_in_a_router_of_the_host_with_a_parameter(queue: AsyncOmniQ) -> None:
    inner = Router("/{team:str}", route_handlers=[dashboard_router(lambda: queue, "/ops")])
    app = Litestar([Router("/admin", route_handlers=[inner])], logging_config=None)
    await check(app, "/admin/red/ops", queue)


async def test_mounted_by_litestar(queue: AsyncOmniQ) -> None:
    inside = mounted(DashboardApp(queue), "/omniq")

    @asgi("/omniq", is_mount=True, copy_scope=True)
    async def dashboard(scope: Scope, receive: Receive, send: Send) -> None:
        await inside(scope, receive, send)

    await check(Litestar([dashboard], logging_config=None), "/omniq", queue)


def host(app: Any, *, root: str, strip: bool, server_root: str = "") -> Any:
    """What Starlette, FastAPI and Django do: a mount at `root` below a server's own root."""

    async def serving(scope: Any, receive: Any, send: Any) -> None:
        inner = dict(scope)
        whole = server_root + root
        inner["root_path"] = whole
        inner["path"] = scope["path"][len(whole) :] if strip else scope["path"]
        inner["state"] = {"theirs": 1}
        inner["path_params"] = {"path": "theirs"}
        inner["app"] = object()
        await app(inner, receive, send)

    return serving


@pytest.mark.parametrize("strip", [True, False])
@pytest.mark.parametrize("server_root", ["", "/api", "/deep/er"])
async def test_mounted_by_other_hosts(queue: AsyncOmniQ, strip: bool, server_root: str) -> None:
    for app in (DashboardApp(queue), mounted(DashboardApp(queue))):
        serving = host(app, root="/omniq", strip=strip, server_root=server_root)
        await check(serving, f"{server_root}/omniq", queue)


@pytest.mark.parametrize(
    ("root", "path", "prefix", "expected"),
    [
        ("", "/", "", ("", "/")),
        ("", "/tasks", "", ("", "/tasks")),
        ("/omniq", "/omniq", "", ("/omniq", "/")),
        ("/omniq", "/omniq/tasks", "", ("/omniq", "/tasks")),
        ("/omniq", "/tasks", "", ("/omniq", "/tasks")),
        ("/api/omniq", "/omniq/tasks", "", ("/api/omniq", "/tasks")),  # a proxy took /api
        ("/ta", "/tasks", "", ("/ta", "/tasks")),
        ("", "/tasks", "/omniq", ("/omniq", "/tasks")),  # Litestar's mount
        ("", "/omniq/tasks", "/omniq", ("/omniq", "/tasks")),
        ("/api", "/tasks", "omniq/", ("/api/omniq", "/tasks")),
        ("/api/", "/api/x", "", ("/api", "/x")),
    ],
)
async def test_paths(root: str, path: str, prefix: str, expected: tuple[str, str]) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    outer: Any = {"type": "http", "root_path": root, "path": path, "state": {"a": 1}}
    await mounted(app, prefix)(outer, None, None)  # type: ignore[arg-type]
    assert (seen[0][PREFIX], seen[0]["path"]) == expected
    seen[0]["state"]["b"] = 2
    assert outer["state"] == {"a": 1}
    assert inner_scope(outer, "")["root_path"] == ""


async def test_a_mounted_dashboard_answers_no_lifespan(queue: AsyncOmniQ) -> None:
    async def never(*_: Any) -> Any:
        raise AssertionError("asked")

    await mounted(DashboardApp(queue))({"type": "lifespan"}, never, never)  # type: ignore[typeddict-item]


async def test_guards_of_the_host_open_it_and_name_the_visitor(queue: AsyncOmniQ) -> None:
    def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        if connection.headers.get("x-user") != "ada":
            raise NotAuthorizedException

    app = Litestar([dashboard_router(lambda: queue, guards=[guard])], logging_config=None)
    async with client(app) as visitor:
        refused = await visitor.get("/omniq")
        assert refused.status_code == 401
        assert "content-security-policy" in refused.headers
        assert (await visitor.get(f"/omniq?token={TOKEN}")).status_code == 401
        assert (await visitor.get("/omniq", headers={"x-user": "ada"})).status_code == 200


async def test_the_hosts_own_layers_do_no_harm(queue: AsyncOmniQ) -> None:
    """Hooks, DTOs, handlers and CSRF of the host are made for its own handlers."""

    def before(request: Request[Any, Any, Any]) -> dict[str, str]:
        return {"from": "the host"}

    def after(response: Response[Any]) -> Response[Any]:
        response.content["seen"] = True
        return response

    def on_error(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
        return Response({"host": "error"}, status_code=599)

    @get("/", sync_to_thread=False)
    def home() -> dict[str, str]:
        return {}

    @post("/home", sync_to_thread=False)
    def change() -> dict[str, str]:
        return {}

    app = Litestar(
        [home, change, dashboard_router(lambda: queue)],
        before_request=before,
        after_request=after,
        exception_handlers={Exception: on_error},
        csrf_config=CSRFConfig(secret="s" * 32),
        logging_config=None,
    )
    async with client(app) as visitor:
        assert (await visitor.get("/")).json() == {"from": "the host", "seen": True}
    await check(app, "/omniq", queue)
    schema = app.openapi_schema.to_schema()
    assert not [path for path in schema["paths"] if "omniq" in path]


async def test_two_dashboards_in_one_host(queue: AsyncOmniQ) -> None:
    app = Litestar(
        [dashboard_router(lambda: queue, "/one"), dashboard_router(lambda: queue, "/two")],
        logging_config=None,
    )
    await check(app, "/one", queue)
    await check(app, "/two", queue)


async def test_names_of_the_handlers_are_ours(queue: AsyncOmniQ) -> None:
    app = Litestar([dashboard_router(lambda: queue)], logging_config=None)
    names = [
        handler.name
        for route in app.routes
        if route.path.startswith("/omniq")
        for handler in getattr(route, "route_handlers", [])
        if handler.fn.__name__ != "options_handler"
    ]
    assert len(names) >= 10
    assert all(name and name.startswith("omniq:") for name in names), names
    assert app.route_reverse("omniq:task", task_id="x") == "/omniq/tasks/x"


async def test_the_hosts_logging_stays_as_it_is(queue: AsyncOmniQ) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    DashboardApp(queue)
    assert (root.level, list(root.handlers)) == before


async def test_a_host_that_has_not_started_its_queue(queue: AsyncOmniQ) -> None:
    from omniq.errors import NotStarted

    def provider() -> AsyncOmniQ:
        raise NotStarted("the queue is opened when the app starts")

    app = Litestar([dashboard_router(provider)], logging_config=None)
    async with client(app) as visitor:
        answer: httpx.Response = await visitor.get("/omniq")
        assert answer.status_code == 500
        assert "content-security-policy" in answer.headers


async def test_results_of_the_host_queue_are_seen(queue: AsyncOmniQ) -> None:
    app = Litestar([dashboard_router(lambda: queue)], logging_config=None)
    async with client(app) as visitor:
        await visitor.get(f"/omniq?token={TOKEN}")
        await queue.get_result(await queue.enqueue(add, (40, 2)), timeout=60)
        assert "shop:add" in (await visitor.get("/omniq/tasks")).text
