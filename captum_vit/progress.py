"""A progress bar with the time left, for whatever takes long."""

from __future__ import annotations

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
    with Progress(*columns, console=Console(stderr=True), disable=disable) as progress:
        task = progress.add_task(title, total=total, completed=completed)
        yield lambda steps: progress.advance(task, steps)


class _RateColumn(ProgressColumn):
    def __init__(self, steps: str) -> None:
        super().__init__()
        self.steps = steps

    def render(self, task: Task) -> Text:
        """Steps a second, lately."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {self.steps}/s")
