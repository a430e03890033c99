"""The dashboard behind Django's URLs: who comes in, what every answer carries, bad input."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import django
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.conf.urls.i18n import i18n_patterns
from django.contrib import admin
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import include, path

from omniq.contrib.django import queue
from omniq.contrib.django.dashboard.views import dashboard_app
from omniq.contrib.django.runtime import native
from omniq.dashboard import Principal
from omniq.errors import StorageUnavailable
from omniq.models.status import EventType, Status
from tests.contrib.django.people import events_of, signed_in
from tests.contrib.django.shop.tasks import add

OURS = "omniq.contrib.django.urls"
urlpatterns = [
    path("admin/", admin.site.urls),
    path("omniq/", include(OURS)),
    path("deep/<slug:shop>/", include([path("in/", include((OURS, "omniq"), namespace="deep"))])),
    *i18n_patterns(path("größe/", include((OURS, "omniq"), namespace="words"))),
]
SAME = {"sec-fetch-site": "same-origin"}
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(autouse=True)
def _urls() -> Iterator[None]:
    with override_settings(ROOT_URLCONF=__name__):
        yield


def later() -> str:
    """A task that stays where it is."""
    return str(queue.enqueue(add, (1, 2), delay=3600))


def status(task_id: str) -> Status:
    return queue.info(task_id).row.status


def fields(page: str) -> dict[str, str]:
    """What the forms of a page carry unseen."""
    return dict(re.findall(r'name="(_token|csrfmiddlewaretoken)" value="([^"]+)"', page))


def post(client: Client, path: str, form: dict[str, str], **more: Any) -> Any:
    body = "&".join(f"{key}={value}" for key, value in form.items())
    return client.post(path, body, content_type=FORM, headers=SAME, **more)


# ---- who comes in


@pytest.mark.usefixtures("db")
def test_strangers_are_sent_to_sign_in() -> None:
    answer = Client().get("/omniq/tasks?queue=a&status=failed")
    assert answer.status_code == 302
    wanted = "/admin/login/?next=/omniq/tasks%3Fqueue%3Da%26status%3Dfailed"
    assert answer.headers["location"] == wanted
    with override_settings(LOGIN_URL="/enter/"):
        assert Client().get("/omniq/").headers["location"] == "/enter/?next=/omniq/"
    for wrong in (Client().post("/omniq/theme"), Client().get("/omniq/tasks?live=1")):
        assert wrong.status_code == 401, "what no page asks for is not sent elsewhere"


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("staff", [True, False])
def test_who_may_not_look_is_told_so(staff: bool) -> None:
    client = signed_in(*([] if staff else ["view_task", "change_task"]), staff=staff)
    answer = client.get("/omniq/tasks")
    assert answer.status_code == 403
    text = answer.content.decode()
    assert "may not look at tasks" in text
    assert "/admin/login/?next=/omniq/tasks" in text
    style = re.search(r'href="(/omniq/static/\w+/omniq.css)"', text)
    assert style
    assert client.get(style[1]).status_code == 200
    assert client.get("/omniq/?live=1").status_code == 401


@pytest.mark.usefixtures("db")
def test_accounts_that_were_closed_stay_out() -> None:
    client = signed_in(root=True)
    assert client.get("/omniq/").status_code == 200
    User.objects.update(is_active=False)
    assert client.get("/omniq/").status_code == 302


MAY = [
    (["view_task"], set()),
    (["change_task"], {"retry", "cancel"}),
    (["view_task", "delete_task"], {"delete"}),
    (["view_task", "change_task", "delete_task"], {"retry", "cancel", "delete"}),
]


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(("permissions", "allowed"), MAY)
def test_permissions_are_kept_by_pages_and_by_the_server(
    permissions: list[str], allowed: set[str]
) -> None:
    client = signed_in(*permissions)
    scheduled, gone = later(), later()
    queue.cancel(gone)
    pages = (
        client.get(f"/omniq/tasks/{scheduled}").content + client.get(f"/omniq/tasks/{gone}").content
    )
    offered = set(re.findall(r"/omniq/tasks/[0-9a-f-]{36}/(\w+)&quot;|/(\w+)\"", pages.decode()))
    offered = {one for pair in offered for one in pair} & {"retry", "cancel", "delete"}
    assert offered == allowed
    assert (b"Read only" in pages) == (not allowed)
    form = fields(pages.decode())
    for action, task_id in (("cancel", scheduled), ("retry", gone), ("delete", gone)):
        answer = post(client, f"/omniq/tasks/{task_id}/{action}", form)
        assert answer.status_code == (303 if action in allowed else 403), action
        if action == "retry" and action in allowed:
            queue.cancel(gone)


@pytest.mark.usefixtures("db")
def test_who_acted_stands_in_the_events() -> None:
    client, task_id = signed_in(root=True, name="ada"), later()
    form = fields(client.get(f"/omniq/tasks/{task_id}").content.decode())
    answer = post(client, f"/omniq/tasks/{task_id}/cancel", form)
    assert answer.headers["location"] == f"/omniq/tasks/{task_id}?notice=cancelled"
    assert status(task_id) is Status.CANCELLED
    assert "Cancelled; a running task" in client.get(answer.headers["location"]).content.decode()
    assert [one.data["actor"] for one in events_of(task_id, EventType.ACTION)] == ["ada"]


answers: dict[str, Any] = {
    "yes": True,
    "name": "grace",
    "reader": Principal("eve", read_only=True),
    "no": False,
    "none": None,
    "own": HttpResponse("come later", status=418),
    "wrong": 3,
}


def hook(request: HttpRequest) -> Any:
    return answers[request.headers["x-who"]]


async def async_hook(request: HttpRequest) -> Any:
    await asyncio.sleep(0)
    return answers[request.headers["x-who"]]


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("name", ["hook", "async_hook"])
def test_a_function_of_the_project_may_decide(omniq: Any, name: str) -> None:
    omniq(STORAGE_TYPE="memory", DASHBOARD_AUTH=f"{__name__}.{name}")
    client = Client()

    def about(who: str) -> Any:
        return client.get("/omniq/about", headers={"x-who": who})

    assert b"visitor" in about("yes").content
    assert b"grace" in about("name").content
    assert b"read-only for you" in about("reader").content
    assert about("no").status_code == about("none").status_code == 302
    assert about("own").content == b"come later"
    with pytest.raises(ImproperlyConfigured, match="gave a int"):
        about("wrong")


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("dotted", [f"{__name__}.nobody", f"{__name__}.SAME", "nothing.at.all"])
def test_a_function_that_is_not_there_is_named(omniq: Any, dotted: str) -> None:
    omniq(STORAGE_TYPE="memory", DASHBOARD_AUTH=dotted)
    with pytest.raises(ImproperlyConfigured, match=re.escape(f"'DASHBOARD_AUTH'] = '{dotted}'")):
        Client().get("/omniq/")


# ---- forms


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"CSRF_USE_SESSIONS": True},
        {"CSRF_COOKIE_NAME": "mine", "CSRF_HEADER_NAME": "HTTP_X_MINE"},
    ],
)
def test_both_tokens_are_asked_for(changed: dict[str, Any]) -> None:
    with override_settings(**changed):
        client, task_id = signed_in(root=True, enforce_csrf_checks=True), later()
        url = f"/omniq/tasks/{task_id}/cancel"
        form = fields(client.get(f"/omniq/tasks/{task_id}").content.decode())
        assert set(form) == {"_token", "csrfmiddlewaretoken"}
        for missing in form:
            wrong = {key: value for key, value in form.items() if key != missing}
            assert post(client, url, wrong).status_code == 403
            assert post(client, url, {**form, missing: "0" * 64}).status_code == 403
        assert status(task_id) is Status.SCHEDULED
        assert post(client, url, form).status_code == 303
        assert status(task_id) is Status.CANCELLED


# ---- where it stands


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("url", "prefix", "script"),
    [
        ("/omniq/", "/omniq", ""),
        ("/omniq/", "/shop/omniq", "/shop"),
        ("/deep/a-b/in/", "/deep/a-b/in", ""),
        ("/en-us/größe/", "/en-us/gr%C3%B6%C3%9Fe", ""),
        ("/en-us/größe/", "/shop/en-us/gr%C3%B6%C3%9Fe", "/shop"),
    ],
)
def test_links_are_right_wherever_it_stands(url: str, prefix: str, script: str) -> None:
    client, task_id = signed_in(root=True), later()
    said = {"SCRIPT_NAME": script} if script else {}
    for page in ("", "tasks", f"tasks/{task_id}", "queues", "workers", "events", "about"):
        answer = client.get(url + page, **said)
        assert answer.status_code == 200, page
        found = re.findall(r'(?:href|src|action)="([^"]+)"', answer.content.decode())
        assert len(found) > 10
        wrong = [one for one in found if not (one.startswith((prefix + "/", "#")))]
        assert wrong == [], page
        if page != "about":
            assert f"@get(&#34;{prefix}/" in answer.content.decode()
    style = next(one for one in found if one.endswith(".css")).removeprefix(script)
    assert client.get(style).headers["content-type"].startswith("text/css")
    cookie = client.cookies[next(name for name in client.cookies if "visitor" in name)]
    assert cookie["path"] == prefix


@pytest.mark.usefixtures("db")
def test_a_forced_script_name_is_in_every_link() -> None:
    client = signed_in(root=True)
    with override_settings(FORCE_SCRIPT_NAME="/forced"):
        text = client.get("/omniq/tasks").content.decode()
    assert 'href="/forced/omniq/queues"' in text
    assert 'href="/omniq' not in text


# ---- what every answer carries

MIDDLEWARE = [
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    *settings.MIDDLEWARE,
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    *(["django.middleware.csp.ContentSecurityPolicyMiddleware"] if django.VERSION >= (6,) else []),
]
POLICIES = {"default-src": ["'self'", "https://cdn.example"]}


@pytest.mark.usefixtures("db")
@override_settings(MIDDLEWARE=MIDDLEWARE, SECURE_CSP=POLICIES, SECURE_CSP_REPORT_ONLY=POLICIES)
def test_our_own_policy_stands_alone() -> None:
    root, nobody = signed_in(root=True), signed_in()
    page = root.get("/omniq/tasks")
    style = re.search(r'href="([^"]+\.css)"', page.content.decode())
    assert style
    for answer in (page, root.get(style[1]), nobody.get("/omniq/"), root.get("/omniq/nowhere")):
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "content-security-policy-report-only" not in answer.headers
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    assert "cookie" in page.headers["vary"].lower()


@pytest.mark.usefixtures("db")
@override_settings(MIDDLEWARE=MIDDLEWARE)
def test_files_may_be_kept_by_every_cache() -> None:
    client = signed_in(root=True)
    text = client.get("/omniq/").content.decode()
    for url in re.findall(r'(?:href|src)="(/omniq/static/[^"]+)"', text):
        answer = client.get(url)
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert not answer.cookies
        assert "cookie" not in answer.headers.get("vary", "").lower()
        assert Client().get(url).status_code == 200, "they are no secret"
        assert (
            client.get(url.replace("/static/", "/static/x")).headers["cache-control"] == "no-cache"
        )
    assert client.get("/omniq/static/x/secret.py").status_code == 404
    assert client.post("/omniq/static/x/live.js").status_code == 405


# ---- bad input


@pytest.mark.usefixtures("db")
def test_what_is_not_there_and_what_is_no_page() -> None:
    client = signed_in(root=True)
    for url in (
        "/omniq/nowhere",
        "/omniq/tasks/nonsense",
        "/omniq/" + "x" * 100_000,
        "/omniq/%FF%FE/tasks",
        "/omniq/tasks/%00",
        "/omniq/../../etc/passwd",
        "/omniq//evil.example/",
        "/omniq/tasks/019a0000-0000-7000-8000-000000000000",
    ):
        answer = client.get(url)
        assert answer.status_code == 404, url
        assert b"Traceback" not in answer.content
    assert client.get("/omniq").headers["location"] == "/omniq/"
    assert client.get("/omniq/tasks/").status_code == 200
    assert client.get("/omniq/tasks?after=%FF&status=%00&queue=" + "q" * 9000).status_code == 200
    assert client.put("/omniq/tasks").status_code == 405
    with override_settings(ALLOWED_HOSTS=["here.example"]):
        assert client.get("/omniq/", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.usefixtures("db")
def test_head_is_get_without_a_body() -> None:
    client = signed_in(root=True)
    answer = client.head("/omniq/tasks")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/html")
    assert client.head("/omniq/nowhere").status_code == 404
    assert client.head("/omniq/?live=1").status_code == 200


@pytest.mark.usefixtures("db")
def test_nothing_takes_files_or_floods() -> None:
    client = signed_in(root=True)
    assert client.post("/omniq/theme", {"theme": "dark"}).status_code == 415
    assert post(client, "/omniq/theme", {"theme": "x" * 1_000_001}).status_code == 413
    assert client.post("/omniq/theme", b"\xff{", content_type="application/json").status_code == 403


@pytest.mark.usefixtures("db")
def test_machines_ask_for_health_without_signing_in() -> None:
    answer = Client().get("/omniq/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert set(signed_in(root=True).get("/omniq/health").json()) == {"status", "workers", "place"}


@pytest.mark.usefixtures("db")
def test_a_place_that_is_down_is_a_page_not_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def down() -> None:
        raise StorageUnavailable("nobody there")

    client = signed_in(root=True)
    monkeypatch.setattr(native(), "counts", down)
    answer = client.get("/omniq/queues")
    assert answer.status_code == 503
    assert b"does not answer: nobody there" in answer.content
    assert client.get("/omniq/queues?live=1").status_code == 503


@pytest.mark.usefixtures("real_db", "omniq_in_db")
def test_tasks_in_a_database_of_djangos() -> None:
    client, task_id = signed_in(root=True), later()
    assert f"/omniq/tasks/{task_id}" in client.get("/omniq/tasks").content.decode()
    form = fields(client.get(f"/omniq/tasks/{task_id}").content.decode())
    assert post(client, f"/omniq/tasks/{task_id}/cancel", form).status_code == 303
    assert status(task_id) is Status.CANCELLED


@pytest.mark.usefixtures("db", "omniq_in_db")
def test_a_database_in_memory_has_no_dashboard_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = signed_in(root=True)
    monkeypatch.setitem(connection.settings_dict, "NAME", ":memory:")
    answer = client.get("/omniq/tasks")
    text = answer.content.decode()
    assert answer.status_code == 503
    assert "is in memory" in text
    assert "TEST" in text
    assert Client().get("/omniq/health").status_code == 503


@pytest.mark.usefixtures("db")
def test_it_can_be_off(omniq: Any) -> None:
    client = signed_in(root=True)
    omniq(STORAGE_TYPE="memory", DASHBOARD_ENABLED=False)
    assert client.get("/omniq/").status_code == 404


@pytest.mark.usefixtures("db")
def test_visitors_without_the_middleware_that_names_them(omniq: Any) -> None:
    from omniq.contrib.django.dashboard.views import dashboard

    request = RequestFactory().get("/omniq/")
    with pytest.raises(ImproperlyConfigured, match="AuthenticationMiddleware"):
        dashboard(request)
    request.user = AnonymousUser()
    assert dashboard(request).status_code == 302


# ---- live


@pytest.mark.usefixtures("db")
def test_under_wsgi_pages_ask_again() -> None:
    client = signed_in(root=True)
    assert 'data-every="3000"' in client.get("/omniq/").content.decode()
    update = client.get("/omniq/?live=1")
    assert not update.streaming
    assert update.headers["content-type"].startswith("text/event-stream")
    assert update.content.count(b"event: datastar-patch-elements") > 3


@pytest.mark.asyncio
@override_settings(MIDDLEWARE=MIDDLEWARE)
async def test_under_asgi_pages_are_live(omniq: Any) -> None:
    omniq(STORAGE_TYPE="memory", DASHBOARD_AUTH=f"{__name__}.hook")
    client, said = AsyncClient(), {"x-who": "yes", "accept-encoding": "gzip"}
    page = await client.get("/omniq/queues", headers=said)
    assert page.headers["content-encoding"] == "gzip"
    stream = await client.get("/omniq/queues?live=1", headers=said)
    assert stream.streaming
    assert stream.headers["content-encoding"] == "identity", "gzip would hold events back"
    head = await client.head("/omniq/queues?live=1", headers=said)
    assert (head.streaming, head.content) == (False, b"")
    assert stream.headers["cache-control"] == "no-store"
    pieces = aiter(stream)
    async with asyncio.timeout(20):
        assert b"No queue yet" in await anext(pieces)
        from omniq.contrib.django import aqueue

        await aqueue.enqueue(add, (1, 2), delay=3600, queue="fresh")
        while b"fresh" not in await anext(pieces):
            pass
    hub = dashboard_app().desk.hub
    assert hub.streams == 1
    await asyncio.to_thread(stream.close)
    async with asyncio.timeout(20):
        while hub.streams:  # noqa: ASYNC110 - another thread's counter
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
@pytest.mark.usefixtures("real_db")
async def test_users_are_known_under_asgi() -> None:
    browser = await sync_to_async(signed_in)("view_task", name="ada")
    client = AsyncClient()
    client.cookies = browser.cookies
    answer = await client.get("/omniq/about")
    assert answer.status_code == 200
    assert b"ada" in answer.content
    assert b"Read only" in answer.content
    assert (await AsyncClient().get("/omniq/about")).status_code == 302
