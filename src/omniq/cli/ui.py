"""How the command line talks: short lines, colour only on a terminal."""

from __future__ import annotations

import click


def say(text: str = "") -> None:
    """What the command answers, on standard output."""
    click.echo(text)


def note(text: str) -> None:
    """What is said beside the answer, on standard error."""
    click.echo(text, err=True)


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
