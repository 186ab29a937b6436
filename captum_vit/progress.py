"""A progress bar with the time left, for whatever takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def progress_bar(title: str, total: int, disable: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error while the block runs; gives the function that advances it.

    Parameters
    ----------
    title
        What is going on.
    total
        Number of steps until it is done.
    disable
        Whether to show nothing.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=disable) as progress:
        task = progress.add_task(title, total=total)
        yield lambda steps: progress.advance(task, steps)
