"""docs/storages.md names every place, URL and option there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from omniq.backend.places import PLACES, options_of
from omniq.config.kinds import STORAGE_TYPES
from omniq.config.places import SCHEMES, type_of

PAGE = (Path(__file__).parents[2] / "docs/storages.md").read_text(encoding="utf-8")
EVERYWHERE = {"namespace", "durability"}
SECTIONS = {
    "sqlite": "SQLite",
    "postgres": "PostgreSQL",
    "redis": "Redis and Valkey",
    "nats": "NATS",
    "file": "Files and object stores",
    "memory": "Memory",
}


def options_in(section: str) -> set[str]:
    """The names in the first column of a section's table of options."""
    text = PAGE.split(f"\n### {section}\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| (`.*?`) \|", text, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_every_type_has_its_section() -> None:
    assert set(SECTIONS) == set(STORAGE_TYPES)


@pytest.mark.parametrize("type", SECTIONS)
def test_a_table_names_the_options_there_are(type: str) -> None:
    assert options_in(SECTIONS[type]) == options_of(PLACES[type].load()).keys() - EVERYWHERE


def test_the_first_table_names_what_holds_everywhere() -> None:
    assert {
        name
        for name in re.findall(r"^\| `(\w+)` \| `\w+` \|", PAGE.split("### ")[0], re.MULTILINE)
        if name not in STORAGE_TYPES
    } == EVERYWHERE


def test_every_url_on_the_page_is_one_of_a_place() -> None:
    urls = re.findall(r"[a-z0-9+]+://[^`'\"\s|)]*", PAGE)
    assert len(urls) > 30
    for url in urls:
        if not url.startswith(("http://", "memory://", "local://")):
            assert type_of(url) in SCHEMES


def test_every_class_is_named_as_it_is() -> None:
    for name in re.findall(r"\b(\w+Backend)\(", PAGE):
        from omniq import backend

        assert hasattr(backend, name)
