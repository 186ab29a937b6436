"""The canvas: the image that is optimized, where that is of another size than what the model sees of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from captum_vit.checks import shortly, whole_number
from captum_vit.errors import PlanError
from captum_vit.probes.grid import Size


@dataclass(frozen=True)
class Times:
    """A canvas relative to ``size``, which is the model's input size when nothing else is said.

    Attributes
    ----------
    factor
        Of the height and of the width; sides are rounded to whole pixels.
    """

    factor: float


# A side in pixels, (height, width), or a factor.
Canvas = int | Size | Times


def canvas_pixels(canvas: Canvas, size: Size) -> Size:
    """(height, width) of a canvas in pixels.

    Parameters
    ----------
    canvas
        What was said.
    size
        (height, width) to which :class:`Times` is relative.

    Raises
    ------
    PlanError
        It means no size.
    """
    if not isinstance(canvas, Times):
        return whole_pixels("canvas", canvas)
    factor = canvas.factor
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
        raise PlanError(f"canvas is Times({shortly(factor)}); give a factor above 0, such as Times(2)")
    height, width = (max(1, round(factor * side)) for side in size)
    return height, width


def whole_pixels(name: str, size: int | Size) -> Size:
    """(height, width) of a side in pixels, or of both.

    Raises
    ------
    PlanError
        It means no size.
    """
    sides = tuple(size) if isinstance(size, Sequence) and not isinstance(size, str) else (size, size)
    try:
        height, width = (whole_number(name, side, error=PlanError) for side in sides)
    except ValueError:  # PlanError too
        raise PlanError(
            f"{name} is {shortly(size)}; give a side in pixels, or (height, width), in whole numbers of at least 1"
        ) from None
    return height, width
