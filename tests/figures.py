"""What is in a Matplotlib figure, and whether any of it is in the way of the rest."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def shown(axes: Axes) -> np.ndarray:
    (image,) = axes.images
    return np.asarray(image.get_array())


def overlaps(figure: Figure) -> int:
    """Number of pairs of texts and axes that overlap, and of those that leave the figure."""
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts]
    boxes += [axes.get_tightbbox() for axes in figure.axes]
    inside = [
        box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height for box in boxes
    ]
    return inside.count(False) + sum(box.count_overlaps(boxes[:index]) for index, box in enumerate(boxes))
