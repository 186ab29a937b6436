"""Agreement: whether a finished image lies nearer to the photos that excite its neuron than to others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from captum_vit.cards.embedding import embed
from captum_vit.cards.photos import of_different_photos, open_unchanged
from captum_vit.data.crop import eval_crop
from captum_vit.errors import ImageError, StaleRankingError
from captum_vit.optvis.results import Render, Renders
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.progress import progress_bar
from captum_vit.ranking.result import TopImage, TopImages
from captum_vit.storage.part import Part

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
    others = _evenly(top)
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
    vectors: dict[str, Tensor],
    what: str,
) -> Agreement | None:
    files = {Part.of(image.path).file for image in strongest}
    near = [vectors[image.path] for image in strongest if image.path in vectors]
    far = [vectors[image.path] for image in others if image.path in vectors and Part.of(image.path).file not in files]
    if min(len(near), len(far)) < FEWEST or not np.isfinite(render.activation):
        return None
    found = embed(vit, _as_input(vit, render))
    if found is None:
        return None
    likeness = [(torch.stack(side) @ found[0][0]).numpy() for side in (near, far)]
    return Agreement(area_under_curve(*likeness), len(near), len(far), what)


def _as_input(vit: AdaptedModel, render: Render) -> Tensor:
    """The finished image at the model's input size, ``(1, 3, H, W)``."""
    pixels = torch.from_numpy(render.image).permute(2, 0, 1)[None]
    if tuple(pixels.shape[2:]) == tuple(vit.preprocessing.size):
        return pixels
    return functional.interpolate(pixels, vit.preprocessing.size, mode="bilinear", antialias=True).clamp(0, 1)


def _evenly(top: TopImages) -> list[TopImage]:
    """Up to 128 of the images that a ranking names, evenly spaced in the dataset."""
    positions = sorted(top.sources)
    chosen = np.unique(np.linspace(0, len(positions) - 1, min(OTHERS, len(positions))).round().astype(int))
    return [TopImage(*top.sources[positions[n]], index=positions[n], value=math.nan) for n in chosen]


def _each_once(images: Iterable[TopImage]) -> list[TopImage]:
    return list({image.path: image for image in images}.values())


def _embedded(
    vit: AdaptedModel, images: Sequence[TopImage], batch_size: int, progress: bool
) -> tuple[dict[str, Tensor], str]:
    """The embedding of each image that can be read, by its path, and what the embeddings are."""
    crop = eval_crop(vit)
    vectors: dict[str, Tensor] = {}
    what = ""
    with progress_bar("Comparing photos", len(images), disable=not progress) as advance:
        for first in range(0, len(images), batch_size):
            batch = images[first : first + batch_size]
            read = {}
            for image in batch:
                try:
                    read[image.path] = crop(open_unchanged(image))
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
