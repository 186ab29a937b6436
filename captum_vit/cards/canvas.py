"""Drawing in inches: what the figures of cards share to place images and words, and their colours."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from captum_vit.storage.files import shown

INK, FAINT, BARS = "#222222", "#6e6e6e", "#c4c4c4"
# Of Okabe and Ito's palette, which colour-blind readers tell apart.
PHOTO, OPTIMIZED = "#0072b2", "#d55e00"


class Canvas:
    """A part of a figure, so many inches above the figure's lower edge; lengths are in inches from its own corner."""

    def __init__(self, figure: Figure, below: float = 0.0) -> None:
        self.figure, self.below = figure, below

    def axes(self, left: float, bottom: float, width: float, height: float) -> Axes:
        """Axes without ticks and frame."""
        across, up = self.figure.get_size_inches()
        box = (left / across, (self.below + bottom) / up, width / across, height / up)
        axes = self.figure.add_axes(box, xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def image(self, left: float, bottom: float, width: float, height: float, pixels: Any) -> Axes:
        """An image with pixels in [0, 1], ``(H, W, 3)``, and the axes that it fills."""
        axes = self.axes(left, bottom, width, height)
        axes.imshow(pixels, interpolation="bicubic")
        return axes

    def text(self, left: float, bottom: float, words: str, size: float, color: str = INK, **style: Any) -> None:
        """Words as they are: file names may hold dollar signs, which are not mathematics, and what no font shows."""
        words = "\n".join(map(shown, words.split("\n")))
        across, up = self.figure.get_size_inches()
        self.figure.text(
            left / across, (self.below + bottom) / up, words, size=size, color=color, parse_math=False, **style
        )


def fitting(image: NDArray[Any], side: float) -> tuple[float, float]:
    """Width and height of an image ``(H, W, 3)`` that fits in a square of that side."""
    height, width = image.shape[:2]
    return side * width / max(height, width), side * height / max(height, width)
