"""Where an app's tasks are worked on, and which combinations cannot work."""

from __future__ import annotations

import os
from typing import Literal, get_args

from omniq.errors import ConfigError, did_you_mean

Placement = Literal["asgi", "server", "external"]
"""`asgi`: in each server process, beside the app (the default). `server`: one worker process,
started and stopped by `litestar run`. `external`: not here; somebody runs workers elsewhere."""

MARK = "OMNIQ_LITESTAR_SERVER"
"""Set by `litestar run` for its server processes: the keys of the plugins it works for."""


def check_placement(placement: str, *, shared: bool, place: str) -> None:
    """Refuse what would look healthy and never run a task.

    `shared`: several processes can use the place; `place`: what it is, for people.
    """
    words = get_args(Placement)
    if placement not in words:
        raise ConfigError(
            f"OmniQPlugin(placement={placement!r}) is not a placement"
            f"{did_you_mean(placement, words)}"
        )
    if placement != "asgi" and not shared:
        raise ConfigError(
            f"OmniQPlugin(placement={placement!r}) cannot work with {place}: it lives inside "
            "one process, so a worker in another one would watch an empty queue forever and "
            "look healthy. Write placement='asgi', or keep tasks where processes can share "
            "them: OmniQPlugin(storage_type='sqlite')."
        )


def check_started(key: str) -> None:
    """For `server`: refuse to serve where no `litestar run` has started the worker."""
    if key not in os.environ.get(MARK, "").split(","):
        raise ConfigError(
            "OmniQPlugin(placement='server') needs the Litestar command line, which starts the "
            "worker process: run this app with `litestar run`. With another server, write "
            "placement='asgi' for a worker inside each server process, or "
            "placement='external' and run `litestar workers run` (or "
            "`omniq worker module:app`) beside it."
        )


def mark_started(key: str) -> None:
    """Tell the server processes, which inherit the environment, that `key` is worked for."""
    keys = [each for each in os.environ.get(MARK, "").split(",") if each]
    os.environ[MARK] = ",".join(dict.fromkeys([*keys, key]))


def unmark(key: str) -> None:
    """Take that back: the worker is gone."""
    keys = [each for each in os.environ.get(MARK, "").split(",") if each and each != key]
    if keys:
        os.environ[MARK] = ",".join(keys)
    else:
        os.environ.pop(MARK, None)
