"""Whether a measure rises from one group of neurons to the next, with its interval over neurons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captum_vit.studies.bootstrap import INSIDE, RESAMPLES


def rising_pairs(groups: Sequence[Sequence[float]], seed: int = 0) -> tuple[float, float, float] | None:
    """The share of pairs of values of two groups in which that of the later group is the larger, ties counting half.

    1 says that every value is larger than all of the groups before it, 0.5 is chance, 0 the reverse. Of two groups it
    is the area under the ROC curve.

    Parameters
    ----------
    groups
        Values by group, such as the frequencies of a block's renders by depth.
    seed
        Draws the values of each group again, for the interval.

    Returns
    -------
    tuple of float, or None
        The share and the ends of its 95 % bootstrap interval; None where fewer than two groups have values.
    """
    groups = [group for group in groups if len(group)]
    if len(groups) < 2:
        return None
    values = np.concatenate([np.asarray(group, dtype=np.float64) for group in groups])
    number = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    later = number[:, None] > number
    risen = later * (1 + np.sign(values[:, None] - values)) / 2
    rng = np.random.default_rng(seed)
    drawn = np.concatenate(
        [rng.multinomial(len(group), np.full(len(group), 1 / len(group)), size=RESAMPLES) for group in groups], axis=1
    )
    # Each group is drawn at its own size, so that the number of pairs stays.
    shares = ((drawn @ risen) * drawn).sum(1) / later.sum()
    low, high = np.quantile(shares, [(1 - INSIDE) / 2, (1 + INSIDE) / 2])
    return float(risen.sum() / later.sum()), float(low), float(high)
