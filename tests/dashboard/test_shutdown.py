"""An open dashboard does not keep a server from stopping."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest

from omniq import AsyncOmniQ
from omniq.dashboard import live
from tests.dashboard.kit import sign_in
from tests.programs import PATIENCE

pytestmark = [pytest.mark.asyncio, pytest.mark.once]


async def running(kind: str, base_dir: Path) -> tuple[asyncio.subprocess.Process, str]:
    """A server whose pages would stay open for an hour, and its address."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.dashboard.serving", kind, str(base_dir),
        cwd=Path(__file__).parents[2], stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stderr
    async with asyncio.timeout(PATIENCE):
        while not (said := re.search(rb"running on (\S+)", await process.stderr.readline())):
            assert not process.stderr.at_eof(), "the server ended"
    return process, said[1].decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("kind", "prefix"), [("alone", ""), ("host", "/omniq")])
async def test_open_pages_do_not_delay_the_end(
    tmp_path: Path, kind: str, prefix: str, number: signal.Signals
) -> None:
    process, address = await running(kind, tmp_path)
    try:
        async with httpx.AsyncClient(base_url=address, timeout=PATIENCE) as visitor:
            await sign_in(visitor, prefix)
            pages = [visitor.stream("GET", f"{prefix}/{page}?live=1") for page in ("", "tasks")]
            answers = [await page.__aenter__() for page in pages]
            texts = [answer.aiter_text() for answer in answers]
            for text in texts:
                assert "datastar-patch-elements" in await anext(text)
            process.send_signal(number)
            async with asyncio.timeout(PATIENCE):
                said = (await process.communicate())[1].decode()
            for text in texts:
                async for _ in text:  # each stream ended whole, it was not cut off
                    pass
            for page in pages:
                await page.__aexit__(None, None, None)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert "Traceback" not in said, said
    assert "Finished server process" in said
    if kind == "host":
        assert (tmp_path / "closed").exists(), "the host's own shutdown ran"


async def test_handlers_are_chained_not_replaced(queue: AsyncOmniQ) -> None:
    heard: list[int] = []

    def theirs(number: int, frame: FrameType | None) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, theirs)
    try:
        hub = live.Hub(lambda: queue)
        rendered = asyncio.Event()

        async def nothing() -> list[Any]:
            rendered.set()
            return []

        stream: Any = hub.stream(nothing)
        opening = asyncio.create_task(anext(stream, "ended"))
        await rendered.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await opening == "ended"
        assert heard == [signal.SIGTERM]
        assert hub.closing
        live.chain_signals(hub)
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM] * 2, "chained once, however often it is asked for"
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
async def test_what_the_system_does_by_itself_is_left_alone(
    queue: AsyncOmniQ, handler: signal.Handlers
) -> None:
    before = signal.signal(signal.SIGTERM, handler)
    try:
        live.chain_signals(live.Hub(lambda: queue))
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_other_threads_touch_no_handlers(queue: AsyncOmniQ) -> None:
    before = signal.getsignal(signal.SIGTERM)
    await asyncio.to_thread(live.chain_signals, live.Hub(lambda: queue))
    assert signal.getsignal(signal.SIGTERM) is before
