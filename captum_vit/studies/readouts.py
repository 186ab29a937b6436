"""What is fitted on features to tell classes apart: a linear probe, or the nearest neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional

from captum_vit.regression import ridge

RIDGE = 0.1  # of the features' mean variance
NEIGHBOURS = 20
TEMPERATURE = 0.07  # of the neighbours' cosines


class Readout(NamedTuple):
    """A classifier of features.

    Attributes
    ----------
    scores
        From features, ``(..., C)``, to a score for each class, ``(..., classes)``.
    words
        What it is, for the record.
    """

    scores: Callable[[Tensor], Tensor]
    words: str


def linear_probe(rows: Tensor, places: Tensor, classes: int) -> Readout:
    """Ridge regression of each class, one against the rest.

    Parameters
    ----------
    rows
        Features to fit it on, ``(N, C)``.
    places
        The class of each, ``(N,)``, in [0, classes).
    classes
        How many there are.
    """
    weight, bias = ridge(rows, functional.one_hot(places, classes), RIDGE)

    def scores(features: Tensor) -> Tensor:
        return features.float() @ weight + bias

    return Readout(scores, f"linear probe, ridge {RIDGE}, fitted on {len(rows)} images")


def nearest_neighbours(rows: Tensor, places: Tensor, classes: int) -> Readout:
    """Vote of the 20 rows with the largest cosine, each with weight ``exp(cosine / 0.07)``; of all rows, if fewer.

    The protocol of Wu et al. (2018, arXiv 1805.01978) as Caron et al. (2021, arXiv 2104.14294) evaluate DINO by it. The
    score of a class is the logarithm of its votes, so that without a vote it has minus infinity and not a tie at zero.

    Parameters
    ----------
    rows
        Features of the possible neighbours, ``(N, C)``.
    places
        The class of each, ``(N,)``, in [0, classes).
    classes
        How many there are.
    """
    directions = functional.normalize(rows, dim=-1)
    count = min(NEIGHBOURS, len(rows))

    def scores(features: Tensor) -> Tensor:
        nearest = (functional.normalize(features.float(), dim=-1) @ directions.T).topk(count, dim=-1)
        votes = features.new_zeros((*features.shape[:-1], classes), dtype=directions.dtype)
        votes.scatter_add_(-1, places[nearest.indices], (nearest.values / TEMPERATURE).exp())
        return votes.log()

    return Readout(scores, f"{count} nearest neighbours by cosine, of {len(rows)} images")
