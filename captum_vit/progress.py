"""How long what takes long will take: a word before, or after its first steps, and a bar with the time left."""

from __future__ import annotations

import sys
import time
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

# Seconds from which on work is told of before it starts.
LONG = 60
# Seconds that the first steps are watched to tell how long the others take. The first, which also allocates and
# compiles, counts only if it takes so long that little of it can be that.
_WATCHED, _LONG_STEP = 2.0, 15.0


@contextmanager
def progress_bar(
    title: str,
    total: int | None,
    disable: bool = False,
    *,
    completed: int = 0,
    rate: str | None = None,
    foretold: bool = False,
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
    foretold
        Whether to say how long it takes, if that is more than a minute, as soon as the first steps have shown it; said
        by the title, and also where the bar is not shown.
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
        pace = _Pace((total or 0) - completed) if foretold else None

        def advance(steps: int) -> None:
            progress.advance(task, steps)
            if pace is not None and (seconds := pace.left_after(steps)) is not None:
                foretell(title, seconds)

        yield advance


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


class _Pace:
    """What the first steps tell about the others."""

    def __init__(self, left: int) -> None:
        self.left, self.counted, self.first = left, 0, True
        self.since = time.perf_counter()
        self.is_told = False

    def left_after(self, steps: int) -> float | None:
        """Seconds that are left, once: when enough steps were watched."""
        if self.is_told or not steps:
            return None
        now = time.perf_counter()
        taken, self.left = now - self.since, self.left - steps
        first, self.first = self.first, False
        if first and taken < _LONG_STEP:
            self.since = now
            return None
        self.counted += steps
        if taken < _WATCHED or self.counted <= 0:  # work of a process that died is taken back
            return None
        self.is_told = True
        return taken / self.counted * self.left


class _RateColumn(ProgressColumn):
    def __init__(self, steps: str) -> None:
        super().__init__()
        self.steps = steps

    def render(self, task: Task) -> Text:
        """Steps a second, lately."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self.steps}/s")
