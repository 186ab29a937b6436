"""The k most activating images and the histogram of each unit of one site, kept while images stream by."""

from __future__ import annotations

from dataclasses import dataclass

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
    """A ranking while images stream by, in tensors on the model's device: nothing is read from there meanwhile.

    Parameters
    ----------
    ranking
        The images before; only the new ones are added.
    device
        Where activations come from.
    """

    def __init__(self, ranking: UnitRanking, device: torch.device) -> None:
        self.keys = ranking.keys.to(device)
        self.patches = torch.from_numpy(ranking.patches).to(device)
        # One bin more for what is not finite.
        counts = np.concatenate((ranking.counts, ranking.not_finite[:, None]), axis=1)
        self.counts = torch.from_numpy(counts).to(device)
        self.edges = torch.from_numpy(EDGES[1:-1]).to(device)

    def add(self, activations: Tensor, positions: Tensor, maps: Tensor) -> None:
        """Take note of a batch.

        Parameters
        ----------
        activations
            Shape ``(B, units)``, single precision.
        positions
            Positions of the images in the dataset, ``(B,)``; none may have been added before.
        maps
            What was reduced to the activations, ``(B, units, rows, columns)``; its peaks are kept if asked for.
        """
        finite = activations.isfinite()
        bins = torch.where(finite, torch.bucketize(activations, self.edges, right=True), BINS).T
        self.counts.scatter_add_(1, bins, torch.ones_like(bins, dtype=self.counts.dtype))

        k = self.keys.shape[1]
        keys = to_keys(torch.where(finite, activations, -torch.inf), torch.where(finite, positions[:, None], -1))
        self.keys, chosen = _largest(torch.cat((self.keys, keys.T), dim=1), k)
        if self.patches.numel():
            kept = self.patches.gather(1, chosen.clamp(max=k - 1)[..., None].expand_as(self.patches))
            enters = (chosen >= k) & (self.keys > _NOTHING)
            find = _peaks_of_few if maps.device.type == "cpu" else _peaks_of_all
            self.patches = find(maps, chosen - k, enters, kept)

    def ranking(self) -> UnitRanking:
        """All images so far, copied from the device."""
        activations, positions = from_keys(self.keys.cpu())
        counts = self.counts.cpu().numpy()
        return UnitRanking(
            activations=activations.numpy(),
            positions=positions.numpy(),
            patches=self.patches.cpu().numpy(),
            counts=counts[:, :BINS].copy(),
            not_finite=counts[:, BINS].copy(),
        )


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


# Both give the patches (units, k, 2) of a ranking: `kept`, and where a unit's image `columns` of the batch enters, the
# map's peak; of several peaks the first in row-major order.


def _peaks_of_all(maps: Tensor, columns: Tensor, enters: Tensor, kept: Tensor) -> Tensor:
    """For accelerators: looks at all maps, so that nobody has to wait for which of them are needed."""
    peaks = maps.flatten(2).argmax(2).T.gather(1, columns.clamp(min=0))
    return torch.where(enters[..., None], _row_column(peaks, maps), kept)


def _peaks_of_few(maps: Tensor, columns: Tensor, enters: Tensor, kept: Tensor) -> Tensor:
    """For the CPU: looks at the maps that enter, image by image as they lie in memory."""
    images = columns[enters]
    order = images.argsort()
    units, ranks = (index[order] for index in enters.nonzero(as_tuple=True))
    shares = units.split(torch.bincount(images, minlength=len(maps)).tolist())
    tokens = maps.flatten(2).transpose(1, 2)  # (B, patches, units)
    peaks = [tokens[image].index_select(1, share).max(0).indices for image, share in enumerate(shares) if len(share)]
    if peaks:
        kept[units, ranks] = _row_column(torch.cat(peaks), maps)
    return kept


def _row_column(peaks: Tensor, maps: Tensor) -> Tensor:
    columns = maps.shape[3]
    return torch.stack((peaks // columns, peaks % columns), dim=-1).to(torch.int16)
