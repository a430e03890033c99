"""The web side: pages, the upload, the stream of progress, and the app that holds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Query, Request, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.staticfiles import StaticFiles

from omniq import ResultTimeout, TaskError
from omniq.contrib.fastapi import OmniQExtension, QueueDep

from . import pages
from .dialect import NotALedger
from .mailing import ADDRESS
from .progress import Standing, follow, standing, standings
from .reports import Report, Reports, ReportsDep
from .samples import SAMPLES
from .settings import SettingsDep, get_settings
from .tasks import resume, start

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; "
    "script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
MAIL_TO = "books@ledger.example"


async def same_site(request: Request) -> None:
    """Refuse forms that another site's page sends here."""
    if request.method == "POST" and request.headers.get("sec-fetch-site") == "cross-site":
        raise HTTPException(403, "this form was sent from another site")


async def known_report(report: str, reports: ReportsDep) -> Report:
    """The report a path names."""
    found = await asyncio.to_thread(reports.get, report)
    if found is None:
        raise HTTPException(404, "there is no such report")
    return found


KnownReport = Annotated[Report, Depends(known_report)]
router = APIRouter(dependencies=[Depends(same_site)])


@router.get("/", response_class=HTMLResponse)
async def index(queue: QueueDep, reports: ReportsDep) -> Response:
    return _html(pages.index_page(await standings(queue, reports), mail_to=MAIL_TO))


@router.post("/reports")
async def upload(
    request: Request,
    queue: QueueDep,
    reports: ReportsDep,
    file: UploadFile,
    mail_to: Annotated[str, Form()] = MAIL_TO,
) -> Response:
    """Keep the file first, durably; then enqueue; only then is the sender told that it is in."""
    try:
        if (file.size or 0) > pages.MAX_BYTES:
            raise NotALedger(f"it is larger than {pages.MAX_BYTES // 1024**2} MiB")
        if not ADDRESS.fullmatch(mail_to):
            raise NotALedger(f"{mail_to[:80]} is no mail address")
        name, content = _plain_name(file.filename or ""), await file.read()
        report = await asyncio.to_thread(reports.accept, name, content, mail_to)
    except NotALedger as error:
        if _wants_json(request):
            raise HTTPException(422, str(error)) from None
        found = await standings(queue, reports)
        page = pages.index_page(found, refused=str(error), mail_to=mail_to)
        return _html(page, status=422)
    return await _begin(request, queue, reports, report)


@router.post("/samples/{name}")
async def read_sample(
    name: str, request: Request, queue: QueueDep, reports: ReportsDep
) -> Response:
    if name not in SAMPLES:
        raise HTTPException(404, "there is no such sample")
    content = await asyncio.to_thread(SAMPLES[name].make)
    report = await asyncio.to_thread(reports.accept, name, content, MAIL_TO)
    return await _begin(request, queue, reports, report)


@router.get("/samples/{name}")
def download_sample(name: str) -> Response:
    if name not in SAMPLES:
        raise HTTPException(404, "there is no such sample")
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(SAMPLES[name].make(), media_type="text/csv", headers=headers)


@router.get("/reports/{report}", response_class=HTMLResponse)
async def show(report: KnownReport, queue: QueueDep, reports: ReportsDep) -> Response:
    rejected = await asyncio.to_thread(reports.rejected, report.id)
    return _html(pages.report_page(report, await standing(queue, report), rejected))


@router.post("/reports/{report}/cancel")
async def cancel(report: KnownReport, queue: QueueDep, reports: ReportsDep) -> Response:
    """Stop the reading, or the mail that waits for it; what was read so far is kept."""
    if report.read_task and report.mail_task and not report.mailed:
        await asyncio.to_thread(reports.stop, report.id, "cancelled")
        await queue.cancel(report.read_task, actor="the page")
        await queue.cancel(report.mail_task, actor="the page")
    return RedirectResponse(f"/reports/{report.id}", status_code=303)


@router.post("/reports/{report}/read")
async def read_again(report: KnownReport, queue: QueueDep, reports: ReportsDep) -> Response:
    """Go on with a report that was cancelled or failed."""
    if not report.mailed and not (await standing(queue, report)).busy:
        await start(queue, reports, report)
    return RedirectResponse(f"/reports/{report.id}", status_code=303)


@router.get("/reports/{report}/mail")
def mail(report: KnownReport, settings: SettingsDep) -> Response:
    path = settings.outbox / (report.mailed or "")
    if report.mailed is None or not path.is_file():
        raise HTTPException(404, "its mail was not written yet")
    return FileResponse(path, media_type="message/rfc822", filename=path.name)


@router.get("/api/reports/{report}")
async def state(report: KnownReport, queue: QueueDep) -> Standing:
    """A report for programs."""
    return await standing(queue, report)


@router.get("/api/reports/{report}/answer")
async def answer(
    report: KnownReport, queue: QueueDep, wait: Annotated[float, Query(ge=0, le=30)] = 0
) -> JSONResponse:
    """What reading it answered, once it has: ask with `?wait=20` and no loop is needed."""
    if report.read_task is None:
        return JSONResponse({"detail": "nobody was asked to read it yet"}, 202)
    try:
        return JSONResponse(await queue.get_result(report.read_task, timeout=wait))
    except ResultTimeout as error:
        return JSONResponse({"detail": str(error)}, 202)
    except TaskError as error:
        return JSONResponse({"detail": str(error)}, 409)


@router.get("/live", response_class=EventSourceResponse)
async def live(
    queue: QueueDep, reports: ReportsDep, report: str | None = None
) -> AsyncIterator[ServerSentEvent]:
    """How reports stand, as events; `end` when nothing moves any more."""
    busy = True
    async for found in follow(queue, reports, report):
        busy = any(each.busy for each in found)
        told = [each.model_dump() for each in found]
        yield ServerSentEvent(data=told, event="standing", retry=300)
    if not busy:
        yield ServerSentEvent(data=None, event="end")


async def _begin(request: Request, queue: QueueDep, reports: Reports, report: Report) -> Response:
    """Have a report worked on, unless it is done or under way, and lead to it."""
    if not report.mailed and not (report.read_task and (await standing(queue, report)).busy):
        await start(queue, reports, report)
    where = f"/reports/{report.id}"
    if _wants_json(request):
        return JSONResponse({"id": report.id}, 202, {"Location": where})
    return RedirectResponse(where, status_code=303)


def _html(page: Any, *, status: int = 200) -> HTMLResponse:
    return HTMLResponse(str(page), status, HEADERS | {"Cache-Control": "no-store"})


def _wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")


def _plain_name(name: str) -> str:
    """A name to show: no folders, no control characters, no wall of text."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(each for each in last if each.isprintable()).strip()[:80] or "ledger.csv"


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if _wants_json(request) or request.url.path.startswith("/api/"):
        return JSONResponse({"detail": error.detail}, error.status_code)
    return _html(pages.problem_page(str(error.detail)), status=error.status_code)


def create_app() -> FastAPI:
    """The app; where it keeps its things is told by the environment, see `settings.py`."""
    omniq = OmniQExtension()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        async with omniq.lifespan_context(app) as state:
            with closing(Reports.connect(get_settings().database)) as reports:
                await resume(omniq.queue, reports)
            yield state

    app = FastAPI(title="Ledger desk", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(router)
    app.mount("/omniq", omniq.dashboard())
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    app.add_exception_handler(HTTPException, _problem)
    return app
