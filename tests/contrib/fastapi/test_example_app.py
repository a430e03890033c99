"""The ledger desk under uvicorn: an uploaded CSV becomes a report and a mail."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from example_apps.fastapi_app.samples import SAMPLES
from omniq import AsyncOmniQ, Status, TaskFilter
from tests.contrib.fastapi.serving import Web, serving
from tests.dashboard.chromium import launched, opened
from tests.programs import PATIENCE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.once]
APP = "example_apps.fastapi_app.app:app"
HELD = "tests.contrib.fastapi.held_desk:app"
"""The same, with readings that can be held; see `held`."""
STEADY = {"LEDGER_FLAKY": "0", "LEDGER_HOLD": "hold"}
JSON = {"accept": "application/json"}
LEDGER = """\
Datum;Kategorie;Text;Betrag
03.01.2026;Waren;Brot & <b>Kuchen</b>;-12,50
04.01.2026;Umsatz;Kasse;1.200,00 €
31.02.2026;Umsatz;Kasse;900,00
05.02.2026;Umsatz;Kasse;zwölf
06.02.2026;Umsatz
07.02.2026;Umsatz;Kasse;99,90
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ledger")


@pytest.fixture(scope="module")
def desk(folder: Path) -> Iterator[Web]:
    with serving("uvicorn", HELD, cwd=folder, env=STEADY) as web:
        yield web


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Within the block no reading of the desk in that folder goes beyond its next lines."""
    (folder / STEADY["LEDGER_HOLD"]).touch()
    try:
        yield
    finally:
        (folder / STEADY["LEDGER_HOLD"]).unlink()


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=PATIENCE)


def post(url: str, **more: Any) -> httpx.Response:
    return httpx.post(url, timeout=PATIENCE, **more)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def queue(folder: Path) -> AsyncIterator[AsyncOmniQ]:
    async with AsyncOmniQ(base_dir=folder / ".omniq", embedded=False) as queue:
        yield queue


def sales(number: int) -> bytes:
    """A ledger of some length; another number, another file."""
    return SAMPLES["shop-sales.csv"].make() + b"2026-10-27,Lakeside,Bread,Roll,1.00\r\n" * number


def upload(desk: Web, content: bytes, name: str = "january.csv", **fields: str) -> httpx.Response:
    headers = {"accept": fields.pop("accept", "application/json")}
    files = {"file": (name, content)}
    return post(f"{desk.url}/reports", files=files, data=fields, headers=headers)


async def ended(queue: AsyncOmniQ, report: str) -> dict[str, Status]:
    """Wait until all tasks of a report have ended, woken by the queue itself."""
    async with asyncio.timeout(PATIENCE), queue.listen({"tasks"}) as ear:
        while True:
            rows = (await queue.find(TaskFilter(tag=report))).tasks
            if {row.name for row in rows} == {"ledger.read", "ledger.mail"} and all(
                row.status.final for row in rows
            ):
                return {row.name: row.status for row in rows}
            await ear.wait(1.0)


def mail_of(desk: Web, report: str) -> EmailMessage:
    answer = get(f"{desk.url}/reports/{report}/mail")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("message/rfc822")
    mail = message_from_bytes(answer.content, policy=default)
    assert isinstance(mail, EmailMessage)
    return mail


async def test_an_upload_becomes_a_report_and_a_mail(desk: Web, queue: AsyncOmniQ) -> None:
    answer = upload(desk, LEDGER.encode("cp1252"), mail_to="till@shop.example")
    assert answer.status_code == 202
    report = answer.json()["id"]
    assert await ended(queue, report) == {
        "ledger.read": Status.SUCCEEDED,
        "ledger.mail": Status.SUCCEEDED,
    }
    told = get(f"{desk.url}/api/reports/{report}/answer?wait=20")
    assert told.json() == {"lines": 3, "rejected": 3}

    page = get(f"{desk.url}/reports/{report}").text
    assert "Windows-1252, semicolons, 1.234,56, day.month.year" in page
    assert "1,287.40 EUR" in page and "Jan 2026: 1,200.00 EUR" in page
    assert "&lt;b&gt;" not in page and "<b>Kuchen" not in page
    for number, why in [
        ("4", "“31.02.2026” is no day of the calendar"),
        ("5", "“zwölf” is no amount"),
        ("6", "2 columns, 4 are needed"),
    ]:
        assert f'<th scope="row">{number}</th><td>{why}</td>' in page
    assert 'http-equiv="refresh"' not in page, "a page on which nothing moves stays still"

    mail = mail_of(desk, report)
    assert mail["to"] == "till@shop.example" and mail["subject"] == "Ledger report: january.csv"
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None and html is not None
    assert "1,287.40 EUR" in text.get_content()
    assert "line 5: “zwölf” is no amount" in text.get_content()
    assert "<h1>january.csv</h1>" in html.get_content()


async def test_the_same_bytes_are_one_report_and_one_task(
    desk: Web, folder: Path, queue: AsyncOmniQ
) -> None:
    content = SAMPLES["shop-sales.csv"].make()
    with held(folder):
        async with asyncio.TaskGroup() as group:
            twins = [
                group.create_task(asyncio.to_thread(upload, desk, content, name))
                for name in ("one.csv", "two.csv", "three.csv")
            ]
    ids = {twin.result().json()["id"] for twin in twins}
    assert len(ids) == 1
    (report,) = ids
    await ended(queue, report)
    again = upload(desk, content, "four.csv")
    assert again.json()["id"] == report
    names = [row.name for row in (await queue.find(TaskFilter(tag=report))).tasks]
    assert sorted(names) == ["ledger.mail", "ledger.read"]


@pytest.mark.parametrize(
    ("name", "said", "lines", "rejected"),
    [
        ("bank-statement.csv", "Windows-1252, semicolons, 1.234,56, day.month.year", 896, 4),
        ("market-stalls.tsv", "UTF-16, tabs, 1,234.56, month/day/year", 1499, 1),
        ("shop-sales.csv", "UTF-8, commas, 1,234.56, year-month-day", 5996, 3),
    ],
)
async def test_each_sample_is_understood(
    desk: Web, queue: AsyncOmniQ, name: str, said: str, lines: int, rejected: int
) -> None:
    answer = post(f"{desk.url}/samples/{name}", headers=JSON)
    report = answer.json()["id"]
    await ended(queue, report)
    told = get(f"{desk.url}/api/reports/{report}/answer").json()
    assert told == {"lines": lines, "rejected": rejected}
    page = get(f"{desk.url}/reports/{report}").text
    assert said in page and "None: every amount" not in page, "some lines stand out"
    assert get(f"{desk.url}/samples/{name}").content == SAMPLES[name].make()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "this is no text file"),
        (b"name,age\nA,3\n", "no line names a column for the date"),
        (b"date,amount\n", "there is a header, and no line below it"),
    ],
)
async def test_what_is_no_ledger_is_refused_in_words(desk: Web, content: bytes, why: str) -> None:
    answer = upload(desk, content, "<i>.csv")
    assert answer.status_code == 422 and answer.json()["detail"].startswith(why)
    page = upload(desk, content, "<i>.csv", accept="text/html")
    assert page.status_code == 422 and why in page.text


async def test_strangers_and_odd_addresses_are_refused(desk: Web) -> None:
    answer = upload(desk, LEDGER.encode(), mail_to="x@y.example\r\nBcc: z@y.example")
    assert answer.status_code == 422 and "no mail address" in answer.json()["detail"]
    cross = {"sec-fetch-site": "cross-site"}
    assert post(f"{desk.url}/samples/busy-year.csv", headers=cross).status_code == 403
    for path in ("/reports/nothing", "/samples/nothing.csv", "/reports/nothing/mail", "/nothing"):
        assert get(desk.url + path).status_code == 404


async def test_a_reading_that_is_cancelled_goes_on_where_it_stopped(
    desk: Web, folder: Path, queue: AsyncOmniQ
) -> None:
    with held(folder):
        report = upload(desk, sales(1)).json()["id"]
        await _under_way(queue, report)
        answer = post(f"{desk.url}/reports/{report}/cancel")
        assert answer.status_code == 303
        states = await ended(queue, report)
    assert states["ledger.read"] is Status.CANCELLED
    assert states["ledger.mail"] is not Status.SUCCEEDED, "there is nothing to mail"
    state = get(f"{desk.url}/api/reports/{report}").json()
    assert state["state"] == "cancelled" and 0 < state["done"] < state["total"]
    page = get(f"{desk.url}/reports/{report}").text
    assert "Cancelled" in page and "Go on with it" in page
    post(f"{desk.url}/reports/{report}/read")
    wait = f"{desk.url}/api/reports/{report}/answer?wait=30"
    assert get(wait).json() == {"lines": 5997, "rejected": 3}


async def test_a_kill_costs_nothing(tmp_path: Path) -> None:
    env = STEADY | {"OMNIQ_LEASE": "3"}
    async with AsyncOmniQ(base_dir=tmp_path / ".omniq", embedded=False) as queue:
        with serving("uvicorn", HELD, cwd=tmp_path, env=env) as desk, held(tmp_path):
            report = upload(desk, sales(0)).json()["id"]
            stopped = upload(desk, sales(1)).json()["id"]
            post(f"{desk.url}/reports/{stopped}/cancel")
            await _under_way(queue, report)
            desk.send(signal.SIGKILL)
            desk.ends()
        with serving("uvicorn", HELD, cwd=tmp_path, env=env) as desk:
            assert set((await ended(queue, report)).values()) == {Status.SUCCEEDED}
            told = get(f"{desk.url}/api/reports/{report}/answer").json()
            assert told == {"lines": 5996, "rejected": 3}, "no line is lost or counted twice"
            state = get(f"{desk.url}/api/reports/{stopped}").json()["state"]
            assert state == "cancelled", "what somebody stopped is not started by a restart"
    mails = list((tmp_path / ".omniq" / "ledger" / "outbox").iterdir())
    assert [path.name for path in mails] == [f"{report}.eml"]


async def _under_way(queue: AsyncOmniQ, report: str) -> None:
    async with asyncio.timeout(PATIENCE), queue.listen({"tasks"}) as ear:
        while True:
            for row in (await queue.find(TaskFilter(tag=report, names=("ledger.read",)))).tasks:
                progress: Any = (await queue.info(row.id)).progress
                if row.status is Status.RUNNING and progress and progress["done"]:
                    return
            await ear.wait(0.2)


async def test_a_mail_folder_that_is_away_is_tried_again(tmp_path: Path) -> None:
    away = tmp_path / "outbox"
    away.write_text("a file where the folder should be")
    env = STEADY | {"LEDGER_OUTBOX": str(away)}
    with serving("uvicorn", APP, cwd=tmp_path, env=env) as desk:
        report = upload(desk, LEDGER.encode()).json()["id"]
        async with AsyncOmniQ(base_dir=tmp_path / ".omniq", embedded=False) as queue:
            async with asyncio.timeout(PATIENCE), queue.listen({"tasks"}) as ear:
                mail = TaskFilter(tag=report, names=("ledger.mail",))
                while True:
                    (row,) = (await queue.find(mail)).tasks
                    if (await queue.info(row.id)).errors:
                        break
                    await ear.wait(0.5)
            away.unlink()
            assert (await ended(queue, report))["ledger.mail"] is Status.SUCCEEDED
            info = await queue.info(row.id)
            assert info.row.attempt == len(info.errors) + 1
            assert {error.type for error in info.errors} == {"FileExistsError"}
    assert [path.name for path in away.iterdir()] == [f"{report}.eml"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with launched() as browser:
        yield browser


@pytest.mark.browser
async def test_the_page_follows_by_itself(
    desk: Web, folder: Path, tmp_path: Path, chromium: Browser
) -> None:
    ledger = tmp_path / "sales.csv"
    ledger.write_bytes(sales(2))
    async with opened(chromium, color_scheme="dark") as tab:
        page = tab.page
        await page.goto(desk.url)
        await page.set_input_files("#file", ledger)
        with held(folder):
            await page.get_by_role("button", name="Read it").click()
            await page.wait_for_url("**/reports/*")
            await page.evaluate("window.same = true")
            await expect(page.locator("#progress progress")).to_be_visible()
        await expect(page.locator("#progress .word")).to_have_text("Done")
        await expect(page.locator("svg.chart")).to_have_count(2)
        await expect(page.get_by_role("link", name="Open the mail")).to_be_visible()
        assert await page.evaluate("window.same"), "the page was not loaded again"
        for width in (320, 700, 1200):
            await page.set_viewport_size({"width": width, "height": 700})
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
        assert all(url.startswith(desk.url) for url in tab.asked)


@pytest.mark.browser
async def test_without_scripts_forms_and_a_refresh_do(
    tmp_path: Path, desk: Web, chromium: Browser
) -> None:
    ledger = tmp_path / "february.csv"
    ledger.write_text(LEDGER.replace("2026", "2025"), "utf-8")
    async with opened(chromium, scripts=False) as tab:
        page = tab.page
        await page.goto(desk.url)
        await page.set_input_files("#file", ledger)
        await page.get_by_role("button", name="Read it").click()
        await expect(page.locator("#progress .word")).to_have_text("Done")
        await expect(page.get_by_text("is no day of the calendar")).to_be_visible()
        await page.goto(desk.url)
        row = page.locator("#reports tr", has_text="february.csv")
        await expect(row.locator(".word")).to_have_text("Done")
    desk.says(r"POST /reports HTTP/1.1\" 303")
