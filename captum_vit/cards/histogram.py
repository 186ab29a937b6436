"""Where everything stands on a card's histogram, for whatever draws it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from captum_vit.cards.card import Card
from captum_vit.cards.words import number

# Of the width: the least distance between two ticks, and the room on either side.
_TICKS_APART, _MARGIN = 0.18, 0.02
# Of the height: bars of one image, and of as many as there are.
_LOWEST, _HIGHEST = 0.1, 0.84


@dataclass(frozen=True)
class HistogramLayout:
    """A histogram of activations in a square of side 1.

    The bins are equally wide, whatever their edges, so that the axis is linear in the activation around zero and
    logarithmic further out; the heights are logarithmic in the number of images.

    Attributes
    ----------
    bars
        Left edge, width and height of each bin that holds images.
    photos
        Where the photos stand, left to right in [0, 1], best first.
    optimized
        Where the optimized image stands; below 0 or above 1 if it is off the scale, None if its activation is not
        finite or, as a mean over patches, does not compare.
    ticks
        Place and label of each tick.
    """

    bars: tuple[tuple[float, float, float], ...]
    photos: tuple[float, ...]
    optimized: float | None
    ticks: tuple[tuple[float, str], ...]

    @classmethod
    def of(cls, card: Card) -> HistogramLayout:
        """The layout of a card's histogram, from its first bin with an image to its last.

        The optimized image is given room too, unless the bars would be left with less than half of the width.
        """
        edges, counts = card.histogram.edges, card.histogram.counts

        def bin_of(value: float) -> float:
            return float(np.interp(value, edges, np.arange(len(edges))))

        filled = counts.nonzero()[0]
        ends = (filled[0], filled[-1] + 1) if len(filled) else (0, -1)
        low, high = (float(edges[end]) for end in ends)
        first, last = bin_of(low), bin_of(high)
        optimized = card.optimized.activation if card.reduction == "mean" else None
        if optimized is not None and not np.isfinite(optimized):
            optimized = None
        if optimized is not None and 2 * first - last <= bin_of(optimized) <= 2 * last - first:
            low, high = min(low, optimized), max(high, optimized)
            first, last = bin_of(low), bin_of(high)
        start, width = first - _MARGIN * (last - first), (1 + 2 * _MARGIN) * (last - first)

        def across(value: float) -> float:
            return (bin_of(value) - start) / width

        steps = (_HIGHEST - _LOWEST) / max(1.0, float(np.log(counts.max(initial=1))))
        return cls(
            bars=tuple(
                ((float(index) - start) / width, 1 / width, _LOWEST + steps * float(np.log(counts[index])))
                for index in filled
            ),
            photos=tuple(across(photo.activation) for photo in card.photos),
            optimized=None if optimized is None else across(optimized),
            ticks=tuple((across(value), number(value)) for value in _round_values(across) or (low, high)),
        )


def _round_values(across: Callable[[float], float]) -> list[float]:
    """Round activations whose places are in [0, 1] and far enough apart; none if there are not two."""
    chosen: list[float] = []
    for size in (0, 1, 0.1, 10, 100, 0.01, 0.3, 3, 30, 300, 0.03, 0.003):
        for value in dict.fromkeys((float(size), -float(size))):
            place = across(value)
            if 0 <= place <= 1 and all(abs(place - across(other)) >= _TICKS_APART for other in chosen):
                chosen.append(value)
    return sorted(chosen) if len(chosen) > 1 else []
