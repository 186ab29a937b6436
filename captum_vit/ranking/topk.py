"""The k most activating images and the histogram of each unit of one site, kept while images stream by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# The activation's bins are fixed in advance, so that the histograms of two halves of a dataset add up exactly: evenly
# spaced in asinh(activation / 0.01), which is linear around zero (a bin is 0.002 wide) and logarithmic further out (a
# bin is a fifth of the activation wide). The outermost bins also count what lies beyond.
BINS = 128
EDGES: NDArray[np.float32] = (0.01 * np.sinh(np.linspace(-1, 1, BINS + 1) * np.arcsinh(1000 / 0.01))).astype(np.float32)

# Positions in a dataset are smaller: they share a 64-bit key with an activation.
POSITIONS = 2**32 - 1


def _arrays(units: int, k: int, with_patches: bool) -> dict[str, tuple[tuple[int, ...], type[np.generic], float]]:
    """Shape, type and first content of a ranking's arrays."""
    return {
        "activations": ((units, k), np.float32, -np.inf),
        "positions": ((units, k), np.int64, -1),
        "patches": ((units, k if with_patches else 0, 2), np.int16, -1),
        "counts": ((units, BINS), np.int32, 0),
        "not_finite": ((units,), np.int32, 0),
    }


@dataclass(frozen=True, eq=False)
class UnitRanking:
    """What a pass remembers of the units of one site; its size does not depend on the number of images.

    Attributes
    ----------
    activations
        The largest so far, largest first; shape ``(units, k)``, minus infinity where there were fewer images.
    positions
        Positions of their images in the dataset, ``(units, k)``; of equal activations the first image comes first. -1
        where there were fewer images.
    patches
        (row, column) of the peak in each, ``(units, k, 2)``; of length 0 in the second dimension if not asked for.
    counts
        Number of images in each bin of activation, ``(units, bins)``; the bins' edges are ``EDGES``.
    not_finite
        Number of images whose activation was NaN or infinite, ``(units,)``; they are neither ranked nor binned.
    """

    activations: NDArray[np.float32]
    positions: NDArray[np.int64]
    patches: NDArray[np.int16]
    counts: NDArray[np.int32]
    not_finite: NDArray[np.int32]

    @classmethod
    def empty(cls, units: int, k: int, with_patches: bool) -> UnitRanking:
        """The ranking before the first image."""
        arrays = _arrays(units, k, with_patches).items()
        return cls(**{name: np.full(shape, nothing, dtype) for name, (shape, dtype, nothing) in arrays})

    def fits(self, k: int, with_patches: bool) -> bool:
        """Whether all arrays are as they should be; those of a damaged file may be anything."""
        arrays = _arrays(len(self.counts), k, with_patches).items()
        found = {name: getattr(self, name) for name, _ in arrays}
        return all(found[name].shape == shape and found[name].dtype == dtype for name, (shape, dtype, _) in arrays)

    @property
    def keys(self) -> Tensor:
        """Activations and positions in one, as :func:`to_keys` makes them, ``(units, k)``."""
        return to_keys(torch.from_numpy(self.activations), torch.from_numpy(self.positions))

    def merged(self, other: UnitRanking, offset: int) -> UnitRanking:
        """The ranking of both, the other's positions raised by ``offset``."""
        moved = np.where(other.positions < 0, -1, other.positions + offset)
        both = torch.cat((self.keys, to_keys(torch.from_numpy(other.activations), torch.from_numpy(moved))), dim=1)
        keys, chosen = _largest(both, self.positions.shape[1])
        activations, positions = from_keys(keys)
        patches = np.concatenate((self.patches, other.patches), axis=1)
        return UnitRanking(
            activations=activations.numpy(),
            positions=positions.numpy(),
            patches=np.take_along_axis(patches, chosen.numpy()[..., None], axis=1) if patches.size else patches,
            counts=self.counts + other.counts,
            not_finite=self.not_finite + other.not_finite,
        )


