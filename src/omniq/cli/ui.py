"""How the command line talks: short lines, colour only on a terminal."""

from __future__ import annotations

import logging

import click


def say(text: str = "") -> None:
    """What the command answers, on standard output."""
    click.echo(text)


def note(text: str) -> None:
    """What is said beside the answer, on standard error."""
    click.echo(text, err=True)


def warn(text: str) -> None:
    """What is said beside the answer, and should not be missed."""
    note(f"{click.style('Warning', fg='yellow')}: {text}")


def strong(text: str) -> str:
    return click.style(text, bold=True)


def faint(text: str) -> str:
    return click.style(text, dim=True)


def good(text: str) -> str:
    return click.style(text, fg="green")


def bad(text: str) -> str:
    return click.style(text, fg="red")


def link(text: str) -> str:
    return click.style(text, fg="cyan", underline=True)


class _Notes(logging.Handler):
    """Shows warnings for which the program that is run has no place of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        if not _logged(record):
            warn(record.getMessage())


def _logged(record: logging.LogRecord) -> bool:
    """Whether a handler of the program has it, be it on the root logger or on one of ours."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None:
        if not all(isinstance(each, _Notes) for each in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def show_warnings() -> None:
    """Let people see what is warned of: unknown variables, a place that may lose tasks, failures."""
    logger = logging.getLogger("omniq")
    if not any(isinstance(each, _Notes) for each in logger.handlers):
        logger.addHandler(_Notes(logging.WARNING))
