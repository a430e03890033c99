"""How far the demo is: bars on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from omniq.cli import ui

PER_PICTURE = 3
"""Thumbnails of one picture."""


class View(Protocol):
    """Shows states again and again; used as a context manager."""

    def show(self, states: Sequence[Any], *, adding: bool) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def make_view() -> View:
    return Bars() if sys.stdout.isatty() else Lines()


class Bars:
    """Three bars that grow: what was accepted, and what was made of it."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bars = Progress(
            TextColumn("{task.description:15}"), BarColumn(36), MofNCompleteColumn()
        )
        self._rows = [self._bars.add_task(name, total=None) for name in ROWS]

    def show(self, states: Sequence[Any], *, adding: bool) -> None:
        for row, (done, total) in zip(self._rows, _numbers(states), strict=True):
            self._bars.update(row, completed=done, total=total or None)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


class Lines:
    """One line when a batch is in, one when it is done."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._done: set[str] = set()

    def show(self, states: Sequence[Any], *, adding: bool) -> None:
        for number, state in enumerate(states, start=1):
            batch, count = state.batch, len(state.batch.pictures)
            if batch.id not in self._seen:
                self._seen.add(batch.id)
                ui.say(f"batch {number}: {count} pictures accepted, {count + 1} tasks enqueued")
            if batch.id not in self._done and not state.busy:
                self._done.add(batch.id)
                ui.say(f"batch {number}: {state.done} of {count} done, sheet {state.sheet}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


ROWS = ("Pictures", "Thumbnails", "Contact sheets")


def _numbers(states: Sequence[Any]) -> list[tuple[int, int]]:
    pictures = sum(len(each.batch.pictures) for each in states)
    done = sum(each.done for each in states)
    files = sum(len(each.files) - each.finished for each in states)
    sheets = sum(each.finished for each in states)
    return [(done, pictures), (files, pictures * PER_PICTURE), (sheets, len(states))]
