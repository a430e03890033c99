"""The page, as htpy elements. It works without JavaScript; `live.js` keeps it up to date."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from htpy import (
    Element,
    Renderable,
    a,
    body,
    button,
    figcaption,
    figure,
    footer,
    form,
    h1,
    h2,
    head,
    header,
    html,
    img,
)
from htpy import input as field
from htpy import (
    label,
    li,
    link,
    main,
    meta,
    noscript,
    p,
    progress,
    script,
    section,
    span,
    strong,
    time,
    title,
    ul,
)

from .album import MAX_BYTES, MAX_PICTURES, SHEET, Batch, Picture, Refused
from .progress import STOPPED, Progress


def album_page(batches: Sequence[Progress], *, notice: Sequence[Refused] = ()) -> Renderable:
    """The whole page."""
    busy = any(each.busy for each in batches)
    return html(lang="en")[
        head[
            meta(charset="utf-8"),
            meta(name="viewport", content="width=device-width, initial-scale=1"),
            title["Album"],
            link(rel="icon", href="data:,"),
            link(rel="stylesheet", href="/static/style.css"),
            script(src="/static/live.js", type="module"),
            # With a fragment in its address the page would not be loaded again: name it.
            busy and noscript[meta(http_equiv="refresh", content="2; url=/")],
        ],
        body[
            header[
                h1["Album"],
                p["Thumbnails and contact sheets, made in the background by OmniQ."],
                a(".quiet", href="/omniq")["Dashboard"],
            ],
            upload_form(),
            refusals(notice) if notice else None,
            album(batches),
            footer[p["Queue, worker and dashboard run inside this web app’s process."]],
        ],
    ]


def upload_form() -> Element:
    return form(
        ".drop", id="upload", method="post", action="/pictures", enctype="multipart/form-data"
    )[
        label(for_="pictures")[
            strong["Drop pictures here"],
            span[
                f"or choose them: JPEG, PNG, WebP, GIF, up to {MAX_PICTURES} at once, "
                f"{MAX_BYTES // 1024**2} MiB each"
            ],
        ],
        field(
            type="file",
            id="pictures",
            name="pictures",
            accept="image/jpeg,image/png,image/webp,image/gif",
            multiple=True,
            required=True,
        ),
        button(type="submit")["Upload"],
    ]


def album(batches: Sequence[Progress]) -> Element:
    """The part that changes; `live.js` fetches it again while anything is busy."""
    busy = "yes" if any(each.busy for each in batches) else "no"
    return main("#album", data_busy=busy, aria_live="off")[
        (
            [batch_card(each) for each in batches]
            if batches
            else p(".empty")["Nothing here yet. The first pictures you upload appear here."]
        )
    ]


def batch_card(it: Progress) -> Element:
    batch, total = it.batch, len(it.batch.pictures)
    when = datetime.fromtimestamp(batch.at, UTC)
    return section(".batch", id=f"batch-{batch.id}")[
        header(id=f"head-{batch.id}")[
            h2[f"{total} picture{'' if total == 1 else 's'}"],
            time(datetime=when.isoformat())[f"{when:%d %B %Y, %H:%M} UTC"],
            sheet_link(it),
            not it.finished
            and progress(value=str(it.done), max=str(total), aria_label="Pictures done"),
        ],
        refusals(batch.refused) if batch.refused else None,
        ul(".grid", id=f"grid-{batch.id}")[[cell(it, picture) for picture in batch.pictures]],
    ]


def sheet_link(it: Progress) -> Element:
    if it.finished:
        return a(".sheet", href=shown(it.batch, SHEET))["Contact sheet"]
    if it.sheet in STOPPED:
        return span(".sheet.stopped")[f"Contact sheet {it.sheet}"]
    return span(".sheet")[f"{it.done} of {len(it.batch.pictures)} done"]


def cell(it: Progress, picture: Picture) -> Element:
    word = it.of(picture)
    ready = picture.thumbnail("small") in it.files
    state = "stopped" if word in STOPPED else word.replace(" ", "-")
    image = img(
        src=shown(it.batch, picture.thumbnail("small")),
        alt=picture.name,
        loading="lazy",
        width=str(picture.width),
        height=str(picture.height),
    )
    whole = picture.thumbnail("large") in it.files
    return li(id=f"cell-{picture.task}", class_=state)[
        figure[
            (
                a(href=shown(it.batch, picture.thumbnail("large")))[image]
                if whole
                else image if ready else span(".blank", aria_hidden="true")
            ),
            figcaption[
                span(".name", title=picture.name)[picture.name],
                span(".word", title=word)["✓" if word == "done" else word],
            ],
        ]
    ]


def refusals(refused: Sequence[Refused]) -> Element:
    return ul(".refused", role="alert")[
        [li[strong[each.name], f" was not taken: {each.why}."] for each in refused]
    ]


def shown(batch: Batch, name: str) -> str:
    return f"/album/{batch.id}/{name}"
