"""What can be set from outside, as a dependency of routes and of tasks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends


@dataclass(frozen=True)
class Settings:
    """Where the desk keeps its things, and how its mail folder behaves."""

    folder: Path
    """Holds the ledger's database; below it are the mails, unless they go elsewhere."""
    outbox: Path
    sender: str = "desk@ledger.example"
    flaky: float = 0.25
    """How often the mail folder refuses a mail, as folders on a network do: 0 never, 1 always."""
    pace: float = 0.0
    """Seconds to rest after each chunk of lines, for whoever wants to watch a short file."""

    @property
    def database(self) -> Path:
        return self.folder / "ledger.db"


def get_settings() -> Settings:
    """From the environment: LEDGER_FOLDER, LEDGER_OUTBOX, LEDGER_FLAKY, LEDGER_PACE."""
    env = os.environ
    beside = Path(env.get("OMNIQ_BASE_DIR") or ".omniq") / "ledger"
    folder = Path(env.get("LEDGER_FOLDER") or beside).resolve()
    return Settings(
        folder=folder,
        outbox=Path(env.get("LEDGER_OUTBOX") or folder / "outbox").resolve(),
        flaky=float(env.get("LEDGER_FLAKY") or Settings.flaky),
        pace=float(env.get("LEDGER_PACE") or Settings.pace),
    )


SettingsDep = Annotated[Settings, Depends(get_settings)]
