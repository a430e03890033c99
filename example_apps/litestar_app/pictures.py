"""What is done to pictures. Plain functions over files; nothing here knows of a queue."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from .files import write_whole

SIZES = {"small": 240, "medium": 640, "large": 1280}
"""Name of a thumbnail -> its longest edge in pixels."""

FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif"}
MAX_PIXELS = 50_000_000


class NotAPicture(Exception):
    """What was uploaded cannot be used; the message says why, for the person who sent it."""


def look_at(file: IO[bytes]) -> tuple[str, int, int]:
    """The picture's file ending, width and height; its own bytes are asked, never its name."""
    try:
        with Image.open(file, formats=tuple(FORMATS)) as image:
            (width, height), kind = image.size, image.format
            if width * height > MAX_PIXELS:
                raise NotAPicture(f"{width} x {height} pixels are more than this page takes")
            image.verify()
    except NotAPicture:
        raise
    except UnidentifiedImageError:
        raise NotAPicture("this is not a JPEG, PNG, WebP or GIF picture") from None
    except Exception as error:  # damaged files raise whatever their decoder meets
        raise NotAPicture(f"this picture is damaged ({error})") from error
    return FORMATS[str(kind)], width, height


def make_thumbnail(source: Path, target: Path, edge: int) -> tuple[int, int]:
    """Write a WebP whose longest edge is at most `edge`, turned the way the camera was held."""
    with Image.open(source) as image:
        image.draft("RGB", (edge * 2, edge * 2))  # JPEG: decode no more than is needed
        upright = ImageOps.exif_transpose(image)
        small = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        small.thumbnail((edge, edge), Image.Resampling.LANCZOS, reducing_gap=3.0)
    write_whole(target, lambda file: small.save(file, "WEBP", quality=82, method=3))
    return small.size


def make_sheet(thumbnails: Sequence[tuple[str, Path]], target: Path) -> tuple[int, int]:
    """Lay out captioned thumbnails on one dark page, as photographers do."""
    cell, gap, caption = 220, 16, 22
    columns = max(1, min(6, round(len(thumbnails) ** 0.5 * 1.25)))
    rows = -(-len(thumbnails) // columns)
    step = (cell + gap, cell + caption + gap)
    sheet = Image.new("RGB", (columns * step[0] + gap, rows * step[1] + gap), "#16161c")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for place, (name, path) in enumerate(thumbnails):
        left = gap + place % columns * step[0]
        top = gap + place // columns * step[1]
        with Image.open(path) as image:
            fitted = ImageOps.contain(image.convert("RGBA"), (cell, cell))
        corner = (left + (cell - fitted.width) // 2, top + (cell - fitted.height) // 2)
        sheet.paste(fitted, corner, fitted)
        text = name
        while len(text) > 4 and draw.textlength(text, font) > cell:
            text = text[:-2].rstrip("…") + "…"
        draw.text((left + cell / 2, top + cell + 5), text, "#a9a9b8", font, anchor="ma")
    write_whole(target, lambda file: sheet.save(file, "WEBP", quality=88, method=3))
    return sheet.size
