"""Values as text with its parts coloured; secrets masked, sizes bounded, nothing executed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from htpy import Element, Node, code, p, pre, span

from omniq.dashboard.components.bits import fold
from omniq.dashboard.components.format import size
from omniq.models.info import Shown

_SECRET = re.compile(
    r"(?:^|_)(?:passw(?:or)?d|pwd|secrets?|token|auth|authorization|cookies?|api_?key|dsn"
    r"|credentials?|private_?key|access_?key)$|^(?:secret|password)_"
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
MASK = "••••••"
MAX_NODES = 2000
MAX_DEPTH = 40
MAX_TEXT = 20_000
FOLD_LINES = 24


def masked(value: Any, key: str = "", depth: int = 0) -> Any:
    """The value with everything masked that stands under a key that sounds secret.

    What is nested deeper than anybody reads is left out.
    """
    if depth > MAX_DEPTH:
        return "…"
    if value is not None and key and sounds_secret(key):
        return MASK
    if isinstance(value, dict):
        return {k: masked(v, str(k), depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [masked(item, "", depth + 1) for item in value]
    return value


def sounds_secret(key: str) -> bool:
    """Whether a value of this name should not be shown: `api_key`, `dbPassword`, `X-Token`."""
    return _SECRET.search(_HUMP.sub("_", key).replace("-", "_").lower()) is not None


def shown(id: str, value: Shown | None) -> Element:
    """A stored value: opened where its format is plain, described where it is not."""
    if value is None:
        return p(".quiet")["Nothing stored."]
    if not value.opened:
        return p(".sealed")[
            code[value.text or f"{value.format}, {size(value.size)}"],
            span(".quiet")[" Not opened here: this format can run code when it is decoded."],
        ]
    return block(id, value.value)


def block(id: str, value: Any, *, folded: bool = True) -> Element:
    """A value over as many lines as it needs; a long one may be folded."""
    parts = list(_parts(masked(value)))
    lines = 1 + sum(str(part).count("\n") for part in parts if isinstance(part, str))
    body = pre(".value", tabindex="0")[code[parts]]
    if not folded or lines <= FOLD_LINES:
        return body
    return fold(f"{id}-fold", f"{lines} lines", body)


def _parts(value: Any) -> Iterator[Node]:
    left = [MAX_NODES]
    yield from _walk(value, 0, left)
    if left[0] <= 0:
        yield span(".quiet")["\n… the rest is left out"]


def _walk(value: Any, depth: int, left: list[int]) -> Iterator[Node]:
    left[0] -= 1
    if left[0] <= 0:
        return
    pad = "  " * (depth + 1)
    if isinstance(value, dict) and value:
        yield "{\n"
        for place, (key, item) in enumerate(value.items()):
            if left[0] <= 0:
                return
            yield pad
            yield span(".k")[json.dumps(str(key), ensure_ascii=False)]
            yield ": "
            yield from _walk(item, depth + 1, left)
            yield ",\n" if place < len(value) - 1 else "\n"
        yield "  " * depth + "}"
    elif isinstance(value, (list, tuple)) and value:
        if all(not isinstance(item, (dict, list, tuple)) for item in value) and _short(value):
            yield "["
            for place, item in enumerate(value):
                yield ", " if place else ""
                yield from _walk(item, depth, left)
            yield "]"
            return
        yield "[\n"
        for place, item in enumerate(value):
            if left[0] <= 0:
                return
            yield pad
            yield from _walk(item, depth + 1, left)
            yield ",\n" if place < len(value) - 1 else "\n"
        yield "  " * depth + "]"
    else:
        yield _leaf(value)


def _short(items: Any) -> bool:
    return len(items) <= 12 and sum(len(str(item)) for item in items) < 70


def _leaf(value: Any) -> Element:
    if value is None or isinstance(value, bool):
        return span(".c")[{None: "null", True: "true", False: "false"}[value]]
    if isinstance(value, (int, float)):
        return span(".n")[str(value)]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return span(".quiet")[f"<{size(len(value))} of bytes>"]
    if isinstance(value, (dict, list, tuple)):
        return span(".c")["{}" if isinstance(value, dict) else "[]"]
    text = value if isinstance(value, str) else str(value)
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]}… ({len(text)} characters)"
    return span(".s")[json.dumps(text, ensure_ascii=False)]
