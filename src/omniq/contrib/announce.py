"""Tells the person who started the server what they should not miss, as where the dashboard is."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_log = logging.getLogger("omniq.web")

SERVERS = {"uvicorn": "UVICORN", "litestar": "LITESTAR", "granian": "GRANIAN"}


def announce(text: str) -> None:
    """Log it where that is seen, else write it to standard error."""
    if _log.isEnabledFor(logging.INFO) and shown(_log, logging.INFO):
        _log.info("%s", text)
    else:
        _write(text)


def complain(logger: logging.Logger, text: str, error: BaseException | None = None) -> None:
    """Log an error, or write it to standard error, in one line, where no handler would show it."""
    if shown(logger, logging.ERROR):
        logger.error("%s", text, exc_info=error)
    elif logger.isEnabledFor(logging.ERROR):
        _write(f"OmniQ: {text}")


def shown(logger: logging.Logger, level: int) -> bool:
    """Whether a handler takes what it says: Django's own is silent without DEBUG."""
    record = logging.LogRecord(logger.name, level, "", 0, "", None, None)
    here: logging.Logger | None = logger
    while here is not None:
        for handler in here.handlers:
            if isinstance(handler, logging.NullHandler):
                continue
            if handler.level <= level and handler.filter(record):
                return True
        here = here.parent if here.propagate else None
    return False


def _write(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def served_at(
    argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None
) -> str | None:
    """The address this process was told to serve, read from its command line as best it can.

    An app is not told where it is served. None if the server is not one we know.
    """
    if argv is None:  # a process that `--reload` or `--workers` spawned has its parent's sys.argv
        argv = sys.orig_argv if _program(sys.orig_argv) in SERVERS else sys.argv
    environ = os.environ if environ is None else environ
    program = _program(argv)
    if program not in SERVERS or any(word.startswith(("--uds", "--fd")) for word in argv):
        return None
    prefix = SERVERS[program]
    host = _option(argv, "--host", "-H") or environ.get(f"{prefix}_HOST") or "127.0.0.1"
    port = _option(argv, "--port", "-p") or environ.get(f"{prefix}_PORT") or "8000"
    if port == "0":
        return None
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _program(argv: Sequence[str]) -> str:
    """The script or module that Python was told to run."""
    words = list(argv)
    if words and Path(words[0]).name.startswith("python"):
        del words[0]
        while words and words[0].startswith("-") and words[0] != "-m":
            del words[: 2 if words[0] in ("-W", "-X") else 1]
        if words and words[0] == "-m":
            del words[0]
    path = Path(words[0]) if words else Path()
    return path.parent.name if path.name == "__main__.py" else path.stem


def _option(argv: Sequence[str], long: str, short: str) -> str | None:
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        if word in (long, short):
            return following
        if word.startswith(f"{long}="):
            return word.partition("=")[2]
    return None
