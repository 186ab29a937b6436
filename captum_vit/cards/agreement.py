"""Agreement: whether a finished image lies nearer to the photos that excite its neuron than to others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_vit.cards.embedding import at_input_size, embed
from captum_vit.cards.photos import of_different_photos, open_unchanged
from captum_vit.data.crop import eval_crop
from captum_vit.errors import ImageError, StaleRankingError
from captum_vit.optvis.results import Render, Renders
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.progress import progress_bar
from captum_vit.ranking.result import TopImage, TopImages
from captum_vit.storage.part import Part

Vector = TypeVar("Vector")

STRONGEST = 10

# Ten times as many hardly tell more: the uncertainty is that of the strongest photos.
OTHERS = 128

# Of fewer photos on either side, nothing is said.
FEWEST = 4


@dataclass(frozen=True)
class Agreement:
    """How well the likeness to a finished image tells the neuron's strongest photos from others.

    Attributes
    ----------
    value
        Area under the ROC curve, in [0, 1]: the share of pairs of a strongest and another photo in which the strongest
        is the more like. 0.5 is chance.
    photos, others
        How many photos were told from how many.
    embedding
        What of the model images were compared by, in words.
    """

    value: float
    photos: int
    others: int
    embedding: str


def area_under_curve(positives: NDArray[np.floating], negatives: NDArray[np.floating]) -> float:
    """Area under the ROC curve: the share of pairs in which the positive is the larger, ties counting half.

    Parameters
    ----------
    positives, negatives
        Scores, ``(P,)`` and ``(N,)``, at least one each.
    """
    differences = np.asarray(positives)[:, None] - np.asarray(negatives)
    return float((differences > 0).mean() + (differences == 0).mean() / 2)


def agreements(
    vit: AdaptedModel, renders: Renders, top: TopImages, *, batch_size: int = 32, progress: bool = True
) -> tuple[Agreement | None, ...]:
    """The agreement of each render with its neuron's ten strongest photos, by cosine of the model's own embeddings.

    The others are up to 128 of the images that the ranking names, evenly spaced and the same for all renders, so that
    a large dataset is not passed over again. Of crops of one photo the strongest stands for it, and none of its others
    is among the others. Photos that cannot be read any more are left out.

    Parameters
    ----------
    vit
        The adapted model.
    renders
        Of neurons, by their addresses.
    top
        The ranking of image files by their sites.
    batch_size
        Images that pass through the model at a time.
    progress
        Whether to show a progress bar.

    Returns
    -------
    tuple of Agreement or None
        None where there are fewer than four photos on either side, where the render has no finite activation, and
        where the model gives nothing that is one vector an image.
    """
    strongest = [of_different_photos(top.best(render.neuron))[:STRONGEST] for render in renders]
    others = others_of(top)
    vectors, what = _embedded(
        vit, _each_once([*others, *(image for images in strongest for image in images)]), batch_size, progress
    )
    return tuple(
        _agreement(vit, render, images, others, vectors, what)
        for render, images in zip(renders, strongest, strict=True)
    )


def _agreement(
    vit: AdaptedModel,
    render: Render,
    strongest: Sequence[TopImage],
    others: Sequence[TopImage],
    vectors: Mapping[int, Tensor],
    what: str,
) -> Agreement | None:
    sides = two_sides(strongest, others, vectors)
    if sides is None or not np.isfinite(render.activation):
        return None
    found = embed(vit, at_input_size(vit, torch.from_numpy(render.image).permute(2, 0, 1)[None]))
    if found is None:
        return None
    likeness = [(torch.stack(side) @ found[0][0]).numpy() for side in sides]
    return Agreement(area_under_curve(*likeness), len(sides[0]), len(sides[1]), what)


def evenly(positions: Iterable[int]) -> list[int]:
    """Up to 128 of some positions in a dataset, evenly spaced, ascending."""
    ordered = sorted(positions)
    chosen = np.unique(np.linspace(0, len(ordered) - 1, min(OTHERS, len(ordered))).round().astype(int))
    return [ordered[n] for n in chosen]


def others_of(top: TopImages) -> list[TopImage]:
    """Of the images that a ranking names, those that neurons' strongest photos are told from."""
    return [TopImage(*top.sources[position], index=position, value=math.nan) for position in evenly(top.sources)]


def two_sides(
    strongest: Sequence[TopImage], others: Sequence[TopImage], vectors: Mapping[int, Vector]
) -> tuple[list[Vector], list[Vector]] | None:
    """Embeddings of a neuron's strongest photos, and of others of other files.

    Parameters
    ----------
    strongest, others
        The images.
    vectors
        The embeddings that there are, by the index of the image.

    Returns
    -------
    tuple of list, or None
        None where there are fewer than four on either side.
    """
    files = {Part.of(image.path).file for image in strongest}
    near = [vectors[image.index] for image in strongest if image.index in vectors]
    far = [vectors[each.index] for each in others if each.index in vectors and Part.of(each.path).file not in files]
    return (near, far) if min(len(near), len(far)) >= FEWEST else None


def _each_once(images: Iterable[TopImage]) -> list[TopImage]:
    return list({image.index: image for image in images}.values())


def _embedded(
    vit: AdaptedModel, images: Sequence[TopImage], batch_size: int, progress: bool
) -> tuple[dict[int, Tensor], str]:
    """The embedding of each image that can be read, by its index, and what the embeddings are."""
    crop = eval_crop(vit)
    vectors: dict[int, Tensor] = {}
    what = ""
    with progress_bar("Comparing photos", len(images), disable=not progress) as advance:
        for first in range(0, len(images), batch_size):
            batch = images[first : first + batch_size]
            read = {}
            for image in batch:
                try:
                    read[image.index] = crop(open_unchanged(image))
                except (ImageError, StaleRankingError):
                    continue
            found = embed(vit, torch.stack(list(read.values()))) if read else None
            if read and found is None:
                return {}, ""
            if found is not None:
                vectors |= dict(zip(read, found[0], strict=True))
                what = found[1]
            advance(len(batch))
    return vectors, what
