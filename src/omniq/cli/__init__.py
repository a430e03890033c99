"""The command `omniq`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the entry point of the package."""
    try:
        from omniq.cli.commands import cli

        cli(prog_name="omniq")
    except KeyboardInterrupt:  # while something was imported
        sys.exit(130)


__all__ = ["main"]
