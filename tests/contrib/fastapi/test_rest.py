"""The optional REST routes: typed, documented, and closed unless the app opens them."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request

import omniq
from omniq.contrib.fastapi import OmniQExtension, get_queue
from omniq.dashboard import Principal
from tests.contrib.fastapi.kit import add, client, extension, served
from tests.dashboard.kit import TOKEN

pytestmark = pytest.mark.asyncio
API = "/omniq/api"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@omniq.task("fastapi.tests.fail", retries=0, queue="sad")
def fail(text: str) -> None:
    raise ValueError(text)


def included(**options: Any) -> tuple[FastAPI, OmniQExtension]:
    made = extension(**options)
    app = FastAPI()
    app.include_router(made.router)
    return app, made


def with_token(**options: Any) -> tuple[FastAPI, OmniQExtension]:
    return included(dashboard_token=TOKEN, **options)


async def test_tasks_can_be_looked_at() -> None:
    app, made = with_token()
    async with served(app, headers=BEARER) as client:
        good = await made.queue.enqueue(add, (1, 2), tags=["sums"], metadata={"by": "ada"})
        bad = await made.queue.enqueue(fail, ("no",))
        await good.result(60)
        with pytest.raises(omniq.TaskFailed):
            await bad.result(60)
        page = (await client.get(f"{API}/tasks")).json()
        assert {task["id"] for task in page["tasks"]} == {good, bad}
        assert page["cursor"] is None
        one = (await client.get(f"{API}/tasks/{good}")).json()
        assert one["arguments"] == {"args": [1, 2], "kwargs": {}} and one["result"] == 3
        assert (one["status"], one["metadata"]) == ("succeeded", {"by": "ada"})
        other = (await client.get(f"{API}/tasks/{bad}")).json()
        assert other["errors"][0]["message"] == "no" and other["result"] is None
        for query, found in (
            ({"status": "failed"}, {bad}),
            ({"status": ["failed", "succeeded"], "queue": "default"}, {good}),
            ({"name": "fastapi.tests.fail"}, {bad}),
            ({"tag": "sums"}, {good}),
        ):
            page = (await client.get(f"{API}/tasks", params=query)).json()
            assert {task["id"] for task in page["tasks"]} == found, query
        queues = (await client.get(f"{API}/queues")).json()
        assert queues == [
            {"name": "default", "counts": {"succeeded": 1}},
            {"name": "sad", "counts": {"failed": 1}},
        ]
        (worker,) = (await client.get(f"{API}/workers")).json()
        assert worker["embedded"] is True


async def test_pages() -> None:
    app, made = with_token()
    async with served(app, headers=BEARER) as client:
        tasks = [await made.queue.enqueue(add, (1, 2), delay=3600) for _ in range(3)]
        first = (await client.get(f"{API}/tasks", params={"limit": 2})).json()
        params = {"limit": 2, "cursor": first["cursor"]}
        second = (await client.get(f"{API}/tasks", params=params)).json()
        assert [each["id"] for each in first["tasks"] + second["tasks"]] == tasks[::-1]


async def test_actions() -> None:
    app, made = with_token()
    async with served(app, headers=BEARER) as client:
        task = await made.queue.enqueue(add, (1, 2), delay=3600)
        url = f"{API}/tasks/{task}"
        assert (await client.delete(url)).status_code == 409
        assert (await client.post(f"{url}/cancel")).json()["status"] == "cancelled"
        assert (await client.post(f"{url}/cancel")).status_code == 409
        assert (await client.post(f"{url}/retry")).json()["id"] == task
        assert await task.result(60) == 3
        assert (await client.delete(url)).status_code == 204


async def test_bad_requests() -> None:
    app, _ = with_token()
    async with served(app, headers=BEARER) as client:
        missing = await client.get(f"{API}/tasks/01890000-0000-7000-8000-000000000000")
        assert missing.status_code == 404 and "detail" in missing.json()
        for action in ("cancel", "retry"):
            assert (await client.post(f"{API}/tasks/x/{action}")).status_code == 404
        assert (await client.get(f"{API}/tasks", params={"status": "lost"})).status_code == 422
        assert (await client.get(f"{API}/tasks", params={"limit": 1000})).status_code == 422


async def test_it_is_closed_by_the_dashboards_token() -> None:
    app, _ = with_token()
    async with served(app) as client:
        refused = await client.get(f"{API}/tasks")
        assert (refused.status_code, refused.json()) == (401, {"detail": "sign in first"})
        assert refused.headers["www-authenticate"] == "Bearer"
        wrong = {"authorization": "Bearer something"}
        assert (await client.get(f"{API}/tasks", headers=wrong)).status_code == 401
        assert (await client.get(f"{API}/tasks", headers=BEARER)).status_code == 200


async def test_a_browser_that_is_signed_in_may_use_it_from_this_site_only() -> None:
    app, made = with_token()
    async with served(app) as client:
        await client.get(f"/omniq/?token={TOKEN}")
        assert client.cookies
        client.cookies = httpx.Cookies({each.name: each.value or "" for each in client.cookies.jar})
        assert (await client.get(f"{API}/tasks")).status_code == 200
        task = await made.queue.enqueue(add, (1, 2), delay=3600)
        url = f"{API}/tasks/{task}/cancel"
        for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
            answer = await client.post(url, headers={"sec-fetch-site": site})
            assert answer.status_code == status, site


async def test_it_is_closed_by_the_apps_own_answer() -> None:
    def auth(request: Request) -> Any:
        assert request.app is app
        name = request.headers.get("x-user")
        return Principal(name, read_only=name == "eve") if name else None

    app, made = included(auth=auth)
    async with served(app) as client:
        assert (await client.get(f"{API}/tasks")).status_code == 401
        task = await made.queue.enqueue(add, (1, 2), delay=3600)
        url, eve, ada = f"{API}/tasks/{task}/cancel", {"x-user": "eve"}, {"x-user": "ada"}
        assert (await client.get(f"{API}/tasks", headers=eve)).status_code == 200
        assert (await client.post(url, headers=eve)).status_code == 403
        assert (await client.post(url, headers=ada)).status_code == 200
        async with asyncio.timeout(60), made.queue.listen({"events"}) as ear:
            while "'actor': 'ada'" not in str((await made.queue.events()).events):
                await ear.wait(1)


async def test_a_password_opens_it() -> None:
    app, _ = included(auth=("ada", "secret"))
    async with served(app) as client:
        assert (await client.get(f"{API}/tasks")).headers["www-authenticate"] == "Basic"
        assert (await client.get(f"{API}/tasks", auth=("ada", "secret"))).status_code == 200


async def test_a_read_only_dashboard_means_read_only_routes() -> None:
    app, made = with_token(dashboard_read_only=True)
    async with served(app, headers=BEARER) as client:
        task = await made.queue.enqueue(add, (1, 2), delay=3600)
        assert (await client.get(f"{API}/tasks/{task}")).status_code == 200
        assert (await client.post(f"{API}/tasks/{task}/cancel")).status_code == 403


async def test_dependencies_of_the_app_open_it_instead() -> None:
    def admin(request: Request) -> None:
        if request.headers.get("x-user") != "ada":
            raise HTTPException(418, "not for you")

    made = extension()
    app = FastAPI()
    app.include_router(made.make_router(prefix="/tasks-api", dependencies=[Depends(admin)]))
    async with served(app) as client:
        assert (await client.get("/tasks-api/tasks")).status_code == 418
        task = await made.queue.enqueue(add, (1, 2), delay=3600)
        answer = await client.post(f"/tasks-api/tasks/{task}/cancel", headers={"x-user": "ada"})
        assert answer.status_code == 200


async def test_no_dependencies_open_nothing() -> None:
    made = extension()
    app = FastAPI()
    app.include_router(made.make_router(dependencies=[]))
    async with served(app) as client:
        assert (await client.get(f"{API}/tasks")).status_code == 401


async def test_read_only_holds_where_the_app_lets_people_in() -> None:
    made = extension(dashboard_read_only=True)
    app = FastAPI()
    app.include_router(made.make_router(dependencies=[Depends(lambda: None)]))
    async with served(app) as client:
        task = await made.queue.enqueue(add, (1, 2), delay=3600)
        assert (await client.get(f"{API}/tasks")).status_code == 200
        assert (await client.delete(f"{API}/tasks/{task}")).status_code == 403


async def test_dependencies_of_the_whole_app_open_nothing() -> None:
    made = extension()
    app = FastAPI(dependencies=[Depends(lambda: None)])
    app.include_router(made.router, dependencies=[Depends(lambda: None)])
    async with served(app) as client:
        assert (await client.get(f"{API}/tasks")).status_code == 401


async def test_the_schema_says_what_is_answered() -> None:
    app, _ = with_token()
    schema = app.openapi()
    paths = schema["paths"]
    assert f"{API}/tasks/{{task_id}}" in paths and not [p for p in paths if "health" in p]
    operations = [each for path in paths.values() for each in path.values()]
    assert all(each["tags"] == ["omniq"] and each["security"] for each in operations)
    assert {"TaskPage", "TaskDetail", "QueueOut", "WorkerOut"} <= set(
        schema["components"]["schemas"]
    )
    assert schema["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


async def test_without_the_lifespan_it_says_what_is_missing() -> None:
    app, _ = with_token()
    async with client(app, headers=BEARER) as visitor:
        with pytest.raises(omniq.NotStarted, match="enter the app's lifespan"):
            await visitor.get(f"{API}/tasks")


async def test_a_test_may_replace_the_queue_here_too() -> None:
    app, _ = with_token()
    async with omniq.AsyncOmniQ(storage_type="memory") as other:
        app.dependency_overrides[get_queue] = lambda: other
        task = await other.enqueue(add, (1, 2), delay=3600)
        async with client(app, headers=BEARER) as visitor:
            page = (await visitor.get(f"{API}/tasks")).json()
            assert [each["id"] for each in page["tasks"]] == [task]
