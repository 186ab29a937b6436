"""Crops: the parts of photos that excite neurons, and random ones beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from captum_vit.atlas.naming.clip import Clip

# Cells beside the peak that every crop has, as those on cards have.
_LEAST = 1

# A crop grows around the peak while the mean over the cells that it would gain is at least this part of the peak.
_SHARE = 0.5

# Random crops from which chance is told, in all.
CROPS = 2048

# Parts of a photo's height and width that the cells of a patch grid tile evenly: left, top, right, bottom.
Extent = tuple[float, float, float, float]
WHOLE: Extent = (0.0, 0.0, 1.0, 1.0)


class Area(NamedTuple):
    """A part of a photo, as shares of its height and width."""

    top: float
    left: float
    bottom: float
    right: float


def areas(maps: Tensor, extent: Extent = WHOLE) -> tuple[list[Area], NDArray[np.float32]]:
    """Where neurons are excited: a square of cells around each map's peak that grows while its rim is excited too.

    Parameters
    ----------
    maps
        Activations ``(N, rows, columns)``.
    extent
        Of the cells in the photo.

    Returns
    -------
    areas
        One for each map: three by three cells and as many rings around them as have half the peak's activation on
        average, as far as the photo goes.
    weights
        Activation at each peak, ``(N,)``; 0 where the neuron is not excited at all.
    """
    rows, columns = maps.shape[1:]
    maps = maps.float()
    peaks, places = maps.flatten(1).max(dim=1)
    radii = torch.full_like(places, _LEAST)
    inner = _square(maps, places, _LEAST)
    for radius in range(_LEAST + 1, max(rows, columns)):
        outer = _square(maps, places, radius)
        total, cells = (outer - inner).unbind()
        grows = (cells > 0) & (total >= _SHARE * peaks * cells) & (radii == radius - 1)
        if not grows.any():
            break
        radii, inner = torch.where(grows, radius, radii), outer
    left, top, right, bottom = extent
    vertical = _spans(places // columns, radii, rows, top, bottom)
    horizontal = _spans(places % columns, radii, columns, left, right)
    found = [Area(y0, x0, y1, x1) for (y0, y1), (x0, x1) in zip(vertical, horizontal, strict=True)]
    weights = peaks.nan_to_num(0).clamp(min=0).cpu().numpy()
    return found, np.asarray(weights, dtype=np.float32)


def _square(maps: Tensor, places: Tensor, radius: int) -> Tensor:
    """Sum of each map over a square around a place, and the number of its cells that are in the map, ``(2, N)``."""
    with_counts = torch.stack((maps, torch.ones_like(maps)), dim=1)
    sums = functional.avg_pool2d(with_counts, 2 * radius + 1, stride=1, padding=radius, divisor_override=1)
    return sums.flatten(2).gather(2, places[:, None, None].expand(-1, 2, 1))[..., 0].T


def cut(pixels: Tensor, area: Area, size: tuple[int, int]) -> Tensor:
    """A part of a photo ``(3, H, W)``, resized, ``(3, *size)``; of the photo's device."""
    height, width = pixels.shape[1:]
    rows = _pixels(area.top, area.bottom, height)
    columns = _pixels(area.left, area.right, width)
    crop = pixels[None, :, rows, columns].float()
    return functional.interpolate(crop, size, mode="bicubic", antialias=True, align_corners=False)[0].clamp(0, 1)


def encoded(clip: Clip, crops: Iterable[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Embeddings of length 1, ``(B, D)``, single precision, of crops ``(3, *clip.size)`` in batches."""
    waiting = iter(crops)
    while batch := list(islice(waiting, batch_size)):
        embeddings = clip.encode_images(torch.stack(batch).to(clip.device))
        yield functional.normalize(embeddings.float(), dim=1)


def random_crops(
    read: Callable[[Sequence[int]], Iterable[Tensor]],
    photos: int,
    places: Sequence[Area],
    size: tuple[int, int],
    seed: int = 0,
) -> Iterator[list[Tensor]]:
    """Crops of photos drawn at random, where and as large as the crops of neurons are on theirs.

    Parameters
    ----------
    read
        From some photos' numbers to their pixels ``(3, H, W)`` in [0, 1], in order.
    photos
        How many there are.
    places
        Areas of neurons' crops, one or more, of which each is as likely.
    size
        Height and width of a crop.
    seed
        Of the choice.

    Yields
    ------
    list of Tensor
        The crops of one photo ``(3, *size)``; of all as many, about 2048 in all.
    """
    random = np.random.default_rng(seed)
    chosen = np.sort(random.choice(photos, min(photos, CROPS), replace=False))
    for pixels in read(chosen.tolist()):
        drawn = random.integers(len(places), size=max(1, CROPS // len(chosen)))
        yield [cut(pixels, places[place], size) for place in drawn]


def _spans(places: Tensor, radii: Tensor, cells: int, begin: float, end: float) -> list[tuple[float, float]]:
    """Of each square of cells its begin and end along one axis, as shares of the photo."""
    least = min(2 * _LEAST + 1, cells)
    first = (places - radii).clamp(min=0, max=cells - least)
    last = torch.maximum((places + radii + 1).clamp(max=cells), first + least)
    cell = (end - begin) / cells
    return [
        (begin + cell * start, begin + cell * stop) for start, stop in zip(first.tolist(), last.tolist(), strict=True)
    ]


def _pixels(begin: float, end: float, length: int) -> slice:
    first = min(max(0, round(begin * length)), length - 1)
    return slice(first, max(first + 1, min(length, round(end * length))))
