"""The pictures of studies: one for each, drawn from the table alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from captum_vit.errors import StudyError
from captum_vit.studies.study import Row, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_study(study: Study) -> Figure:
    """A study's picture, with 95 % intervals.

    Raises
    ------
    StudyError
        There is no picture of studies of that name.
    """
    if study.name not in _DRAWN:
        raise StudyError(f'no picture of a study "{study.name}"; there are {", ".join(_DRAWN)}')
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
    _DRAWN[study.name](study, axes)
    plt.close(figure)  # pyplot would keep it open
    return figure


def _frequency(study: Study, axes: Any) -> None:
    for ax, kind in zip(axes, ("low-pass", "high-pass"), strict=True):
        for number, model in enumerate(study.models):
            rows = [row for row in study.rows if row["model"] == model and row["filter"] == kind]
            radii = [row["radius"] for row in rows]
            ax.plot(radii, _percent(rows, "top-1 of full"), marker="o", color=f"C{number}", label=model)
            ends = (_percent(rows, "low top-1 of full"), _percent(rows, "high top-1 of full"))
            ax.fill_between(radii, *ends, color=f"C{number}", alpha=0.2, linewidth=0)
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_xlabel(f"radius of the {kind}, cycles per shorter side")
    _finish(axes, "% of the unfiltered images' top-1")


def _background(study: Study, axes: Any) -> None:
    views, width = ("full", "foreground", "background"), 0.8 / len(study.models)
    for ax, measure in zip(axes, ("top-1", "top-5"), strict=True):
        for number, model in enumerate(study.models):
            rows = {row["view"]: row for row in study.rows if row["model"] == model}
            chosen = [rows[view] for view in views]
            heights = _percent(chosen, measure)
            low, high = _percent(chosen, f"low {measure}"), _percent(chosen, f"high {measure}")
            ends = [
                [max(middle - end, 0) for middle, end in zip(heights, low, strict=True)],
                [max(end - middle, 0) for middle, end in zip(heights, high, strict=True)],
            ]
            places = [place + (number - (len(study.models) - 1) / 2) * width for place in range(len(views))]
            ax.bar(places, heights, width, yerr=ends, capsize=2, color=f"C{number}", label=model)
        ax.set_xticks(range(len(views)), views)
        ax.set_title(measure)
    _finish(axes, f"accuracy, % (cut away: {study.settings['fill']})")


def _finish(axes: Any, label: str) -> None:
    first: Axes = axes[0]
    first.set_ylabel(label)
    first.set_ylim(bottom=0)
    # Beside the axes: bars leave no room for it between them.
    axes[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)


def _percent(rows: list[Row], column: str) -> list[float]:
    """A column in percent; a gap where there is no value."""
    values = (row[column] for row in rows)
    return [float("nan") if value is None else 100 * float(value) for value in values]


_DRAWN = {"frequency": _frequency, "background": _background}
