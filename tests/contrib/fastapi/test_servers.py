"""Every kind of app under every server: it answers, its tasks run, its dashboard is at home.

Real servers, each with all kinds of apps at once. Where something stands in front of the server,
such as a proxy that strips `/api`, the client plays that part.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from omniq import AsyncOmniQ
from tests.contrib.fastapi.served import APPS, folder
from tests.contrib.fastapi.serving import Web, links_of, serving
from tests.dashboard.kit import TOKEN
from tests.programs import PATIENCE

pytestmark = [pytest.mark.asyncio, pytest.mark.once]
SERVERS = ("uvicorn", "granian")
TOKENED = {"OMNIQ_DASHBOARD_TOKEN": TOKEN}
LIVE = {"accept": "text/event-stream", "datastar-request": "true"}


class View(NamedTuple):
    """How visitors come to an app: below which path, and how much of it a proxy strips."""

    public: str = ""
    strip: str = ""


STRIPPED, WHOLE = View("/api", strip="/api"), View("/api")
VIEWS = {
    **{app: (app, View()) for app in APPS if app not in ("rooted", "nested")},
    "nested": ("nested", View("/shop/tools")),
    "root_path, stripped": ("rooted", STRIPPED),
    "root_path, whole": ("rooted", WHOLE),
}
PATIENT = ("--graceful-timeout", "3600")
# uvicorn puts its root path before what is asked for, so there it has to be stripped.
BELOW = {
    "uvicorn": (("--root-path", "/api"), (STRIPPED,)),
    "granian": (("--url-path-prefix", "/api"), (STRIPPED, WHOLE)),
    "gunicorn": (("-k", "uvicorn.workers.UvicornWorker", *PATIENT), (View(),)),
    "gunicorn asgi": (("-k", "asgi", *PATIENT), (View(),)),
}


class Site(NamedTuple):
    web: Web
    folder: Path

    @contextmanager
    def visitor(self, app: str, view: View) -> Iterator[httpx.Client]:
        """A browser that is signed in."""
        with self.web.client(strip=view.strip, headers={"host": f"{app}.test"}) as client:
            client.get(f"{view.public}/omniq/", params={"token": TOKEN})
            yield client


@pytest.fixture(scope="module", params=SERVERS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    here = tmp_path_factory.mktemp(request.param)
    with serving(request.param, "everything", cwd=here, env=TOKENED) as web:
        yield Site(web, here)
        assert "Traceback" not in web.output, web.output


@pytest.mark.parametrize(("app", "view"), VIEWS.values(), ids=VIEWS)
async def test_an_app_is_at_home(site: Site, app: str, view: View) -> None:
    with site.visitor(app, view) as visitor:
        await _works(site, visitor, app, view)
        _dashboard_is_right(visitor, view)


@pytest.mark.parametrize("server", BELOW)
async def test_a_server_below_a_path_stops_with_pages_open(tmp_path: Path, server: str) -> None:
    options, views = BELOW[server]
    with serving(server.split()[0], "everything", *options, cwd=tmp_path, env=TOKENED) as web:
        site = Site(web, tmp_path)
        for view in views:
            with site.visitor("plain", view) as visitor:
                await _works(site, visitor, "plain", view)
                _dashboard_is_right(visitor, view)
        with ExitStack() as pages:
            for app in ("plain", "bare", "litestar"):
                visitor = pages.enter_context(site.visitor(app, views[0]))
                page = pages.enter_context(
                    visitor.stream("GET", f"{views[0].public}/omniq/?live=1", headers=LIVE)
                )
                assert "event-stream" in page.headers["content-type"]
                next(page.iter_text())
            web.send(signal.SIGTERM)
            assert web.ends() in (0, -signal.SIGTERM)  # pages that held it up would for an hour
    assert "Traceback" not in web.output, web.output


async def _works(site: Site, visitor: httpx.Client, app: str, view: View) -> None:
    """The app answers, and its own worker runs what it enqueues, in the same process, once."""
    here = visitor.get(f"{view.public}/where")
    assert here.status_code == 200, here.text
    mark = f"{app}-{view.strip or 'whole'}"
    answer = visitor.post(f"{view.public}/start", params={"mark": mark})
    assert answer.status_code in (200, 201), answer.text
    task = answer.json() if answer.headers["content-type"].endswith("json") else answer.text
    async with AsyncOmniQ(base_dir=site.folder / folder(app), embedded=False) as queue:
        assert await queue.get_result(task, timeout=PATIENCE) == here.json()["pid"]
    assert (site.folder / "runs.log").read_text().count(f"{mark} ") == 1


def _dashboard_is_right(visitor: httpx.Client, view: View) -> None:
    """Every link, style and script of the pages is below the place where the visitor is."""
    home = f"{view.public}/omniq"
    bare = visitor.get(home)
    if bare.is_redirect:
        assert httpx.URL(bare.headers["location"]).path == f"{home}/"
    links = set[str]()
    for page in ("/", "/tasks"):
        shown = visitor.get(home + page)
        assert shown.status_code == 200, shown.text
        links |= set(links_of(shown.text))
    assert len(links) > 8
    assert {link for link in links if not link.startswith(f"{home}/")} == set()
    for link in links - {f"{home}/logout"}:
        assert visitor.get(link).status_code in (200, 405), link
