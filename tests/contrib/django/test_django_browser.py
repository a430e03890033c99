"""The dashboard and the admin as a person has them: a real browser, a real server of each kind."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from omniq import AsyncOmniQ
from omniq.models.filters import EventFilter
from omniq.models.status import EventType, Status
from tests.contrib.django.project import Project
from tests.dashboard.chromium import Tab, launched, opened
from tests.dashboard.kit import until
from tests.programs import Program

pytestmark = [
    pytest.mark.browser,
    pytest.mark.once,
    pytest.mark.asyncio(loop_scope="module"),
]
SETTINGS = """
INSTALLED_APPS += ["django.contrib.admin", "django.contrib.messages", "django.contrib.staticfiles"]
MIDDLEWARE += [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    *(["django.middleware.csp.ContentSecurityPolicyMiddleware"] if VERSION >= (6, 0) else []),
]
SECURE_CSP = {"default-src": ["'self'"]}
TEMPLATES = [{
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": [
        "django.template.context_processors.request",
        "django.contrib.auth.context_processors.auth",
        "django.contrib.messages.context_processors.messages",
    ]},
}]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
OMNIQ = {"EMBEDDED_WORKER": True}
"""
FILES = {
    "mysite/urls.py": """
        from django.contrib import admin
        from django.contrib.staticfiles.urls import staticfiles_urlpatterns
        from django.http import HttpResponse
        from django.urls import include, path

        from omniq.dashboard import live

        live.LIFE = 3600.0

        urlpatterns = [
            path("admin/", admin.site.urls),
            path("tools/", include([path("tasks/", include("omniq.contrib.django.urls"))])),
            path("favicon.ico", lambda request: HttpResponse(status=204)),
            *staticfiles_urlpatterns(),
        ]
        """,
    "notes/tasks.py": """
        from omniq import task


        @task("shop:add")
        async def add(x, y):
            return x + y


        @task("shop:fail", retries=0)
        def fail(text):
            raise ValueError(text)
        """,
}
SERVERS = {
    "asgi": ["uvicorn", "mysite.asgi:application", "--port=0", "--lifespan=on"],
    "wsgi": ["gunicorn", "-k", "gthread", "--threads=8", "-b", "127.0.0.1:0", "mysite.wsgi"],
}
HOME = "/tools/tasks"


class Site(NamedTuple):
    kind: str
    address: str
    server: Program
    folder: Project
    cookies: list[Any]
    """Of somebody who has signed in once; filled by who does so first."""

    def queue(self) -> AsyncOmniQ:
        """The same store, seen from here."""
        return AsyncOmniQ(base_dir=self.folder.folder / ".omniq", embedded=False)

    async def visit(self, tab: Tab, path: str = f"{HOME}/") -> Page:
        """Go to a page, and sign in on the way if nobody has before."""
        await tab.context.add_cookies(self.cookies)
        await tab.page.goto(self.address + path)
        if not self.cookies:
            await tab.page.get_by_label("Username").fill("ada")
            await tab.page.get_by_label("Password").fill("lovelace")
            await tab.page.get_by_role("button", name="Log in").click()
            await expect(tab.page).to_have_url(self.address + path)
            found = await tab.context.cookies()
            self.cookies.extend(one for one in found if one.get("name") == "sessionid")
        return tab.page


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = Project(tmp_path_factory.mktemp("project"), SETTINGS, FILES)
    made.python("""
        from django.contrib.auth.models import User
        from django.core.management import call_command
        call_command("migrate", "--run-syncdb", verbosity=0)
        User.objects.create_superuser("ada", password="lovelace")
        """)
    return made


@pytest.fixture(scope="module", params=sorted(SERVERS))
def site(request: pytest.FixtureRequest, project: Project) -> Iterator[Site]:
    with project.start("-m", *SERVERS[request.param]) as server:
        address = server.says(r"(?:Listening at:|running on) (http://\S+)")[1]
        yield Site(request.param, address, server, project, [])


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with launched() as browser:
        yield browser


async def failed(queue: AsyncOmniQ) -> str:
    task_id = await queue.enqueue("shop:fail", ("no",), retries=0)
    await until(queue, task_id, Status.FAILED)
    return str(task_id)


async def live(page: Page) -> None:
    await expect(page.locator("#connection .word")).to_have_text("Live")


async def test_pages_keep_up(site: Site, chromium: Browser) -> None:
    async with site.queue() as queue, opened(chromium) as tab:
        page = await site.visit(tab)
        await live(page)
        assert await page.locator("#live[data-every]").count() == (site.kind == "wsgi")
        await page.evaluate("window.same = true")
        before = await page.locator("#tile-succeeded strong").inner_text()
        await queue.get_result(await queue.enqueue("shop:add", (1, 2)), timeout=60)
        await expect(page.locator("#tile-succeeded strong")).to_have_text(str(int(before) + 1))
        assert await page.evaluate("window.same")
        for entry in ("Tasks", "Workers"):
            await page.get_by_role("navigation").get_by_role("link", name=entry).click()
            await expect(page.locator("h1")).to_have_text(entry)
            await live(page)
        assert all(url.startswith(site.address + "/") for url in tab.asked)


async def test_actions_work_and_are_somebodys(site: Site, chromium: Browser) -> None:
    async with site.queue() as queue, opened(chromium) as tab:
        task_id = await failed(queue)
        page = await site.visit(tab, f"{HOME}/tasks/{task_id}")
        await live(page)
        await page.evaluate("window.same = true")
        await page.get_by_role("button", name="Retry").click()
        await expect(page.locator("#toasts .toast")).to_contain_text("will run again")
        await expect(page.locator("#life")).to_contain_text("Retried by ada")
        assert await page.evaluate("window.same")
        asked = EventFilter(task=task_id, types=(EventType.ACTION,))
        assert [one.data["actor"] for one in (await queue.events(asked)).events] == ["ada"]


async def test_without_a_token_nothing_is_done(site: Site, chromium: Browser) -> None:
    async with site.queue() as queue, opened(chromium) as tab:
        task_id = await queue.enqueue("shop:add", (1, 2), delay=3600)
        for field in ("csrfmiddlewaretoken", "_token"):
            page = await site.visit(tab, f"{HOME}/tasks/{task_id}")
            async with page.expect_navigation(url="**/cancel") as told:
                await page.evaluate(
                    """name => {
                      const form = document.querySelector('form[action$="/cancel"]')
                      form.querySelector(`[name=${name}]`).remove()
                      form.submit()
                    }""",
                    field,
                )
            answer = await told.value
            assert answer is not None
            assert answer.status == 403
        assert (await queue.info(task_id)).row.status is Status.SCHEDULED
        # Django's own page for a refusal has inline styles, which the project's policy forbids.
        assert all("403" in one or "inline style" in one for one in tab.wrong), tab.wrong
        tab.wrong.clear()
        await queue.cancel(task_id)


async def test_it_works_without_scripts(site: Site, chromium: Browser) -> None:
    async with site.queue() as queue:
        task_id = await failed(queue)
        async with opened(chromium, scripts=False) as tab:
            page = await site.visit(tab, f"{HOME}/tasks/{task_id}")
            await page.get_by_role("button", name="Retry").click()
            await expect(page.locator(".notice")).to_contain_text("will run again")
            await page.get_by_role("button", name="Dark colours").click()
            await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await until(queue, task_id, Status.FAILED)
        assert (await queue.info(task_id)).row.epoch == 2


async def test_the_admin_works_and_leads_to_the_dashboard(site: Site, chromium: Browser) -> None:
    async with site.queue() as queue, opened(chromium) as tab:
        task_id = await failed(queue)
        page = await site.visit(tab, "/admin/omniq/failedtask/")
        await page.locator(f'a[href*="{task_id}"]').click()
        await expect(page.locator(".field-errors")).to_contain_text("ValueError")
        await page.get_by_role("link", name="Dashboard").click()
        await expect(page).to_have_url(f"{site.address}{HOME}/tasks/{task_id}")
        await page.go_back()
        await page.get_by_role("button", name="Run again").first.click()
        await expect(page.locator(".messagelist")).to_contain_text("1 task will run again.")
        await until(queue, task_id, Status.FAILED)
        await page.reload()
        await page.get_by_role("button", name="Delete").or_(
            page.get_by_role("link", name="Delete")
        ).first.click()
        await page.get_by_role("button", name="Yes").click()
        await expect(page.locator(".messagelist")).to_contain_text("1 task was deleted.")
        await expect(page.locator(f'a[href*="{task_id}"]')).to_have_count(0)

        name = f"many-{site.kind}"
        made = [await queue.enqueue("shop:add", (n, 1), queue=name, delay=3600) for n in range(3)]
        await page.goto(f"{site.address}/admin/omniq/task/?queue={name}")
        await page.locator("#action-toggle").check()
        await page.locator("select[name=action]").select_option("cancel_tasks")
        await page.locator("button[name=index]").click()
        await expect(page.locator(".messagelist")).to_contain_text("3 tasks were cancelled")
        for one in made:
            assert (await queue.info(one)).row.status is Status.CANCELLED


async def test_no_page_is_wider_than_the_window(site: Site, chromium: Browser) -> None:
    async with site.queue() as queue, opened(chromium) as tab:
        bad = await queue.enqueue(
            "shop:fail", ("z" * 300,), retries=0, tags=["y" * 60], queue="q" * 60
        )
        await until(queue, bad, Status.FAILED)
        await site.visit(tab)
        pages = [f"/admin/omniq/{name}/" for name in ("task", "worker")]
        for path in [*pages, f"/admin/omniq/task/{bad}/change/", f"{HOME}/tasks/{bad}"]:
            await tab.page.goto(site.address + path)
            for width in (360, 1280):
                await tab.page.set_viewport_size({"width": width, "height": 700})
                wide = await tab.page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, (path, width)


async def test_an_open_page_does_not_hold_up_the_end(site: Site, chromium: Browser) -> None:
    """The last test of each server: it ends it."""
    async with opened(chromium) as tab:
        await live(await site.visit(tab))
        site.server.send(signal.SIGTERM)
        await asyncio.to_thread(site.server.ends)  # the page would stay open for an hour
        await expect(tab.page.locator("#connection .word")).to_have_text("Reconnecting")
        assert "Traceback" not in site.server.output, site.server.output
        tab.wrong.clear()
