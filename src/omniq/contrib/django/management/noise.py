"""What `-v` makes of the loggers while a worker command runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import OutputWrapper

from omniq.contrib.announce import shown
from omniq.contrib.django.compat import package

LEVELS = {
    0: (logging.CRITICAL, logging.CRITICAL),
    1: (logging.WARNING, logging.INFO),
    2: (logging.INFO, logging.INFO),
    3: (logging.DEBUG, logging.DEBUG),
}
"""Verbosity -> the levels of OmniQ's loggers, and of Django's for tasks."""


@contextmanager
def heard(verbosity: int, stream: OutputWrapper) -> Iterator[None]:
    """Inside this block the loggers that a worker speaks through are heard.

    Where `settings.LOGGING` (or anybody) has them written somewhere already, they are not
    written a second time.
    """
    before: list[tuple[logging.Logger, int, logging.Handler | None]] = []
    for name, level in zip(("omniq", package()), LEVELS[verbosity], strict=True):
        if name is None:
            continue
        logger = logging.getLogger(name)
        handler: logging.Handler | None = None
        if not shown(logger, level):
            handler = logging.StreamHandler(stream)
            handler.setFormatter(logging.Formatter("[%(asctime)s] %(message)s", "%H:%M:%S"))
            logger.addHandler(handler)
        before.append((logger, logger.level, handler))
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, level, handler in before:
            logger.setLevel(level)
            if handler is not None:
                logger.removeHandler(handler)
