"""The table in the documentation says what the table in the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from omniq.config import OPTIONS, load_config

PAGE = (Path(__file__).parents[2] / "docs/configuration.md").read_text(encoding="utf-8")


def cell(value: Any) -> str:
    if value is None:
        return "none"
    if value in ((), {}):
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:.0f}`" if isinstance(value, float) else f"`{value}`"


def test_the_table_and_the_code_agree() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `OMNIQ_")]
    assert rows == [
        f"| `{option.variable}` | `{option.name}` | {option.kind.words}"
        f"{', or none' if option.optional else ''} | {cell(option.default)} | {option.meaning} |"
        for option in OPTIONS
    ]


def test_every_variable_the_page_speaks_of_exists() -> None:
    known = {option.variable for option in OPTIONS}
    assert set(re.findall(r"OMNIQ_[A-Z_]*[A-Z]", PAGE)) == known


def test_the_example_file_loads(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    config = load_config(yaml.safe_load(example))
    assert config.storage.type == "sqlite"
    assert config.worker.queues == ("mail", "reports")
    assert config.logging.components == {"storage": "DEBUG"}
