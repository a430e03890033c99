"""The album's page in a real browser: it moves by itself, and it works without a script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from example_apps.litestar_app.samples import make_samples
from tests.dashboard.chromium import launched
from tests.programs import ROOT, Server

pytestmark = [pytest.mark.asyncio, pytest.mark.browser, pytest.mark.once]


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[Browser]:
    async with launched() as browser:
        yield browser


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    app = "example_apps.litestar_app.app:app"
    with Server(app, cwd=tmp_path, paths=[ROOT]) as server:
        yield server


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return make_samples(tmp_path / "samples", 5)


async def test_chosen_pictures_come_in_and_fill_by_themselves(
    browser: Browser, server: Server, pictures: list[Path]
) -> None:
    page = await browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    await page.goto(server.url)
    loads: list[Page] = []
    await page.set_input_files("#pictures", pictures)
    await page.wait_for_url("**/#batch-*")
    page.on("load", lambda page: loads.append(page))
    await expect(page.locator("li.done")).to_have_count(5)
    await expect(page.get_by_role("link", name="Contact sheet")).to_be_visible()
    await expect(page.locator("progress")).to_have_count(0)
    seen = await page.locator("li.done img").evaluate_all("all => all.map(i => i.naturalWidth)")
    assert all(width > 0 for width in seen) and len(seen) == 5
    assert loads == [], "the page was not loaded again"
    assert said == []


async def test_without_scripts_the_form_and_a_refresh_do(
    browser: Browser, server: Server, pictures: list[Path]
) -> None:
    page = await browser.new_page(java_script_enabled=False)
    await page.goto(server.url)
    await page.set_input_files("#pictures", pictures[:2])
    await page.get_by_role("button", name="Upload").click()
    await expect(page.locator("li.done")).to_have_count(2)
    await expect(page.get_by_role("link", name="Contact sheet")).to_be_visible()
