"""How a report looks where click owns the terminal."""

from __future__ import annotations

from typing import Any

import click

LOOKS: dict[str, dict[str, Any]] = {
    "strong": {"bold": True},
    "faint": {"dim": True},
    "warning": {"fg": "yellow"},
    "running": {"fg": "blue"},
    "succeeded": {"fg": "green"},
    "failed": {"fg": "red"},
    "cancelled": {"fg": "yellow"},
    "expired": {"fg": "yellow"},
}


def click_paint(text: str, kind: str) -> str:
    """A `Paint`; click takes the colours off again where the output is no terminal."""
    return click.style(text, **LOOKS.get(kind, {}))
