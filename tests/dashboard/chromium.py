"""A real headless Chromium for the tests marked `browser`."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    async_playwright,
    expect,
)

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 60_000
"""Milliseconds to wait for what a page should do in a moment: only one that hangs gets there."""
expect.set_options(timeout=PATIENCE)
MISSING = (
    "there is no Chromium, and the dashboard is tested in a real one: run "
    "`uv run python tools/browser.py`, which installs it, or leave these tests out with "
    "`-m 'not browser'`"
)


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        path = next((found for name in NAMES if (found := shutil.which(name))), None)
        path = path or playwright.chromium.executable_path
        if not Path(path).exists():
            pytest.fail(MISSING)
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        await browser.close()


async def pressed(page: Page, button: str, told: str) -> None:
    """Press a button and see its toast, which is looked for from before: it leaves by itself."""
    await asyncio.gather(
        expect(page.locator("#toasts .toast")).to_contain_text(told),
        page.get_by_role("button", name=button).click(),
    )


class Tab:
    """A page that remembers everything that should not have happened."""

    def __init__(self, context: BrowserContext, page: Page) -> None:
        self.context, self.page = context, page
        self.wrong: list[str] = []
        self.asked: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: self.asked.append(request.url))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type}: {message.text}")


@asynccontextmanager
async def opened(browser: Browser, *, scripts: bool = True, **more: object) -> AsyncIterator[Tab]:
    """A fresh profile with one tab; anything wrong in its console fails the test."""
    context = await browser.new_context(java_script_enabled=scripts, **more)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE)
    tab = Tab(context, await context.new_page())
    try:
        yield tab
        assert tab.wrong == []
    finally:
        await context.close()
