"""The command `omniq`."""

from __future__ import annotations


def main() -> None:
    """Run the command line; the entry point of the package."""
    from omniq.cli.commands import cli

    cli(prog_name="omniq")


__all__ = ["main"]
