"""Names of a model's neurons from a ranking of photos: ``captum_vit.name_neurons``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from captum_vit.atlas.naming.clip import Clip
from captum_vit.atlas.naming.crops import Area, Extent, areas, cut, random_crops
from captum_vit.atlas.naming.lexicon import Lexicon
from captum_vit.atlas.naming.naming import Name, names
from captum_vit.atlas.naming.words import read_words
from captum_vit.cards.photos import Photo, most_activating
from captum_vit.checks import some, whole_number
from captum_vit.data.crop import eval_crop
from captum_vit.data.images import open_rgb
from captum_vit.errors import NamingError, RankingError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.grid import PatchGrid, Size
from captum_vit.progress import progress_bar
from captum_vit.ranking.measure import ACTIVATION
from captum_vit.ranking.result import TopImages

# Neurons whose photos are in memory at a time, and those that tell where crops are.
_AT_ONCE, _SAMPLE = 16, 64


def name_neurons(
    vit: AdaptedModel,
    addresses: Sequence[str],
    top: TopImages,
    clip: Clip,
    words: Sequence[str] | str | Path | None = None,
    *,
    k: int = 10,
    quantile: float = 0.99,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = True,
) -> dict[str, Name]:
    """Name neurons by the words nearest to what excites them, where it does, if they are nearer than chance.

    Of each neuron the photos that excite it most are cropped around the peak of its patch map, as far as the rim of
    the crop has at least half the peak's activation. A CLIP embeds the crops, which are averaged by activation, and
    the words. The score of a word is how much nearer the crops are to it than crops of random photos, in standard
    deviations; words whose score random sets of crops reach too are left out, so that many neurons have none.

    The idea is that of CLIP-Dissect (Oikarinen and Weng 2023, arXiv 2204.10965), which takes whole images, and of
    network dissection (Bau et al. 2017, arXiv 1704.05796), which takes what excites a unit where it does.

    Parameters
    ----------
    vit
        The adapted model, which made the ranking.
    addresses
        ``"site:unit"`` each.
    top
        The ranking of image files, by activation.
    clip
        :func:`captum_vit.atlas.naming.clip.load_clip` loads one.
    words
        The words, or a text file with one a line; the bundled list of things that can be seen when not given.
    k
        Photos of each neuron.
    quantile
        The share of random sets of crops whose best word is left out: of neurons that respond to nothing that has a
        name, about ``1 - quantile`` get one all the same.
    seed
        Of the random crops.
    batch_size
        Crops that the CLIP sees at a time.
    progress
        Whether to show bars with the time left, and to say how long they take where that is more than a minute.

    Returns
    -------
    dict
        Of each address its :class:`captum_vit.atlas.naming.naming.Name`.

    Raises
    ------
    AddressError
        An address is malformed, or the model or the ranking has no such site or unit.
    NamingError
        The words are too few, a setting means nothing, or there are no two photos.
    RankingError
        The ranking is by relevance.
    StaleRankingError
        The model, its weights or a photo is not the one of the ranking.
    """
    wanted = [vit.canonical(address) for address in some("addresses", addresses, '["blocks.5:42"]', NamingError)]
    k, batch_size = whole_number("k", k), whole_number("batch_size", batch_size)
    if top.by != ACTIVATION:
        raise RankingError(f"names are of what excites neurons, and the ranking is by {top.by}; give one by activation")
    listed = read_words(words) if words is None or isinstance(words, str | Path) else tuple(words)

    def photos_of(neurons: Sequence[str]) -> Iterator[tuple[Photo, ...]]:
        for first in range(0, len(neurons), _AT_ONCE):
            yield from most_activating(vit, neurons[first : first + _AT_ONCE], top, k=k, progress=False)

    sample = np.random.default_rng(seed).choice(len(wanted), min(_SAMPLE, len(wanted)), replace=False)
    looks = [look(photo)[0] for photos in photos_of([wanted[n] for n in sample]) for photo in photos]
    if not looks:
        raise NamingError("the ranking has no image of these neurons; rank some photos")
    # One image of each file: parts of a photo are much alike, and a neuron's photos are different ones.
    files = list({sha256: path for path, sha256 in top.sources.values()}.values())
    crops = random_crops(reader(vit, files), len(files), looks, clip.size, seed)
    lexicon = Lexicon.of(
        clip, listed, crops, k=k, quantile=quantile, seed=seed, batch_size=batch_size, progress=progress
    )
    with progress_bar("Naming", len(wanted), disable=not progress, foretold=progress) as advance:
        found = {}
        crops_of_all = (list(excited(photos, clip.size)) for photos in photos_of(wanted))
        for address, name in zip(wanted, names(clip, lexicon, crops_of_all, batch_size=batch_size), strict=True):
            found[str(address)] = name
            advance(1)
    return found


def look(photo: Photo) -> tuple[Area, float]:
    """Where a photo excites a neuron, and the activation there."""
    (area,), weights = areas(torch.from_numpy(photo.patch_map)[None], extent_of(photo.grid, photo.size))
    return area, float(weights[0])


def excited(photos: Iterable[Photo], size: Size) -> Iterator[tuple[Tensor, float]]:
    """The crops of photos that excite a neuron, ``(3, *size)``, and its activation there."""
    for photo in photos:
        area, weight = look(photo)
        yield cut(torch.from_numpy(photo.pixels).permute(2, 0, 1), area, size), weight


@lru_cache(maxsize=256)
def extent_of(grid: PatchGrid, size: Size) -> Extent:
    """Left, top, right and bottom of the area that a grid's cells tile evenly, as shares of the photo."""
    (top, bottom), (left, right) = (
        _ends(centres, pixels) for centres, pixels in zip(grid.centres(size), size, strict=True)
    )
    return left, top, right, bottom


def reader(vit: AdaptedModel, files: Sequence[str]) -> Callable[[Sequence[int]], Iterator[Tensor]]:
    """What reads photos as the model sees them, by their places among the files."""
    crop = eval_crop(vit)

    def read(places: Sequence[int]) -> Iterator[Tensor]:
        return (crop(open_rgb(files[place])) for place in places)

    return read


def _ends(centres: np.ndarray, pixels: int) -> tuple[float, float]:
    half = (centres[-1] - centres[0]) / (len(centres) - 1) / 2 if len(centres) > 1 else pixels / 2
    return float((centres[0] - half) / pixels), float((centres[-1] + half) / pixels)
