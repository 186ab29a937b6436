"""What the pictures of studies share: panels side by side, columns in percent, labels and the legend."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from captum_vit.studies.study import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def panels(count: int, *, rows: int = 1, sharey: bool = False) -> tuple[Figure, Any]:
    """A figure and its axes, ``(count,)``, or ``(rows, count)`` if there are several rows."""
    from matplotlib import pyplot as plt

    size = 5 * count, 4 * rows
    figure, axes = plt.subplots(rows, count, figsize=size, layout="constrained", sharey=sharey, squeeze=False)
    plt.close(figure)  # pyplot would keep it open
    return figure, axes[0] if rows == 1 else axes


def finish(axes: Any, label: str) -> None:
    """Put the label to the left of the axes, which start at zero, and the legend to their right."""
    axes[0].set_ylabel(label)
    axes[0].set_ylim(bottom=0)
    # Beside the axes: bars leave no room for it between them.
    axes[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)


def percent(rows: Iterable[Row], column: str) -> list[float]:
    """A column of shares in percent; a gap where there is no value."""
    return [100 * number for number in numbers(rows, column)]


def numbers(rows: Iterable[Row], column: str) -> list[float]:
    """A column of numbers; a gap where there is no value."""
    values = (row[column] for row in rows)
    return [float("nan") if value is None else float(value) for value in values]
