"""Where a site's activations change when one patch of the image does."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from captum_vit.probes.grid import PatchGrid, Size

AT_PATCH, ENERGY, DISTANCE = "units at the patch", "energy at the patch", "distance"
LOST_THERE, LOST_ELSEWHERE = "peaks lost there", "peaks lost elsewhere"
MEASURES = (AT_PATCH, ENERGY, DISTANCE, LOST_THERE, LOST_ELSEWHERE)


def replaced(images: Tensor, mask: Tensor, cells: Tensor) -> Tensor:
    """Images, each beside copies of it in which one patch shows what lies half an image away.

    So what is put there is of the same image, and no patch has a colour or a texture that photos have not.

    Parameters
    ----------
    images
        Shape ``(B, 3, H, W)``.
    mask
        The cell of each pixel, ``(H, W)``.
    cells
        The cells to replace in each image, ``(B, P)``.

    Returns
    -------
    Tensor
        Shape ``(B, 1 + P, 3, H, W)``; the unchanged images come first.
    """
    height, width = images.shape[-2:]
    away = images.roll((height // 2, width // 2), (-2, -1))
    inside = mask == cells[:, :, None, None]
    changed = torch.where(inside[:, :, None], away[:, None], images[:, None])
    return torch.cat((images[:, None], changed), dim=1)


def distances(grid: PatchGrid, image_size: Size) -> Tensor:
    """Distance between the centres of any two cells in pixels, ``(cells, cells)``, cells in reading order."""
    rows, columns = grid.centres(image_size)
    places = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    return torch.from_numpy(np.linalg.norm(places[:, None] - places[None], axis=-1)).float()


def displacement(maps: Tensor, cells: Tensor, between: Tensor) -> Tensor:
    """How activations change when one patch does, as sums for each image, by which means over images are had.

    Parameters
    ----------
    maps
        Activations of each image, and then of its copies in which a patch was replaced,
        ``(B, 1 + P, units, rows, columns)``.
    cells
        The cell that was replaced in each copy, ``(B, P)``.
    between
        Distances between cells, ``(cells, cells)``.

    Returns
    -------
    Tensor
        Shape ``(B, 5, 2)``: for each of ``MEASURES``, a sum, and how many it is of. ``AT_PATCH`` counts units whose
        largest change is at the patch, of those that change; one that changes as much at another cell counts a half.
        ``ENERGY`` adds the share of the squared change, over units and cells, that is at the patch; ``DISTANCE`` the
        mean distance from it, weighted by the squared change, over what it would be if all cells changed alike.
        ``LOST_THERE`` counts, of the units that have their largest activation at the patch, those that have it
        elsewhere once the patch is replaced; ``LOST_ELSEWHERE`` the same of units that have it at another place.
    """
    maps = maps.flatten(3).float()
    before, after = maps[:, :1], maps[:, 1:]
    change = (after - before).abs()
    at = cells[:, :, None]
    own = change.gather(3, at[..., None].expand(-1, -1, change.shape[2], 1))[..., 0]
    largest = change.amax(3)
    moves = largest > 0
    hits = (moves & (own >= largest)) / (change == largest[..., None]).sum(3)

    energy = change.square().sum(2)
    total = energy.sum(2)
    changes = total > 0
    share = energy.gather(2, at)[..., 0] / total.clamp_min(torch.finfo(total.dtype).tiny)
    away = between[cells]
    # There is no distance between the cells of a grid of one.
    expected = (total * away.mean(2)).clamp_min(torch.finfo(total.dtype).tiny)
    distance = (energy * away).sum(2) / expected
    has_distance = changes & (away.amax(2) > 0)

    peak = before.argmax(3)
    has_peak = before.amax(3) > before.amin(3)
    there, elsewhere = has_peak & (peak == at), has_peak & (peak != at)
    lost = after.argmax(3) != peak

    pairs = (
        (hits, moves),
        (share.where(changes, 0), changes),
        (distance.where(has_distance, 0), has_distance),
        (lost & there, there),
        (lost & elsewhere, elsewhere),
    )
    return torch.stack([torch.stack([part.flatten(1).float().sum(1) for part in pair], 1) for pair in pairs], 1)
