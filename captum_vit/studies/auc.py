"""The area under the ROC curve of many units at once: its value, its interval, and the best that chance gives."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_vit.studies.bootstrap import INSIDE, RESAMPLES

# Resamples at a time, so that memory stays small also for many images.
_AT_ONCE = 200


def ranks(values: Tensor) -> Tensor:
    """Ranks of values within each column, from 1, ``(N, units)``; equal values share the mean of theirs.

    A column with a value that is not finite is all of one rank: its unit tells nothing.
    """
    columns = values.float().T.contiguous()
    columns = torch.where(columns.isfinite().all(1, keepdim=True), columns, 0)
    ordered = columns.sort(dim=1).values
    before, until = (torch.searchsorted(ordered, columns, right=right) for right in (False, True))
    return ((before + until + 1) / 2).T.contiguous()


def aucs(ranked: Tensor, positive: Tensor) -> Tensor:
    """Probability that a positive image has the larger value than another one, ties counted a half.

    That is the area under the ROC curve, from Mann and Whitney's U.

    Parameters
    ----------
    ranked
        From :func:`ranks`, ``(N, units)``.
    positive
        Which images are positive, ``(L, N)``, in as many ways as there are rows.

    Returns
    -------
    Tensor
        In [0, 1], ``(L, units)``.
    """
    positive = positive.to(ranked)
    ones = positive.sum(1, keepdim=True)
    zeros = ranked.shape[0] - ones
    # Around the middle rank, so that sums stay small enough for single precision.
    middle = (ranked.shape[0] + 1) / 2
    above: Tensor = positive @ (ranked - middle)
    return above / (ones * zeros) + 0.5


def best_by_chance(ranked: Iterable[Tensor], positive: Tensor, permutations: int, seed: int) -> Tensor:
    """The largest AUC of all units, under labels that are dealt out at random.

    What the best of many units comes to where none has anything to do with the labels: the null distribution of the
    maximum (Westfall and Young 1993), by which p-values hold for all units together.

    Parameters
    ----------
    ranked
        Ranks of the units of one site after another, ``(N, units)`` each.
    positive
        The labels, ``(N,)``.
    permutations
        How often they are dealt out.
    seed
        Of that.

    Returns
    -------
    Tensor
        Shape ``(permutations,)``.
    """
    draws = np.random.default_rng(seed).permuted(np.tile(positive.cpu().numpy(), (permutations, 1)), axis=1)
    dealt = torch.from_numpy(draws).to(positive.device)
    best = torch.zeros(permutations, device=positive.device)
    for of_site in ranked:
        best = torch.maximum(best, aucs(of_site, dealt).amax(1))
    return best


def interval(values: NDArray[np.float64], positive: NDArray[np.bool_], seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap's 95 % interval of one unit's AUC; positive and other images are each drawn again.

    Parameters
    ----------
    values
        Of each image, ``(N,)``.
    positive
        Which are positive, ``(N,)``.
    seed
        Of the draws.
    """
    order = np.argsort(values, kind="stable")
    positive, kinds = positive[order], np.unique(values[order], return_index=True)[1]
    rng = np.random.default_rng(seed)
    found = []
    for start in range(0, RESAMPLES, _AT_ONCE):
        count = min(_AT_ONCE, RESAMPLES - start)
        ones, zeros = (_drawn(rng, chosen, count, kinds) for chosen in (positive, ~positive))
        below = zeros.cumsum(1) - zeros / 2
        found.append((ones * below).sum(1) / (ones.sum(1) * zeros.sum(1)))
    low, high = np.quantile(np.concatenate(found), [(1 - INSIDE) / 2, (1 + INSIDE) / 2])
    return float(low), float(high)


def _drawn(
    rng: np.random.Generator, chosen: NDArray[np.bool_], count: int, kinds: NDArray[np.intp]
) -> NDArray[np.int64]:
    """How often images of each value are among as many as were chosen, drawn from those, ``(count, values)``."""
    drawn = rng.multinomial(int(chosen.sum()), chosen / chosen.sum(), size=count)
    return np.asarray(np.add.reduceat(drawn, kinds, axis=1))
