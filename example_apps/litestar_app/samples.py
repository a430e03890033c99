"""Pictures out of nothing: small landscapes, each different, for whoever has none at hand."""

from __future__ import annotations

import colorsys
import math
import random
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]

SHAPES = [(1600, 1200), (1200, 1600), (1920, 1080), (1400, 1400), (2000, 900), (1080, 1620)]
PLACES = [
    "sea",
    "hills",
    "dunes",
    "fjord",
    "ridge",
    "valley",
    "lagoon",
    "plateau",
    "cape",
    "mesa",
    "glacier",
    "heath",
]
TIMES = ["dawn", "morning", "noon", "dusk", "evening", "night"]


def make_samples(folder: Path, count: int, *, seed: int = 7) -> list[Path]:
    """Write `count` JPEG landscapes; those that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        place, time = PLACES[number % len(PLACES)], TIMES[number // 2 % len(TIMES)]
        path = folder / f"{place}-at-{time}-{number + 1:02}.jpg"
        if not path.exists():
            rough = path.with_suffix(".part")
            landscape(random.Random(seed * 1000 + number)).save(rough, "JPEG", quality=88)
            rough.replace(path)
        paths.append(path)
    return paths


def landscape(chance: random.Random) -> Image.Image:
    """A sky, a sun and some hills in related colours."""
    width, height = chance.choice(SHAPES)
    hue, warm = chance.random(), chance.uniform(0.04, 0.16)
    # The sky is soft, so half the size is enough to paint it in.
    sky = _sky(width // 2, height // 2, _colour(hue, 0.62, 0.42), _colour(hue + warm * 3, 0.38, 1))
    _sun(sky, chance, _colour(hue + warm * 3, 0.16, 1))
    picture = sky.resize((width, height), Image.Resampling.BILINEAR)
    layers = chance.randint(4, 6)
    for layer in range(layers):
        depth = layer / (layers - 1)
        shade = _colour(hue - warm * depth, 0.3 + 0.4 * depth, 0.78 - 0.62 * depth)
        _hills(picture, chance, level=0.48 + 0.42 * depth, steep=0.16 - 0.07 * depth, colour=shade)
    return picture


def _sky(width: int, height: int, top: Colour, bottom: Colour) -> Image.Image:
    ramp = Image.linear_gradient("L").resize((width, height), Image.Resampling.BILINEAR)
    ground = Image.new("RGB", (width, height), bottom)
    return Image.composite(ground, Image.new("RGB", (width, height), top), ramp)


def _sun(picture: Image.Image, chance: random.Random, colour: Colour) -> None:
    width, height = picture.size
    x, y = chance.uniform(0.15, 0.85) * width, chance.uniform(0.16, 0.46) * height
    size = chance.uniform(0.05, 0.11) * min(width, height)
    for spread, strength, blur in ((2.6, 70, 1.5), (1.0, 240, 0.02)):
        halo, edge = Image.new("L", picture.size), size * spread
        ImageDraw.Draw(halo).ellipse((x - edge, y - edge, x + edge, y + edge), fill=strength)
        picture.paste(colour, (0, 0), halo.filter(ImageFilter.BoxBlur(size * blur)))


def _hills(
    picture: Image.Image, chance: random.Random, *, level: float, steep: float, colour: Colour
) -> None:
    width, height = picture.size
    waves = [
        (chance.uniform(0.6, 1.8) * 2**octave, chance.random() * math.tau, 0.62**octave)
        for octave in range(6)
    ]
    total = sum(weight for _, _, weight in waves)

    def crest(x: int) -> float:
        swing = sum(math.sin(x / width * f * math.tau + p) * w for f, p, w in waves) / total
        return height * (level - steep * swing)

    line = [(x, crest(x)) for x in range(0, width + 8, 8)]
    ImageDraw.Draw(picture).polygon([*line, (width, height), (0, height)], fill=colour)


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
