"""Closed by default; opened by a token, a password or a callable."""

from __future__ import annotations

import asyncio
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Response

from omniq import AsyncOmniQ
from omniq.dashboard import DashboardApp, Principal
from omniq.dashboard.auth import Gate
from omniq.dashboard.token import TOKEN_FILE, shared_token
from omniq.errors import ConfigError
from tests.dashboard.kit import SAME, TOKEN, client, form_token, post, sign_in

pytestmark = pytest.mark.asyncio
PAGES = ["/", "/tasks", "/queues", "/workers", "/events", "/about", "/nowhere", "/tasks/x"]


@pytest.mark.parametrize("page", PAGES)
async def test_a_stranger_sees_the_sign_in_form_and_nothing_else(
    stranger: httpx.AsyncClient, page: str
) -> None:
    answer = await stranger.get(page)
    assert answer.status_code == 401
    assert 'name="token"' in answer.text
    assert "Overview" not in answer.text
    assert TOKEN not in answer.text


@pytest.mark.parametrize("page", PAGES)
async def test_a_stranger_gets_no_stream(stranger: httpx.AsyncClient, page: str) -> None:
    answer = await stranger.get(page, params={"live": "1", "once": "1"})
    assert answer.status_code == 401
    assert "event:" not in answer.text


async def test_the_token_in_the_url_becomes_a_cookie_and_leaves_the_url(
    stranger: httpx.AsyncClient,
) -> None:
    answer = await stranger.get("/tasks", params={"token": TOKEN, "queue": "a b"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/tasks?queue=a+b"
    (cookie,) = [
        value
        for name, value in answer.headers.multi_items()
        if name == "set-cookie" and "omniq_login" in value
    ]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert "Path=/" in cookie
    assert (await stranger.get("/tasks")).status_code == 200


async def test_a_wrong_token_opens_nothing(stranger: httpx.AsyncClient) -> None:
    assert (await stranger.get("/", params={"token": TOKEN + "x"})).status_code == 401
    assert (await stranger.get("/")).status_code == 401


async def test_a_changed_or_old_cookie_opens_nothing(
    app: DashboardApp, browser: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = app.desk.gate.login_cookie
    good = browser.cookies[name]
    for bad in ("", "x", good[:-1] + ("0" if good[-1] != "0" else "1"), "9" + good, good + "0"):
        async with client(app, cookies={name: bad}) as other:
            assert (await other.get("/")).status_code == 401, bad
    monkeypatch.setattr("omniq.dashboard.auth.LOGIN_LIFE", -1)
    async with client(app, cookies={name: app.desk.gate.login()}) as other:
        assert (await other.get("/")).status_code == 401


async def test_the_form_signs_in_and_leads_back(stranger: httpx.AsyncClient) -> None:
    asked = await stranger.get("/tasks?status=failed")
    fields = {"_token": form_token(asked.text), "back": "/tasks?status=failed"}
    wrong = await stranger.post("/login", data={**fields, "token": "guess"}, headers=SAME)
    assert wrong.status_code == 401
    assert "not the token" in wrong.text
    right = await stranger.post("/login", data={**fields, "token": TOKEN}, headers=SAME)
    assert (right.status_code, right.headers["location"]) == (303, "/tasks?status=failed")
    assert (await stranger.get("/tasks")).status_code == 200


@pytest.mark.parametrize(
    "back", ["//evil.example/", "https://evil.example/", "/\\evil.example", "javascript:alert(1)"]
)
async def test_signing_in_leads_to_no_other_site(stranger: httpx.AsyncClient, back: str) -> None:
    token = form_token((await stranger.get("/")).text)
    answer = await stranger.post(
        "/login", data={"_token": token, "token": TOKEN, "back": back}, headers=SAME
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_signing_out_closes_it_again(browser: httpx.AsyncClient) -> None:
    assert (await post(browser, "/logout")).status_code == 303
    assert (await browser.get("/")).status_code == 401


async def test_user_and_password(queue: AsyncOmniQ) -> None:
    async with client(DashboardApp(queue, auth=("ada", "engine"))) as visitor:
        refused = await visitor.get("/")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic")
        assert (await visitor.get("/", auth=("ada", "wrong"))).status_code == 401
        assert (await visitor.get("/", auth=("ada", "engine"))).status_code == 200
        assert (await visitor.get("/", params={"token": TOKEN})).status_code == 401


@pytest.mark.parametrize(
    ("auth", "why"),
    [
        ("engine", "auth=str of the dashboard is neither a function of the request nor"),
        (["ada", "engine"], "auth=list of the dashboard"),
        (True, "auth=bool of the dashboard"),
        (("ada",), "wants two texts"),
        (("ada", ""), "is the variable set that the password is read from?"),
        (("ada", None), "is the variable set that the password is read from?"),
        (("", "engine"), "wants two texts"),
    ],
)
async def test_what_cannot_close_it_is_refused(queue: AsyncOmniQ, auth: Any, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DashboardApp(queue, auth=auth)
    assert why in str(caught.value)
    assert "engine" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (True, 200),
        (False, 401),
        (None, 401),
        ("ada", 200),
        (Principal("ada", read_only=True), 200),
        (Response("go away", status_code=418), 418),
    ],
)
async def test_a_callable_decides(queue: AsyncOmniQ, answer: Any, status: int) -> None:
    async def later(request: Any) -> Any:
        return answer

    for auth in (lambda request: answer, later):
        async with client(DashboardApp(queue, auth=auth)) as visitor:
            assert (await visitor.get("/about")).status_code == status


async def test_processes_that_start_together_agree_on_the_token(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: shared_token(tmp_path), range(64)))
    assert len(set(found)) == 1
    path = tmp_path / TOKEN_FILE
    assert path.read_text() == found[0]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [TOKEN_FILE]


async def test_a_token_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / TOKEN_FILE
    path.write_text("x" * 43)
    path.chmod(0o644)
    assert shared_token(tmp_path) == "x" * 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_two_dashboards_on_one_host_keep_apart(tmp_path: Path, queue: AsyncOmniQ) -> None:
    """Browsers send the cookies of one port to all others of that host."""
    from msgspec.structs import replace

    other = replace(queue.config, dashboard=replace(queue.config.dashboard, token="y" * 32))
    gates = [Gate(queue.config), Gate(other)]
    assert gates[0].login_cookie != gates[1].login_cookie
    apps = [DashboardApp(queue), DashboardApp(queue, config=other)]
    async with client(apps[0]) as visitor:
        await sign_in(visitor)
        stolen = dict(visitor.cookies)
    async with client(apps[1], cookies=stolen) as visitor:
        assert (await visitor.get("/")).status_code == 401


async def test_health_tells_strangers_nothing_but_that_it_lives(
    stranger: httpx.AsyncClient, browser: httpx.AsyncClient
) -> None:
    assert (await stranger.get("/health")).json() == {"status": "ok"}
    known = (await browser.get("/health")).json()
    assert known["status"] == "ok"
    assert "SQLite" in known["place"]


async def test_requests_for_another_host_are_refused(queue: AsyncOmniQ) -> None:
    """A site whose name is made to point here (DNS rebinding) reaches nothing."""
    app = DashboardApp(queue, allowed_hosts=("localhost", "127.0.0.1"))
    async with client(app) as visitor:
        for host, status in (
            ("localhost:8778", 401),
            ("127.0.0.1", 401),
            ("evil.example", 421),
            ("evil.example:8778", 421),
            ("localhost.evil.example", 421),
            ("", 421),
        ):
            answer = await visitor.get("/", headers={"host": host})
            assert answer.status_code == status, host


async def test_many_wrong_cookies_cost_no_storage(stranger: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(stranger.get("/tasks?live=1") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {401}
