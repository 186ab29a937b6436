"""Units that tell some images from others: chosen on one half of the images, tested on the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from captum_vit.studies.auc import aucs, best_by_chance, interval, ranks

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Telling:
    """How well a unit tells images from others.

    Attributes
    ----------
    site, unit
        Which it is.
    auc, ends
        Its AUC on the half that it was not chosen on, and the ends of the 95 % interval.
    chosen
        Its AUC on the half that it was chosen on.
    chance
        What the best of all units comes to there in one of twenty deals of the labels.
    p_value
        The share of deals in which some unit is as good there.
    """

    site: str
    unit: int
    auc: float
    ends: tuple[float, float]
    chosen: float
    chance: float
    p_value: float


class Halves:
    """Activations of the images of two halves.

    Parameters
    ----------
    values
        Of each site, the activation of its units on each image, ``(N, units)``.
    choosing, testing
        The images of either half, ``(N,)``.
    """

    def __init__(self, values: Mapping[str, NDArray[np.float32]], choosing: Flags, testing: Flags) -> None:
        self.values = values
        self.choosing, self.testing = choosing, testing
        self._ranks = {site: ranks(torch.from_numpy(each[choosing])) for site, each in values.items()}
        self._places = [(site, unit) for site, each in values.items() for unit in range(each.shape[1])]

    def best(self, positive: Flags, count: int, permutations: int, seed: int) -> list[Telling]:
        """The units with the largest AUC on one half, best first, and what they come to on the other.

        Parameters
        ----------
        positive
            The images that they are to tell from the others, ``(N,)``; some in each half, and not all of it.
        count
            How many units.
        permutations
            How often labels are dealt out at random.
        seed
            Of that, and of the bootstrap.
        """
        labels = torch.from_numpy(positive[self.choosing])
        found = torch.cat([aucs(of_site, labels[None])[0] for of_site in self._ranks.values()])
        by_chance = best_by_chance(self._ranks.values(), labels, permutations, seed)
        best = found.topk(min(count, len(found)))
        told = []
        for value, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
            site, unit = self._places[place]
            values, others = self.values[site][self.testing, unit], positive[self.testing]
            tested = aucs(ranks(torch.from_numpy(values)[:, None]), torch.from_numpy(others)[None])
            # The rounding of single precision is not to make a tie a loss.
            as_good = int((by_chance >= value - 1e-6).sum())
            told.append(
                Telling(
                    site,
                    unit,
                    auc=float(tested),
                    ends=interval(values.astype(np.float64), others, seed),
                    chosen=value,
                    chance=float(np.quantile(by_chance.numpy(), 0.95)),
                    p_value=(1 + as_good) / (1 + permutations),
                )
            )
        return told
