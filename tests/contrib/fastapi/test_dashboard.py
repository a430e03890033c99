"""The dashboard inside FastAPI and Starlette apps, behind proxies that strip and that do not."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from omniq.contrib.fastapi import OmniQExtension
from omniq.contrib.starlette import OmniQExtension as StarletteExtension
from omniq.dashboard import Principal
from omniq.errors import ConfigError
from tests.contrib.fastapi.kit import add, check, client, extension, served
from tests.dashboard.kit import SAME, TOKEN, form_token

pytestmark = [
    pytest.mark.asyncio,
    # FastAPI would rather be told by the server; that it still works is what counts here.
    pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated"),
]


def with_token(kind: Any = OmniQExtension, **options: Any) -> Any:
    return kind({"dashboard": {"token": TOKEN}}, announce=False, **options)


def fastapi(**options: Any) -> tuple[FastAPI, str, OmniQExtension]:
    omniq = with_token()
    return FastAPI(lifespan=omniq.lifespan, **options), "/omniq", omniq


def starlette() -> tuple[Starlette, str, StarletteExtension]:
    omniq = with_token(StarletteExtension)
    return Starlette(lifespan=omniq.lifespan), "/omniq", omniq


def mounted_by_hand() -> tuple[FastAPI, str, OmniQExtension]:
    app, _, omniq = fastapi()
    app.mount("/ops", omniq.dashboard())
    return app, "/ops", omniq


def mounted_by_routes() -> tuple[Starlette, str, StarletteExtension]:
    omniq = with_token(StarletteExtension)
    inner = [Mount("/{team}", routes=[Mount("/tasks", app=omniq.dashboard())])]
    app = Starlette(routes=[Mount("/admin", routes=inner)], lifespan=omniq.lifespan)
    return app, "/admin/red/tasks", omniq


def below_two_apps() -> tuple[FastAPI, str, OmniQExtension]:
    inner, middle = FastAPI(), Starlette()
    app, _, omniq = fastapi()
    inner.mount("/tasks", omniq.dashboard())
    middle.mount("/inner", inner)
    app.mount("/middle", middle)
    return app, "/middle/inner/tasks", omniq


def before_a_catch_all() -> tuple[FastAPI, str, OmniQExtension]:
    app, _, omniq = fastapi()

    @app.get("/{rest:path}")
    async def page(rest: str) -> str:
        return "theirs"

    app.mount("/", Starlette())
    return app, "/omniq", omniq


FLAT = [fastapi, starlette, mounted_by_hand, before_a_catch_all]
NESTED = [mounted_by_routes, below_two_apps]


def proxied(app: Any, prefix: str, *, strip: bool, root: str) -> Any:
    """A server with `root` as its root path, behind a proxy for everything below `prefix`."""

    async def serving(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"].removeprefix(prefix) if strip else scope["path"]
        await app({**scope, "path": path, "root_path": root}, receive, send)

    return serving


@pytest.mark.parametrize("make", FLAT + NESTED)
async def test_links_and_actions_are_right_in_every_mount(make: Any) -> None:
    app, prefix, omniq = make()
    async with app.router.lifespan_context(app):
        await check(app, prefix, omniq.queue)


@pytest.mark.parametrize("make", FLAT + NESTED)
async def test_links_and_actions_are_right_where_the_server_leaves_its_root_in_the_path(
    make: Any,
) -> None:
    """As uvicorn does."""
    app, prefix, omniq = make()
    served = proxied(app, "/api/v1", strip=False, root="/api/v1")
    async with app.router.lifespan_context(app):
        await check(served, f"/api/v1{prefix}", omniq.queue)


@pytest.mark.parametrize("make", FLAT)
async def test_links_and_actions_are_right_where_the_server_takes_its_root_away(make: Any) -> None:
    """As granian does."""
    app, prefix, omniq = make()
    served = proxied(app, "/api/v1", strip=True, root="/api/v1")
    async with app.router.lifespan_context(app):
        await check(served, f"/api/v1{prefix}", omniq.queue)


@pytest.mark.parametrize("strip", [True, False], ids=["stripped", "whole"])
async def test_links_and_actions_are_right_in_an_app_that_knows_its_root(strip: bool) -> None:
    app, prefix, omniq = fastapi(root_path="/api")
    served = proxied(app, "/api", strip=strip, root="")
    async with app.router.lifespan_context(app):
        await check(served, f"/api{prefix}", omniq.queue)


async def test_links_and_actions_are_right_below_an_app_that_knows_its_root() -> None:
    app, _, omniq = fastapi(root_path="/api")
    inner = FastAPI()
    inner.mount("/ops", omniq.dashboard())
    app.mount("/inner", inner)
    served = proxied(app, "/api", strip=False, root="")
    async with app.router.lifespan_context(app):
        await check(served, "/api/inner/ops", omniq.queue)


async def test_apps_in_apps_behind_a_stripping_proxy_are_not_reached_by_starlette_itself() -> None:
    """Which is why the documentation says to leave the path whole for them. Once this fails,
    NESTED can join FLAT above."""
    inner = Starlette(routes=[Route("/mine", lambda request: PlainTextResponse("theirs"))])
    app = Starlette(routes=[Mount("/a", routes=[Mount("/b", app=inner)])])
    async with client(proxied(app, "/api", strip=True, root="/api")) as browser:
        assert (await browser.get("/api/a/b/mine")).status_code == 404
    async with client(proxied(app, "/api", strip=False, root="/api")) as browser:
        assert (await browser.get("/api/a/b/mine")).text == "theirs"


async def test_the_path_without_a_slash_is_answered_where_it_is() -> None:
    """A redirect would lose what a proxy has stripped."""
    app, prefix, _ = fastapi()
    proxy = proxied(app, "/api", strip=True, root="/api")
    async with app.router.lifespan_context(app), client(proxy) as browser:
        answer = await browser.get(f"/api{prefix}?token={TOKEN}")
        assert (answer.status_code, answer.headers["location"]) == (303, "/api/omniq/")
        assert (await browser.get("/api/omniq")).status_code == 200
        assert (await browser.get("/api/omniqueue")).status_code == 404


async def test_it_stays_out_of_the_schema_and_is_closed() -> None:
    app, _, omniq = fastapi()
    app.get("/mine")(lambda: 1)
    async with served(app) as browser:
        assert list(app.openapi()["paths"]) == ["/mine"]
        page = {"accept": "text/html"}
        assert (await browser.get("/omniq/", headers=page)).status_code == 401
        assert (await browser.get("/omniq/health")).json() == {"status": "ok"}
        link = omniq.dashboard_url(app)
        assert link == f"/omniq/?token={TOKEN}"
        opened = await browser.get(link, follow_redirects=True)
        assert opened.status_code == 200 and "Overview" in opened.text


async def test_the_apps_own_routes_keep_their_place() -> None:
    app, _, _ = fastapi()

    @app.get("/omniq/mine")
    async def mine() -> str:
        return "theirs"

    async with served(app) as browser:
        assert (await browser.get("/omniq/mine")).json() == "theirs"
        assert (await browser.get("/omniq/health")).json() == {"status": "ok"}


async def test_what_the_app_has_mounted_at_that_path_stays() -> None:
    app, _, omniq = fastapi()
    app.mount("/omniq", Starlette(routes=[Route("/", lambda request: PlainTextResponse("theirs"))]))
    async with served(app) as browser:
        assert (await browser.get("/omniq/")).text == "theirs"
        with pytest.raises(ConfigError, match="mounted no dashboard"):
            omniq.dashboard_url(app)


async def test_it_can_be_left_out() -> None:
    app = FastAPI(lifespan=extension(dashboard=False).lifespan)
    async with served(app) as browser:
        assert (await browser.get("/omniq/health")).status_code == 404


async def test_one_mounted_by_hand_is_the_only_one_unless_two_are_asked_for() -> None:
    for dashboard, status in ((None, 404), (True, 200)):
        omniq = with_token(dashboard=dashboard)
        app = FastAPI(lifespan=omniq.lifespan)
        app.mount("/ops", omniq.dashboard())
        async with served(app) as browser:
            assert (await browser.get("/ops/health")).status_code == 200
            assert (await browser.get("/omniq/health")).status_code == status


async def test_a_websocket_below_it_is_closed() -> None:
    app, _, _ = fastapi()
    with (
        TestClient(app) as browser,
        pytest.raises(WebSocketDisconnect),
        browser.websocket_connect("/omniq/ws"),
    ):
        raise AssertionError("it was accepted")


# -- who may see it --------------------------------------------------------------------------

ANSWERS: list[tuple[Any, int]] = [
    (True, 200),
    (False, 401),
    (None, 401),
    ("ada", 200),
    (Principal("ada"), 200),
    (RedirectResponse("/login"), 307),
    (PlainTextResponse("no", 403), 403),
]


@pytest.mark.parametrize(("answer", "status"), ANSWERS, ids=lambda each: str(each)[:12])
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_callable_of_the_app_decides(answer: Any, status: int, is_async: bool) -> None:
    seen: list[Any] = []

    def auth(request: Request) -> Any:
        seen.append((request.app, request.headers["x-user"], request.url.path))
        return answer

    async def waiting(request: Request) -> Any:
        return auth(request)

    omniq = extension(auth=waiting if is_async else auth)
    app = FastAPI(lifespan=omniq.lifespan)
    async with served(app, headers={"x-user": "ada"}) as browser:
        got = await browser.get("/omniq/tasks")
        assert got.status_code == status
        assert seen == [(app, "ada", "/omniq/tasks")]
        if status == 307:
            assert got.headers["location"] == "/login"
        if status == 403:
            assert got.text == "no"
        assert "content-security-policy" in got.headers


async def test_a_callable_may_raise_and_set_cookies() -> None:
    def auth(request: Request) -> Any:
        if request.url.path.endswith("workers"):
            raise HTTPException(401, "sign in", {"WWW-Authenticate": "Bearer"})
        answer = Response("", 303, {"location": "/login"})
        answer.set_cookie("a", "1")
        answer.set_cookie("b", "2")
        return answer

    app = FastAPI(lifespan=extension(auth=auth).lifespan)
    async with served(app) as browser:
        got = await browser.get("/omniq/workers")
        assert (got.status_code, got.text) == (401, "sign in")
        assert got.headers["www-authenticate"] == "Bearer"
        got = await browser.get("/omniq/tasks")
        assert got.status_code == 303 and len(got.headers.get_list("set-cookie")) == 2


class Header(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> Any:
        name = conn.headers.get("x-user")
        return (AuthCredentials(["staff"]), SimpleUser(name)) if name else None


async def test_the_user_of_the_apps_middleware_is_seen() -> None:
    omniq = extension(auth=lambda request: request.user.is_authenticated and request.user.username)
    middleware = [Middleware(AuthenticationMiddleware, backend=Header())]
    app = FastAPI(lifespan=omniq.lifespan, middleware=middleware)
    async with served(app) as browser:
        assert (await browser.get("/omniq/tasks")).status_code == 401
        assert (await browser.get("/omniq/tasks", headers={"x-user": "ada"})).status_code == 200


async def test_a_password() -> None:
    app = FastAPI(lifespan=extension(auth=("ada", "secret")).lifespan)
    async with served(app) as browser:
        assert (await browser.get("/omniq/tasks")).status_code == 401
        assert (await browser.get("/omniq/tasks", auth=("ada", "secret"))).status_code == 200


def admin(request: Request) -> None:
    if request.headers.get("x-user") != "ada":
        raise HTTPException(403, "not for you")


async def test_dependencies_of_the_app_decide() -> None:
    omniq = extension()
    app = FastAPI(lifespan=omniq.lifespan)
    app.mount("/ops", omniq.dashboard(dependencies=[Depends(admin)]))
    async with served(app) as browser:
        refused = await browser.get("/ops/tasks")
        assert (refused.status_code, refused.json()) == (403, {"detail": "not for you"})
        browser.headers["x-user"] = "ada"
        page = await browser.get("/ops/tasks")
        assert page.status_code == 200 and 'href="/ops/workers"' in page.text
        task = await omniq.queue.enqueue(add, (1, 2), delay=3600)
        page = await browser.get(f"/ops/tasks/{task}")
        answer = await browser.post(
            f"/ops/tasks/{task}/retry", data={"_token": form_token(page.text)}, headers=SAME
        )
        assert answer.status_code == 303, answer.text
        assert await task.result(60) == 3
        del browser.headers["x-user"]
        app.dependency_overrides[admin] = lambda: None
        assert (await browser.get("/ops/tasks")).status_code == 200


# -- what is said at start -------------------------------------------------------------------


@pytest.fixture
def unlogged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody logs what is announced, whatever levels the tests before have left."""
    caplog.set_level(logging.WARNING, logger="omniq.web")


async def test_the_link_is_said_once(capsys: Any, unlogged: None) -> None:
    omniq = OmniQExtension({"dashboard": {"token": TOKEN}}, url="https://shop.test/")
    inner, app = FastAPI(), FastAPI(lifespan=omniq.lifespan)
    inner.mount("/ops", omniq.dashboard())
    app.mount("/inner", inner)
    omniq.init_app(app)
    async with served(app):
        said = capsys.readouterr().err
        assert said == f"OmniQ dashboard: https://shop.test/inner/ops/?token={TOKEN}\n"


async def test_a_dashboard_out_of_sight_is_said_to_be_somewhere(
    capsys: Any, unlogged: None
) -> None:
    omniq = OmniQExtension({"dashboard": {"token": TOKEN}})
    omniq.dashboard()
    async with omniq.lifespan(FastAPI()):
        said = capsys.readouterr().err
        assert said == f"OmniQ dashboard: where you mounted it, with ?token={TOKEN}\n"


async def test_no_word_of_it_where_there_is_none(capsys: Any, here: Path) -> None:
    async with OmniQExtension(dashboard=False).lifespan(FastAPI()):
        pass
    async with OmniQExtension(announce=False).lifespan(FastAPI()):
        pass
    assert capsys.readouterr().err == ""
