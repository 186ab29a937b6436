"""How much of the variance of neurons' activations lies within images, over places, and how much between images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from captum_vit.studies.bootstrap import INSIDE, RESAMPLES

Floats = NDArray[np.float64]

# Resamples at a time, so that memory stays small also for thousands of units.
_AT_ONCE = 200


def share_within(means: Floats, variances: Floats) -> float | None:
    """The share of the variance of activations, over images and places, that is between the places of one image.

    A unit's variance over all places of all images is the mean of the variances within images, and the variance of the
    images' means. A unit that answers to places has a share near 1, and one that answers to whole images near 0.

    Parameters
    ----------
    means, variances
        Mean and variance (over places, not corrected for their number) of each unit on each image, ``(N, units)``.

    Returns
    -------
    float or None
        Mean over the units that vary at all; None where none does.
    """
    shares = _shares(means, variances, np.full((1, len(means)), 1 / len(means)))
    return None if np.isnan(shares[0]) else float(shares[0])


def interval_within(means: Floats, variances: Floats, seed: int = 0) -> tuple[float, float] | None:
    """The percentile bootstrap's 95 % interval of :func:`share_within`, by drawing the images again."""
    images = len(means)
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=RESAMPLES) / images
    parts = np.array_split(draws, RESAMPLES // _AT_ONCE)
    shares = np.concatenate([_shares(means, variances, part) for part in parts])
    shares = shares[~np.isnan(shares)]
    share = share_within(means, variances)
    if share is None or not len(shares):
        return None
    # Around the share itself: images that are drawn twice do not vary between each other, so that shares of draws are
    # larger than it, all by about as much.
    low, high = share + np.quantile(shares - shares.mean(), [(1 - INSIDE) / 2, (1 + INSIDE) / 2])
    return max(float(low), 0.0), min(float(high), 1.0)


def _shares(means: Floats, variances: Floats, weights: Floats) -> Floats:
    """The share for each row of weights of images, ``(R, N)``; NaN where nothing varies."""
    # Around their overall mean, as the difference of squares would lose small variances beside large means.
    centred = means - means.mean(0)
    varies = variances.sum(0) + (centred**2).sum(0) > 0
    if not varies.any():
        return np.full(len(weights), np.nan)
    centred, variances = centred[:, varies], variances[:, varies]
    within = weights @ variances
    total = within + (weights @ centred**2 - (weights @ centred) ** 2).clip(0)
    # Of draws of few images, a unit may not vary on any.
    shares = np.divide(within, total, out=np.zeros_like(total), where=total > 0).sum(1)
    counted = (total > 0).sum(1)
    return np.where(counted > 0, shares / np.maximum(counted, 1), np.nan)
