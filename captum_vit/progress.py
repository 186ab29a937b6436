"""A progress bar with the time left, for whatever takes long."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


@contextmanager
def progress_bar(
    title: str, total: int | None, disable: bool = False, *, completed: int = 0, rate: str | None = None
) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error while the block runs; gives the function that advances it.

    Parameters
    ----------
    title
        What is going on.
    total
        Number of steps until it is done; None if nobody knows.
    disable
        Whether to show nothing.
    completed
        Steps that were done before.
    rate
        What a step is, in the plural, to show how many there are a second.
    """
    columns: tuple[ProgressColumn, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *([_RateColumn(rate)] if rate else []),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # While a bar is on a terminal, rich prints above it what goes to standard output: not if that is a file.
    printed_above = sys.stdout is not None and sys.stdout.isatty()
    with Progress(*columns, console=_stderr(), disable=disable, redirect_stdout=printed_above) as progress:
        task = progress.add_task(title, total=total, completed=completed)
        yield lambda steps: progress.advance(task, steps)


# Seconds from which on work is told of before it starts.
LONG = 60


def foretell(work: str, seconds: float) -> None:
    """Say on standard error how long work will take, if that is more than a minute."""
    if seconds > LONG:
        _stderr().print(f"{work}: about {duration(seconds)}", highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds in the unit that fits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _stderr() -> Console:
    """Standard error; in a notebook, where rich shows a bar in a widget or not at all, taken for a terminal."""
    console = Console(stderr=True)
    if console.is_jupyter:
        return Console(stderr=True, force_jupyter=False, force_terminal=True, legacy_windows=False)
    return console


class _RateColumn(ProgressColumn):
    def __init__(self, steps: str) -> None:
        super().__init__()
        self.steps = steps

    def render(self, task: Task) -> Text:
        """Steps a second, lately."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self.steps}/s")