class Standings:
    """Rankings of some sites while images stream by, in tensors where the model is: nothing is read back meanwhile.

    Parameters
    ----------
    rankings
        The images before; only the new ones are added.
    device
        Where activations come from.
    """

    def __init__(self, rankings: Sequence[UnitRanking], device: torch.device) -> None:
        self._units = [len(ranking.counts) for ranking in rankings]
        self.keys = torch.cat([ranking.keys for ranking in rankings]).to(device)
        self.patches = torch.from_numpy(np.concatenate([ranking.patches for ranking in rankings])).to(device)
        # One bin more for what is not finite.
        counts = [np.column_stack((ranking.counts, ranking.not_finite)) for ranking in rankings]
        self.counts = torch.from_numpy(np.concatenate(counts)).to(device)
        self.first_bins, self.edges = (torch.from_numpy(array).to(device) for array in _ways_to_bins())

    def add(self, activations: Tensor, positions: Tensor, peaks: Peaks | None) -> None:
        """Take note of a batch.

        Parameters
        ----------
        activations
            Of all units of all sites, ``(B, units)``, single precision.
        positions
            Positions of the images in the dataset, ``(B,)``; none may have been added before.
        peaks
            Finds where units peak; None where patches are not kept.
        """
        finite = activations.isfinite()
        bins = torch.where(finite, self.bins(activations), BINS).T
        self.counts.scatter_add_(1, bins, torch.ones_like(bins, dtype=self.counts.dtype))

        k = self.keys.shape[1]
        keys = to_keys(torch.where(finite, activations, -torch.inf), torch.where(finite, positions[:, None], -1))
        self.keys, chosen = _largest(torch.cat((self.keys, keys.T), dim=1), k)
        if peaks is not None:
            kept = self.patches.gather(1, chosen.clamp(max=k - 1)[..., None].expand_as(self.patches))
            self.patches = peaks(chosen - k, (chosen >= k) & (self.keys > _NOTHING), kept)

    def bins(self, activations: Tensor) -> Tensor:
        """Bins of activations that are finite; what comes of others means nothing."""
        first = self.first_bins[(activations.view(torch.int32) >> 16).long()]
        return first + (activations >= self.edges[first])

    def rankings(self) -> list[UnitRanking]:
        """The ranking of each site after all images so far, copied from the device."""
        activations, positions = from_keys(self.keys.cpu())
        patches, counts = self.patches.cpu(), self.counts.cpu()
        arrays = (activations, positions, patches, counts[:, :BINS].contiguous(), counts[:, BINS].contiguous())
        sites = zip(*(array.split(self._units) for array in arrays), strict=True)
        return [UnitRanking(*(array.numpy() for array in site)) for site in sites]


@cache
def _ways_to_bins() -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The lower of two bins that a number can be in, for each 16 bits that it may begin with; and bins' upper edges.

    A bin is wider than the range of such numbers, so that a look into a table and a comparison find it; a search among
    the edges takes the CPU three times as long.
    """
    bits = np.arange(2**16, dtype=np.uint32) << 16
    lowest = np.minimum(bits.view(np.float32), (bits | 0xFFFF).view(np.float32))
    return np.searchsorted(EDGES[1:-1], lowest, side="right"), np.append(EDGES[1:-1], np.float32(np.inf))


def to_keys(activations: Tensor, positions: Tensor) -> Tensor:
    """Whole numbers that descend as a ranking does: by activation, and of equal ones the first position comes first.

    No two images of a unit have the same key, so that the largest k are the same on every device and in any order.

    Parameters
    ----------
    activations
        Single precision, not NaN; minus infinity where there is no image.
    positions
        Below ``POSITIONS``; -1 where there is no image.
    """
    bits = (activations + 0.0).view(torch.int32)  # the sum makes -0.0, which equals 0.0, the same number
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # the bits of negative numbers descend
    return (ascending.long() << 32) | (POSITIONS - 1 - positions)


def from_keys(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse of :func:`to_keys`."""
    ascending = (keys >> 32).to(torch.int32)
    bits = ascending ^ ((ascending >> 31) & 0x7FFFFFFF)
    return bits.view(torch.float32), POSITIONS - 1 - (keys & 0xFFFFFFFF)


def _largest(keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row, largest first, and where they were."""
    if keys.device.type == "mps":  # whose topk silently compares as whole numbers of 32 bits (torch 2.8)
        ordered, chosen = keys.sort(dim=1, descending=True)
        return ordered[:, :k], chosen[:, :k]
    ordered, chosen = keys.topk(k)
    return ordered, chosen


# The key of minus infinity and -1.
_NOTHING = (-0x7F800001 << 32) | 0xFFFFFFFF


# What finds where units peak. Of each unit's k best images, `columns` are the places in the batch and `enters` tells
# which come from there; `kept` are the patches of the others, (units, k, 2). Gives the patches of all.
Peaks = Callable[[Tensor, Tensor, Tensor], Tensor]


def row_maxima(maps: Tensor) -> Tensor:
    """The largest of each row of maps ``(B, units, rows, columns)``, ``(B, units, rows)``."""
    # In the order in which tokens lie in memory, which takes the CPU a fraction of the time.
    return maps.movedim(1, 3).amax(2).movedim(2, 1)


def find_peaks(maps: Tensor, maxima: Tensor, columns: Tensor, enters: Tensor, kept: Tensor) -> Tensor:
    """For the CPU: looks at the maps that enter only, and of them at the row whose maximum is the largest."""
    units, ranks = enters.nonzero(as_tuple=True)
    images = columns[units, ranks]
    row = maxima[images, units].argmax(1)
    kept[units, ranks] = torch.stack((row, maps[images, units, row].argmax(1)), dim=1).to(kept.dtype)
    return kept


def peaks_of_all(maps: Tensor) -> Tensor:
    """Where units peak in maps ``(B, units, rows, columns)``, ``(B, units, 2)``; the first in row-major order."""
    peaks = maps.flatten(2).argmax(2)
    return torch.stack((peaks // maps.shape[3], peaks % maps.shape[3]), dim=2).to(torch.int16)


def choose_peaks(peaks: Tensor, columns: Tensor, enters: Tensor, kept: Tensor) -> Tensor:
    """For accelerators: all peaks were looked for, so that nobody has to wait for which of them are needed."""
    fresh = peaks.transpose(0, 1).gather(1, columns.clamp(min=0)[..., None].expand_as(kept))
    return torch.where(enters[..., None], fresh, kept)
