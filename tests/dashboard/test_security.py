"""What every answer carries, and what no page may hold."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files

import httpx
import pytest

from omniq import AsyncOmniQ
from omniq.dashboard import DashboardApp
from omniq.dashboard.assets import ASSETS, VERSION
from omniq.dashboard.security import content_policy
from omniq.models.status import Status
from tests.dashboard.kit import TOKEN, a_queue, client, sign_in, until
from tests.dashboard.shop import echo, fail

pytestmark = pytest.mark.asyncio
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
NASTY = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "</pre></code><svg onload=alert(1)>",
    "{{7*7}}${7*7}",
    "@get('/evil')",
    "javascript:alert(1)",
    "\u2028</title><script>alert(1)</script>",
]


class Looker(HTMLParser):
    """Collects what could run or load something."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []
        self.calls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            text = value or ""
            if name.startswith("on") or name == "style":
                self.bad.append(f"{tag} {name}={text}")
            leads = name in ("src", "href", "action", "data", "poster", "srcset", "formaction")
            if leads and text.strip().lower().startswith(("javascript:", "data:", "//", "http")):
                self.bad.append(f"{tag} {name}={text}")
            if name.startswith("data-") and "@" in text:
                self.calls.append(text)
        if tag in ("iframe", "object", "embed", "base", "style"):
            self.bad.append(tag)
        if tag == "script" and not dict(attrs).get("src"):
            self.bad.append("inline script")


async def test_the_policy_is_as_strict_as_it_can_be() -> None:
    assert content_policy(None) == POLICY


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/tasks", 200),
        ("GET", "/nowhere/at/all", 404),
        ("GET", "/tasks/none", 404),
        ("GET", "/health", 200),
        ("GET", f"/static/{VERSION}/omniq.css", 200),
        ("GET", f"/static/{VERSION}/none.js", 404),
        ("GET", "/?live=1&once=1", 200),
        ("POST", "/theme", 403),
        ("DELETE", "/tasks", 405),
    ],
)
async def test_every_answer_carries_the_headers(
    browser: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await browser.request(method, path)
    assert answer.status_code == status
    assert answer.headers.get_list("content-security-policy") == [POLICY]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    if "static" not in path:
        assert "public" not in answer.headers.get("cache-control", "")


async def test_also_for_strangers_and_when_something_breaks(
    app: DashboardApp,
    stranger: httpx.AsyncClient,
    browser: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert (await stranger.get("/")).headers["content-security-policy"] == POLICY

    async def broken() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(app.desk.queue(), "counts", broken)
    app.desk.reads().forget()
    answer = await browser.get("/queues")
    assert answer.status_code == 500
    assert answer.headers["content-security-policy"] == POLICY
    assert "secret detail" not in answer.text
    assert "Traceback" not in answer.text


async def test_the_official_bundle_loosens_the_policy_and_says_so(queue: AsyncOmniQ) -> None:
    from msgspec.structs import replace

    bundle = "https://cdn.example/datastar.js"
    config = replace(queue.config, dashboard=replace(queue.config.dashboard, bundle=bundle))
    async with client(DashboardApp(queue, config=config)) as visitor:
        await sign_in(visitor)
        answer = await visitor.get("/about")
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self' https://cdn.example 'unsafe-eval';" in policy
        assert f'src="{bundle}"' in answer.text
        assert "live.js" not in answer.text
        assert "must allow &#39;unsafe-eval&#39;" in answer.text


async def test_no_file_of_ours_names_another_host() -> None:
    allowed = {"http://www.w3.org/2000/svg"}
    for name, (content, _) in ASSETS.items():
        found = set(re.findall(r"https?://[^\s\"'<>)]+", content.decode())) - allowed
        assert not found, name
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", content.decode()), name
        assert "eval(" not in content.decode()
        assert "new Function" not in content.decode()
    static = files("omniq.dashboard").joinpath("static")
    assert {file.name for file in static.iterdir() if file.is_file()} == set(ASSETS)


async def test_no_page_runs_or_loads_what_a_task_says(
    queue: AsyncOmniQ, browser: httpx.AsyncClient
) -> None:
    ids = []
    for text in NASTY:
        ids.append(
            await queue.enqueue(
                echo, (text, [text]), {"key": {text: text}}, tags=[text], metadata={text: text}
            )
        )
        ids.append(await queue.enqueue(fail, (text,)))
    for task_id in ids:
        await until(queue, task_id, Status.SUCCEEDED, Status.FAILED)
    pages = ["/", "/tasks", "/queues", "/workers", "/events", "/about"]
    pages += [f"/tasks/{task_id}" for task_id in ids]
    for text in NASTY:
        asked = httpx.QueryParams({"q": text, "name": text, "tag": text, "queue": text})
        pages += [f"/tasks?{asked}", f"/events?{asked}", f"/?theme={text}&notice={text}"]
    for page in pages:
        for live in ("", "1"):
            answer = await browser.get(
                page,
                params=httpx.URL(page).params.merge({"live": "1", "once": "1"} if live else {}),
            )
            assert answer.status_code == 200, page
            assert "<script>alert" not in answer.text
            html = "\n".join(
                line.removeprefix("data: elements ") for line in answer.text.splitlines()
            )
            looker = Looker()
            looker.feed(html)
            assert not looker.bad, (page, looker.bad)
            for call in looker.calls:
                assert re.fullmatch(r'@(get|post)\("/[^"\\\s]*"(, \{[^@()]*\})?\)', call), call


async def test_secrets_are_nowhere_to_be_read(tmp_path: object) -> None:
    """A canary in every place a secret may stand."""
    from pathlib import Path

    assert isinstance(tmp_path, Path)
    async with a_queue(tmp_path) as queue:
        given = {
            "password": "canary-1",
            "nested": {"api_key": "canary-2", "list": [{"Authorization": "canary-3"}]},
            "userToken": "canary-4",
        }
        task_id = await queue.enqueue(echo, ("fine",), given, metadata={"secret": "canary-5"})
        await until(queue, task_id, Status.SUCCEEDED)
        async with client(DashboardApp(queue)) as visitor:
            await sign_in(visitor)
            page = (await visitor.get(f"/tasks/{task_id}")).text
            assert "fine" in page
            for url in (f"/tasks/{task_id}", "/tasks", "/about", "/events", "/"):
                text = (await visitor.get(url)).text
                assert "canary" not in text, url
                assert TOKEN not in text, url
