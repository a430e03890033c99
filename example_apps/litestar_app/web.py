"""The web side: pages, the upload, and the app that holds them together."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.datastructures import CacheControlHeader, State, UploadFile
from litestar.di import NamedDependency, Provide
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, MultipartBody
from litestar.response import File, Redirect
from litestar.static_files import create_static_files_router

from omniq import AsyncOmniQ
from omniq.contrib.litestar import OmniQPlugin

from . import page
from .album import MAX_BYTES, MAX_PICTURES, Album, Batch, Refused
from .progress import Progress, progress_of
from .tasks import resume, tasks_of

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


@dataclass
class Upload:
    """The form of the page."""

    pictures: list[UploadFile] = field(default_factory=list)


async def add_pictures(album: Album, queue: AsyncOmniQ, uploads: list[Any]) -> Batch:
    """Files first, durably; then the tasks; only then is the sender told that they are in."""
    batch = await asyncio.to_thread(album.accept, uploads)
    if batch.pictures:
        await queue.enqueue_many(tasks_of(album, batch))
    return batch


async def newest(album: Album, queue: AsyncOmniQ) -> list[Progress]:
    return [await progress_of(album, queue, batch) for batch in album.batches()]


@get("/", media_type=MediaType.HTML, response_headers=HEADERS)
async def index(queue: NamedDependency[AsyncOmniQ], album: NamedDependency[Album]) -> str:
    return str(page.album_page(await newest(album, queue)))


@get("/live", media_type=MediaType.HTML, response_headers={"Cache-Control": "no-store"})
async def live(queue: NamedDependency[AsyncOmniQ], album: NamedDependency[Album]) -> str:
    return str(page.album(await newest(album, queue)))


@post("/pictures", request_max_body_size=MAX_PICTURES * MAX_BYTES)
async def upload(
    data: MultipartBody[Upload],
    request: Request[Any, Any, State],
    queue: NamedDependency[AsyncOmniQ],
    album: NamedDependency[Album],
) -> Response[Any]:
    sent = [(each.filename, each.file) for each in data.pictures if each.filename]
    batch = await add_pictures(album, queue, sent)
    refused = batch.refused if sent else (Refused("The form", "no picture was chosen"),)
    if request.accept.best_match(["text/html", "application/json"]) == "application/json":
        return Response(batch, status_code=201 if batch.pictures else 422)
    if batch.pictures:
        return Redirect(f"/#batch-{batch.id}", status_code=303)
    content = page.album_page(await newest(album, queue), notice=refused)
    return Response(str(content), media_type=MediaType.HTML, status_code=422, headers=HEADERS)


@get("/batches/{batch_id:str}")
async def batch_state(
    batch_id: FromPath[str], queue: NamedDependency[AsyncOmniQ], album: NamedDependency[Album]
) -> dict[str, Any]:
    """A batch for programs: one word per picture and for the sheet."""
    batch = album.batch(batch_id)
    if batch is None:
        raise NotFoundException("no such batch")
    state = await progress_of(album, queue, batch)
    pictures = {picture.name: state.of(picture) for picture in batch.pictures}
    return {"finished": state.finished, "sheet": state.sheet, "pictures": pictures}


@get(
    "/album/{batch_id:str}/{name:str}",
    cache_control=CacheControlHeader(private=True, max_age=31_536_000, immutable=True),
    sync_to_thread=True,
)
def picture(batch_id: FromPath[str], name: FromPath[str], album: NamedDependency[Album]) -> File:
    path = album.shown(batch_id, name)
    if path is None:
        raise NotFoundException("no such picture")
    return File(path, filename=name, media_type="image/webp", content_disposition_type="inline")


def create_app(base_dir: str | Path | None = None, **plugin: Any) -> Litestar:
    """The app over one folder: OMNIQ_BASE_DIR or `.omniq`, unless it is given."""
    folder = Path(base_dir or os.environ.get("OMNIQ_BASE_DIR") or ".omniq")
    album = Album(folder / "album")
    if base_dir:
        plugin["base_dir"] = folder
    omniq = OmniQPlugin(**plugin)

    @asynccontextmanager
    async def resuming(app: Litestar) -> AsyncIterator[None]:
        await asyncio.to_thread(album.tidy)
        await resume(album, omniq.queue)
        yield

    return Litestar(
        route_handlers=[
            index,
            live,
            upload,
            batch_state,
            picture,
            create_static_files_router("/static", directories=[Path(__file__).parent / "static"]),
        ],
        dependencies={"album": Provide(lambda: album, sync_to_thread=False)},
        plugins=[omniq],
        lifespan=[resuming],
        openapi_config=None,
    )
