"""The browser module speaks Datastar's protocol, and runs nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from datastar_py import ServerSentEventGenerator as Sse
from datastar_py.consts import ElementPatchMode as Mode
from datastar_py.litestar import DatastarResponse
from htpy import p
from litestar import Litestar, Request, get, post
from playwright.async_api import Browser, Page, expect

from omniq.dashboard import dashboard_router
from tests.dashboard.chromium import Tab, launched, opened
from tests.dashboard.kit import TOKEN, a_queue, served

pytestmark = [
    pytest.mark.browser,
    pytest.mark.once,
    pytest.mark.asyncio(loop_scope="module"),
]
seen: list[dict[str, Any]] = []


@get("/probe/tick")
async def tick(request: Request[Any, Any, Any]) -> DatastarResponse:
    """Counts how often it was asked."""
    seen.append({"query": dict(request.query_params), "by": request.headers["datastar-request"]})
    return DatastarResponse(Sse.patch_signals({"ticks": len(seen)}))


@post("/probe/all", status_code=200)
async def everything(request: Request[Any, Any, Any]) -> DatastarResponse:
    """One event of every kind there is."""
    seen.append({"json": await request.json()})
    return DatastarResponse(
        [
            Sse.patch_signals({"name": "first", "deep": {"on": True}, "_own": 1}),
            Sse.patch_signals({"name": "second", "other": 5}, only_if_missing=True),
            Sse.patch_elements(p("#outer.new")["morphed"]),
            Sse.patch_elements("<b>in</b>\n<b>side</b>", selector="#inner", mode=Mode.INNER),
            Sse.patch_elements(p("#swapped")["replaced"], selector="#old", mode=Mode.REPLACE),
            Sse.patch_elements(p["1"], selector="#box", mode=Mode.PREPEND),
            Sse.patch_elements(p["3"], selector="#box", mode=Mode.APPEND),
            Sse.patch_elements(p("#before")["b"], selector="#box", mode=Mode.BEFORE),
            Sse.patch_elements(p("#after")["a"], selector="#box", mode=Mode.AFTER),
            Sse.remove_elements("#gone"),
        ]
    )


@post("/probe/form", status_code=200)
async def form(request: Request[Any, Any, Any]) -> DatastarResponse:
    seen.append({"form": dict(await request.form())})
    return DatastarResponse(Sse.patch_signals({"name": "sent"}))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium() -> AsyncIterator[Browser]:
    async with launched() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def tab(tmp_path: Path, chromium: Browser) -> AsyncIterator[Tab]:
    """A page of the dashboard without a stream of its own, with an empty stage in it."""
    seen.clear()
    async with a_queue(tmp_path) as queue:
        router = dashboard_router(lambda: queue)
        app = Litestar([router, tick, everything, form], logging_config=None)
        async with served(app, close=router.close_streams) as address, opened(chromium) as tab:
            await tab.page.goto(f"{address}/omniq/about?token={TOKEN}")
            yield tab


async def stage(page: Page, html: str) -> None:
    await page.evaluate("html => document.querySelector('main').innerHTML = html", html)


async def test_every_event_and_attribute(tab: Tab) -> None:
    page = tab.page
    await stage(
        page,
        """
        <div data-signals='{"mine": 1, "_secret": 2}'></div>
        <button data-on:click__prevent="@post('/probe/all')">go</button>
        <p id="name" data-text="$name">none</p>
        <p id="other" data-text="$other"></p>
        <p id="on" data-show="$deep.on">on</p>
        <p id="off" data-show="!$deep.on">off</p>
        <p id="outer" class="old">old</p><div id="inner">x</div><p id="old">x</p>
        <div id="box"><p>2</p></div><p id="gone">x</p>
        """,
    )
    await page.get_by_role("button", name="go").click()
    await expect(page.locator("#gone")).to_have_count(0)  # the last of them has come
    await expect(page.locator("#name")).to_have_text("first")
    await expect(page.locator("#other")).to_have_text("5")
    await expect(page.locator("#on")).to_be_visible()
    await expect(page.locator("#off")).to_be_hidden()
    await expect(page.locator("#outer")).to_have_text("morphed")
    await expect(page.locator("#outer")).to_have_class("new")
    assert await page.locator("#inner").inner_html() == "<b>in</b><b>side</b>"
    await expect(page.locator("#swapped")).to_have_text("replaced")
    await expect(page.locator("#box")).to_have_text("123")
    order = "[...document.querySelectorAll('#before, #box, #after')].map(el => el.id)"
    assert await page.evaluate(order) == ["before", "box", "after"]
    assert seen == [{"json": {"mine": 1}}], "signals of its own stay with the page"


async def test_an_interval_asks_until_its_element_is_gone(tab: Tab) -> None:
    page = tab.page
    await stage(
        page,
        """<i data-signals='{"q": "x"}'></i><p id="n" data-text="$ticks"></p>
        <div id="timer" data-on-interval__duration.50ms='@get("/probe/tick")'></div>""",
    )
    await expect(page.locator("#n")).to_have_text(re.compile(r"^([3-9]|\d\d+)$"))
    await page.evaluate("document.getElementById('timer').remove()")
    # What the page asks counts, not what the server has come to answer.
    await page.evaluate("new Promise(done => setTimeout(done, 300))")
    asked = [url for url in tab.asked if "/probe/tick" in url]
    await page.evaluate("new Promise(done => setTimeout(done, 300))")
    assert [url for url in tab.asked if "/probe/tick" in url] == asked
    assert seen[0] == {"query": {"datastar": '{"q":"x"}'}, "by": "true"}


async def test_a_form_is_sent_with_its_fields(tab: Tab) -> None:
    page = tab.page
    await stage(
        page,
        """<form data-on:submit='@post("/probe/form", {"contentType": "form"})' action="/nowhere">
        <input name="a" value="1 & 2"><input name="must" required>
        <button name="by" value="me">send</button></form><p id="name" data-text="$name"></p>""",
    )
    await page.get_by_role("button", name="send").click()
    await page.locator("[name=must]").fill("given")
    await page.get_by_role("button", name="send").click()
    await expect(page.locator("#name")).to_have_text("sent")
    assert seen == [{"form": {"a": "1 & 2", "must": "given", "by": "me"}}]
    assert page.url.endswith("/omniq/about")


NO_CALLS = [
    "window.hit = 1",
    "@get('/probe/tick'); window.hit = 1",
    "@get('/probe/tick') || (window.hit = 1)",
    "@get(`/probe/tick${window.hit = 1}`)",
    "@get('/probe/tick', {a: (window.hit = 1)})",
    "@get('https://evil.example/probe/tick')",
    "@get('//evil.example/')",
    "@get('javascript:window.hit=1')",
    "@delete('/probe/tick')",
    "@get()",
    "",
]


async def test_what_is_no_plain_call_is_not_run(tab: Tab) -> None:
    page = tab.page
    for text in NO_CALLS:
        await page.evaluate(
            """text => {
              const main = document.querySelector('main')
              main.innerHTML = '<button>press</button><p id="t">kept</p>'
              main.firstChild.setAttribute('data-init', text)
              main.firstChild.setAttribute('data-on:click', text)
              main.lastChild.setAttribute('data-text', text)
              main.lastChild.setAttribute('data-show', text)
            }""",
            text,
        )
        await page.get_by_role("button", name="press").click()
        await page.evaluate("new Promise(done => setTimeout(done, 50))")
        assert await page.evaluate("window.hit") is None, text
        assert [url for url in tab.asked if "/omniq/" not in url] == [], text
        await expect(page.locator("#t")).to_have_text("kept")
        assert len(tab.wrong) == 2, text  # the start and the click, each refused aloud
        assert all("no call the module makes" in one for one in tab.wrong), tab.wrong
        tab.wrong.clear()
    assert seen == []


async def test_morphs_change_as_little_as_they_can(tab: Tab) -> None:
    page = tab.page
    await stage(
        page,
        """<section id="s"><p id="a">a</p><p id="b">b</p><p id="c">c</p>
        <details id="d" data-preserve-attr="open"><summary>s</summary>x</details>
        <div id="mine" data-ignore-morph>mine</div>
        <input id="i" value="old"><textarea id="t">old</textarea>
        <svg><circle r="1"></circle></svg></section>""",
    )
    path = await page.evaluate("document.querySelector('script[src$=\"live.js\"]').src")
    told = await page.evaluate(
        """async path => {
          const { patch } = await import(path.replace('live.js', 'morph.js'))
          const get = id => document.getElementById(id)
          get('d').open = true
          get('i').value = 'typed'
          get('t').value = 'typed'
          const before = Object.fromEntries(['a', 'b', 'c', 'd', 'i', 't'].map(id => [id, get(id)]))
          get('i').focus()
          patch({ elements: `<section id="s" class="x"><p id="new">n</p><p id="c">c2</p><p id="a">a</p>
            <details id="d" data-preserve-attr="open"><summary>s2</summary>x</details>
            <div id="mine" data-ignore-morph>theirs</div>
            <input id="i" value="new"><textarea id="t">new</textarea>
            <svg><circle r="2"></circle></svg></section>` })
          return {
            order: [...document.querySelectorAll('#s > [id]')].map(el => el.id),
            same: ['a', 'c', 'd', 'i', 't'].every(id => get(id) === before[id]),
            gone: !before.b.isConnected,
            open: get('d').open, summary: get('d').firstChild.textContent,
            mine: get('mine').textContent, text: get('c').textContent,
            input: get('i').value, area: get('t').value,
            focus: document.activeElement.id, section: get('s').className,
            circle: document.querySelector('#s circle').getAttribute('r'),
            space: document.querySelector('#s circle').namespaceURI,
          }
        }""",
        path,
    )
    assert told == {
        "order": ["new", "c", "a", "d", "mine", "i", "t"],
        "same": True,
        "gone": True,
        "open": True,
        "summary": "s2",
        "mine": "mine",
        "text": "c2",
        "input": "typed",
        "area": "typed",
        "focus": "i",
        "section": "x",
        "circle": "2",
        "space": "http://www.w3.org/2000/svg",
    }
