"""The Django example, as somebody who tries it: one command, a busy day, a digest, the staff."""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from email.policy import default
from pathlib import Path

import httpx
import pytest

from tests.programs import PATIENCE, ROOT, Program, free_port, run

pytestmark = pytest.mark.newer

PROJECT = ROOT / "example_apps" / "django_project"


class Shop(Program):
    """`manage.py open_shop` in a directory of its own, and a browser without scripts."""

    def __init__(self, folder: Path) -> None:
        self.folder, port = folder, free_port()
        command = ["-u", "manage.py", "open_shop", f"127.0.0.1:{port}"]
        super().__init__(command, cwd=PROJECT, env={"STOCKROOM_DIR": str(folder)})
        self.browser = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", follow_redirects=True, timeout=PATIENCE
        )

    def post(self, path: str, **fields: str) -> httpx.Response:
        token = self.browser.cookies.get("csrftoken") or ""
        return self.browser.post(path, data={"csrfmiddlewaretoken": token, **fields})

    def work_off(self, ended: int = 0) -> dict[str, int]:
        """Ask as the page's script does, until nothing waits or runs and so many have ended.

        A sale of more than the shelf holds is tried again after a pause in which it does neither.
        """
        while True:
            counts: dict[str, int] = self.browser.get("/at-work/").json()
            over = counts["done"] + counts["failed"] >= ended
            if over and not counts["waiting"] + counts["running"]:
                return counts

    def mail(self) -> list[str]:
        """The subjects of what was mailed."""
        found = []
        for path in (self.folder / "mail").glob("*.log"):
            for text in path.read_text().split("-" * 79):
                if text.strip():
                    message = email.message_from_string(text.lstrip(), policy=default)
                    found.append(str(message["subject"]))
        return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with Shop(tmp_path_factory.mktemp("stockroom")) as shop:
        shop.says(r"Quit the server")
        with shop.browser:
            yield shop


def test_the_shelves_are_filled_and_a_movement_is_recorded(shop: Shop) -> None:
    page = shop.browser.get("/").text
    product = re.search(r'<option value="(\d+)">Sea salt', page)
    assert product is not None
    assert "Recorded: -3 Sea salt" in shop.post("/move/", product=product[1], quantity="-3").text
    page = shop.post("/move/", product=product[1], quantity="-4000", note="too much").text
    assert "47 of Sea salt are left, 4000 are wanted" in page
    assert "too much" not in page, "a movement that failed leaves nothing"
    assert "give a whole number" in shop.post("/move/", product="x", quantity="1").text


def test_a_busy_day_warns_the_office_and_is_summed_up(shop: Shop) -> None:
    shop.browser.get("/")
    assert "60 customers and 0 deliveries" in shop.post("/day/").text
    shop.work_off(60)
    low = shop.browser.get("/").text.count('<span class="tag">low</span>')
    warned = [each for each in shop.mail() if each.startswith("Low: ")]
    assert len(warned) == low, "one warning for each shelf that runs low, in its transaction"

    assert "Today&#x27;s digest is being made" in shop.post("/digests/make/").text
    shop.work_off()
    assert any(each.startswith("Digest of ") for each in shop.mail())
    link = re.search(r'href="(/digests/[\d-]+/)"', shop.browser.get("/").text)
    assert link is not None
    assert "went out" in shop.browser.get(link[1]).text


def test_a_form_without_its_token_is_refused(shop: Shop) -> None:
    assert shop.browser.post("/day/").status_code == 403


def test_the_staff_see_the_dashboard_and_the_admin(shop: Shop) -> None:
    password = shop.says(r"password (?:\x1b\[[\d;]*m)*([\w-]+)")[1]
    login = shop.browser.get("/omniq/")
    assert "/admin/login/" in str(login.url), "strangers are sent to the login"
    page = shop.post("/admin/login/", username="keeper", password=password, next="/omniq/tasks")
    assert page.url.path == "/omniq/tasks"
    assert "stockroom.tasks:" in page.text
    assert "Tasks" in shop.browser.get("/admin/").text


@pytest.mark.timeout(300)  # five programs, each with all of Django
def test_the_shop_opens_again_with_one_night_planned(tmp_path: Path) -> None:
    there = {"STOCKROOM_DIR": str(tmp_path)}
    for _ in range(2):
        done = run(["manage.py", "open_shop", "--no-serve"], cwd=PROJECT, **there)
        assert done.returncode == 0, done.stderr
    assert "as before" in done.stdout
    status = run(["manage.py", "omniq_status", "--json"], cwd=PROJECT, **there)
    assert '"scheduled": 1' in status.stdout
    changes = run(["manage.py", "makemigrations", "--check"], cwd=PROJECT, **there)
    assert changes.returncode == 0, changes.stdout
