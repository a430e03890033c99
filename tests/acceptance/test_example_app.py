"""The album under uvicorn: pictures sent over HTTP become thumbnails on disk."""

from __future__ import annotations

import io
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from omniq import AsyncOmniQ
from tests.programs import PATIENCE, ROOT, Server

pytestmark = [pytest.mark.asyncio, pytest.mark.once]
APP = "example_apps.litestar_app.app:app"


def picture(kind: str, size: tuple[int, int], colour: str) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, kind)
    return content.getvalue()


def size_of(source: Path | io.BytesIO) -> tuple[int, int]:
    with Image.open(source) as image:
        return image.size


PICTURES = {
    "sea.jpg": picture("JPEG", (1600, 900), "teal"),
    "../../etc/pass wd.png": picture("PNG", (300, 800), "maroon"),
    "<b>bold.webp": picture("WEBP", (64, 64), "olive"),
}
NO_PICTURES = {"notes.jpg": b"these are only words", "half.png": PICTURES["sea.jpg"][:40]}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(APP, cwd=tmp_path, paths=[ROOT]) as server:
        yield server


def upload(server: Server, files: dict[str, bytes], **headers: str) -> httpx.Response:
    parts = [("pictures", (name, content)) for name, content in files.items()]
    return post(f"{server.url}/pictures", files=parts, headers=headers)


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=PATIENCE)


def post(url: str, **more: Any) -> httpx.Response:
    return httpx.post(url, timeout=PATIENCE, **more)


async def finished(tmp_path: Path, batch: dict[str, Any]) -> dict[str, Any]:
    """What the contact sheet's task answers; it runs after all thumbnails of its batch."""
    async with AsyncOmniQ(base_dir=tmp_path / ".omniq", embedded=False) as queue:
        made: dict[str, Any] = await queue.get_result(batch["sheet"], timeout=PATIENCE)
        return made


async def test_uploaded_pictures_become_thumbnails_and_a_sheet(
    tmp_path: Path, server: Server
) -> None:
    answer = upload(server, PICTURES | NO_PICTURES, accept="application/json")
    assert answer.status_code == 201
    batch = answer.json()
    assert [each["name"] for each in batch["pictures"]] == [
        "sea.jpg", "pass wd.png", "<b>bold.webp",
    ]  # fmt: skip
    words, cut = batch["refused"]
    assert words == {"name": "notes.jpg", "why": "this is not a JPEG, PNG, WebP or GIF picture"}
    assert cut["name"] == "half.png" and cut["why"].startswith("this picture is damaged")

    assert (await finished(tmp_path, batch))["files"] == ["sheet.webp"]
    folder = tmp_path / ".omniq" / "album" / batch["id"]
    made = {path.name: size_of(path) for path in folder.glob("*.webp")}
    assert made.pop("sheet.webp")[0] > 400
    assert made == {
        "01-small.webp": (240, 135), "01-medium.webp": (640, 360), "01-large.webp": (1280, 720),
        "02-small.webp": (90, 240), "02-medium.webp": (240, 640), "02-large.webp": (300, 800),
        "03-small.webp": (64, 64), "03-medium.webp": (64, 64), "03-large.webp": (64, 64),
    }  # fmt: skip
    originals = sorted(path.name for path in (folder / "originals").iterdir())
    assert originals == ["01-sea.jpg", "02-pass-wd.png", "03-b-bold.webp"]

    state = get(f"{server.url}/batches/{batch['id']}").json()
    assert state["finished"] and set(state["pictures"].values()) == {"done"}
    shown = get(f"{server.url}/album/{batch['id']}/01-small.webp")
    assert shown.headers["content-type"] == "image/webp"
    assert size_of(io.BytesIO(shown.content)) == (240, 135)


async def test_the_form_works_without_a_script(tmp_path: Path, server: Server) -> None:
    answer = upload(server, {"sea.jpg": PICTURES["sea.jpg"]}, accept="text/html")
    assert answer.status_code == 303
    (batch,) = re.findall(r"#batch-(\S+)", answer.headers["location"])
    busy = get(server.url).text
    assert "sea.jpg" in busy
    await finished(tmp_path, {"sheet": _sheet_task(tmp_path, batch)})
    done = get(server.url).text
    assert f"/album/{batch}/01-small.webp" in done and "Contact sheet" in done
    assert 'http-equiv="refresh"' not in done, "a page on which nothing moves stays still"


def _sheet_task(tmp_path: Path, batch: str) -> str:
    manifest = (tmp_path / ".omniq" / "album" / batch / "batch.json").read_text()
    found = re.search(r'"sheet":"([^"]+)"', manifest)
    assert found is not None
    return found[1]


async def test_what_is_no_picture_is_refused_in_words(tmp_path: Path, server: Server) -> None:
    answer = upload(server, {"<i>.jpg": b"words"}, accept="text/html")
    assert answer.status_code == 422
    assert "&lt;i&gt;.jpg" in answer.text and "was not taken" in answer.text
    nothing = post(f"{server.url}/pictures", headers={"accept": "text/html"})
    assert nothing.status_code in (400, 422)
    assert not list((tmp_path / ".omniq" / "album").glob("*/batch.json"))


@pytest.mark.parametrize(
    "path",
    [
        "/album/..%2f..%2fomniq.db/sheet.webp",
        "/album/0198c0de-0000-7000-8000-000000000000/sheet.webp",
        "/album/0198c0de-0000-7000-8000-000000000000/batch.json",
        "/batches/nothing",
    ],
)
async def test_only_what_was_made_is_served(server: Server, path: str) -> None:
    assert get(f"{server.url}{path}").status_code == 404


async def test_the_server_stops_in_order(server: Server) -> None:
    assert get(server.url).status_code == 200
    server.send(signal.SIGTERM)
    server.ends()
    assert "Application shutdown complete" in server.output
    assert "Traceback" not in server.output
