"""The ledger desk, whose readings rest after each chunk of lines as long as a file says so.

So a test that looks at a reading, or stops it, does not race it to its end.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import omniq
from example_apps.fastapi_app.app import app
from example_apps.fastapi_app.settings import Settings, get_settings

HOLD = Path(os.environ["LEDGER_HOLD"])


class Held(Settings):
    """A pace that is no length of time: until the file is gone, or the task is cancelled."""

    @property
    def pace(self) -> float:
        while HOLD.exists() and not omniq.current().cancelled:
            time.sleep(0.01)
        return 0.0

    @pace.setter
    def pace(self, _: Any) -> None:
        """The one of the environment says nothing here."""


def held_settings() -> Held:
    usual = get_settings()
    return Held(usual.folder, usual.outbox, usual.sender, usual.flaky)


app.dependency_overrides[get_settings] = held_settings
