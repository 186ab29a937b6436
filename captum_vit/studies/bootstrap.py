"""Intervals of accuracies and of their ratios, by drawing the images again."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 2000
INSIDE = 0.95


def interval(hits: ArrayLike, of: ArrayLike | None = None, seed: int = 0) -> tuple[float, float] | None:
    """The percentile bootstrap's 95 % interval of a mean, or of one sum over another (Efron 1979).

    Parameters
    ----------
    hits
        Whether each image was classified rightly, or any number for each, shape ``(N,)``.
    of
        The same of the images that ``hits`` is relative to, shape ``(N,)``: the ratio of the sums is taken, of pairs
        that are drawn together. Each image counts 1 when not given.
    seed
        Of the draws.

    Returns
    -------
    tuple of float, or None
        Lower and upper end; None where there is nothing to divide by. Draws that have nothing, as few images may give,
        are left out.
    """
    numerator = np.asarray(hits, dtype=np.float64)
    denominator = np.ones_like(numerator) if of is None else np.asarray(of, dtype=np.float64)
    if not len(numerator):
        return None
    # Images that fare alike are drawn together: of 50,000 there are four kinds, and the draw is the same.
    kinds, counts = np.unique(np.stack([numerator, denominator], axis=1), axis=0, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), size=RESAMPLES)
    sums = drawn @ kinds
    sums = sums[sums[:, 1] > 0]
    if not len(sums):
        return None
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [(1 - INSIDE) / 2, (1 + INSIDE) / 2])
    return float(low), float(high)
