"""The REST routes of a Litestar app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from litestar.config.csrf import CSRFConfig
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler

from omniq import AsyncOmniQ, DashboardConfig
from omniq.contrib.litestar import OmniQPlugin
from omniq.ids import uuid7
from omniq.testing import collecting, drain

pytestmark = pytest.mark.asyncio

TOKEN = {"authorization": "Bearer secret"}


async def double(x: int) -> int:
    return 2 * x


async def breaks() -> None:
    raise ValueError("no")


@asynccontextmanager
async def served(tmp_path: Path, **options: Any) -> AsyncIterator[tuple[Any, httpx.AsyncClient]]:
    options = {"storage_type": "memory", "dashboard_token": "secret", "api": True} | options
    plugin = OmniQPlugin(base_dir=tmp_path, announce=False, **options)
    app = Litestar(plugins=[plugin])
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    with collecting(plugin.queue):
        async with (
            app.lifespan(),
            httpx.AsyncClient(
                transport=transport, base_url="http://test/omniq/api", headers=TOKEN
            ) as client,
        ):
            yield app, client


async def test_tasks_are_listed_shown_and_acted_on(tmp_path: Path) -> None:
    async with served(tmp_path) as (app, client):
        queue: AsyncOmniQ = app.state.omniq
        done = await queue.enqueue(double, (2,), tags=["sum"], priority=3)
        dead = await queue.enqueue(breaks, retries=0, queue="mails")
        await drain(queue)
        late = await queue.enqueue(double, (3,), delay=3600)

        assert (await client.get("/queues")).json() == [
            {"name": "default", "counts": {"scheduled": 1, "succeeded": 1}},
            {"name": "mails", "counts": {"failed": 1}},
        ]
        assert (await client.get("/workers")).json() == []

        page = (await client.get("/tasks")).json()
        assert [task["id"] for task in page["tasks"]] == [late, dead, done]
        wanted: dict[str, Any] = {"status": ["failed", "scheduled"], "queue": "default"}
        page = (await client.get("/tasks", params=wanted)).json()
        assert [task["id"] for task in page["tasks"]] == [late]
        page = (await client.get("/tasks", params={"tag": "sum"})).json()
        (task,) = page["tasks"]
        assert (task["status"], task["worker_type"], task["priority"]) == ("succeeded", "async", 3)
        first = (await client.get("/tasks", params={"limit": 2})).json()
        second = (await client.get("/tasks", params={"limit": 2, "cursor": first["cursor"]})).json()
        assert [task["id"] for task in second["tasks"]] == [done]

        shown = (await client.get(f"/tasks/{done}")).json()
        assert (shown["arguments"], shown["result"]) == ({"args": [2], "kwargs": {}}, 4)
        (error,) = (await client.get(f"/tasks/{dead}")).json()["errors"]
        assert (error["type"], error["message"], error["attempt"]) == ("ValueError", "no", 1)

        assert (await client.post(f"/tasks/{dead}/retry")).json()["status"] == "ready"
        assert (await client.post(f"/tasks/{late}/cancel")).json()["status"] == "cancelled"
        assert (await client.delete(f"/tasks/{late}")).status_code == 204
        missing = await client.get(f"/tasks/{late}")
        assert missing.status_code == 404
        assert "no task has the id" in missing.json()["detail"]
        for answer in (
            await client.post(f"/tasks/{done}/cancel"),
            await client.post(f"/tasks/{dead}/retry"),
            await client.delete(f"/tasks/{dead}"),
        ):
            assert answer.status_code == 409, answer.text
        for call in ("get", "delete"):
            assert (await getattr(client, call)(f"/tasks/{uuid7()}")).status_code == 404


async def test_what_is_asked_wrongly_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, client):
        for wrong in ({"status": "lost"}, {"limit": 0}, {"limit": 1000}):
            assert (await client.get("/tasks", params=wrong)).status_code == 400
        assert (await client.get("/nothing")).status_code == 404


async def test_it_is_closed_as_the_dashboard_is(tmp_path: Path) -> None:
    async with served(tmp_path) as (app, client):
        task = await app.state.omniq.enqueue(double, (2,))
        for headers in ({"authorization": ""}, {"authorization": "Bearer other"}):
            answer = await client.get("/queues", headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert (await client.post(f"/tasks/{task}/cancel", headers=headers)).status_code == 401
    async with served(tmp_path, auth=("me", "pass")) as (app, client):
        answer = await client.get("/queues")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Basic")
        assert (await client.get("/queues", auth=("me", "pass"))).status_code == 200
        task = await app.state.omniq.enqueue(double, (2,))
        elsewhere = {"origin": "http://evil.example", "sec-fetch-site": "cross-site"}
        answer = await client.post(f"/tasks/{task}/cancel", auth=("me", "pass"), headers=elsewhere)
        assert answer.status_code == 403
    async with served(tmp_path, dashboard_read_only=True) as (app, client):
        task = await app.state.omniq.enqueue(double, (2,))
        assert (await client.get("/queues")).status_code == 200
        assert (await client.post(f"/tasks/{task}/cancel")).status_code == 403


def members_only(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    if connection.headers.get("x-member") != "yes":
        raise NotAuthorizedException


async def test_the_hosts_guards_decide_where_there_are_some(tmp_path: Path) -> None:
    async with served(tmp_path, guards=[members_only]) as (_, client):
        assert (await client.get("/queues")).status_code == 401
        assert (await client.get("/queues", headers={"x-member": "yes"})).status_code == 200


async def test_the_hosts_form_tokens_are_not_asked_of_programs(tmp_path: Path) -> None:
    plugin = OmniQPlugin(
        base_dir=tmp_path, storage_type="memory", dashboard_token="secret", api=True, announce=False
    )
    app = Litestar(plugins=[plugin], csrf_config=CSRFConfig(secret="a secret of the app"))
    transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
    with collecting(plugin.queue):
        async with (
            app.lifespan(),
            httpx.AsyncClient(transport=transport, base_url="http://test", headers=TOKEN) as client,
        ):
            task = await plugin.queue.enqueue(double, (2,))
            answer = await client.post(f"/omniq/api/tasks/{task}/cancel")
            assert answer.json()["status"] == "cancelled"


async def test_it_is_in_the_schema_if_that_is_wanted(tmp_path: Path) -> None:
    async with served(tmp_path) as (app, _):
        assert app.openapi_schema.to_schema().get("paths", {}) == {}
    async with served(tmp_path, api="/ops", api_in_schema=True) as (app, _):
        schema = app.openapi_schema.to_schema()
        assert sorted(schema["paths"]) == [
            "/ops/queues",
            "/ops/tasks",
            "/ops/tasks/{task_id}",
            "/ops/tasks/{task_id}/cancel",
            "/ops/tasks/{task_id}/retry",
            "/ops/workers",
        ]
        get = schema["paths"]["/ops/tasks/{task_id}"]["get"]
        assert get["tags"] == ["omniq"]
        assert set(get["responses"]) >= {"200", "404"}
        assert schema["components"]["schemas"]["TaskDetail"]["properties"]["run_at"]["format"]


async def test_it_goes_without_the_dashboard_and_twice(tmp_path: Path) -> None:
    shop = OmniQPlugin(base_dir=tmp_path / "a", api=True, dashboard=False, announce=False)
    mail = OmniQPlugin(base_dir=tmp_path / "b", api=True, key="mail", announce=False)
    app = Litestar(plugins=[shop, mail])
    paths = {route.path for route in app.routes}
    assert {"/omniq/api/tasks", "/omniq-mail/api/tasks", "/omniq-mail"} <= paths
    assert "/omniq" not in paths
    assert (shop.api_path, mail.api_path) == ("/omniq/api", "/omniq-mail/api")


async def test_the_dashboards_settings_may_be_given_to_the_plugin(tmp_path: Path) -> None:
    own = DashboardConfig(path="/ops", token="secret", read_only=True)
    async with served(tmp_path, dashboard=own, dashboard_token=None) as (app, client):
        task = await app.state.omniq.enqueue(double, (2,))
        base = "http://test/ops/api"
        assert (await client.get(f"{base}/queues")).status_code == 200
        assert (await client.post(f"{base}/tasks/{task}/cancel")).status_code == 403
        assert (await client.get("http://test/ops/health")).json() == {"status": "ok"}
    off = OmniQPlugin(base_dir=tmp_path, dashboard=DashboardConfig(enabled=False))
    assert off.dashboard_path is None
