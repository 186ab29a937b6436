"""The k most activating images and the histogram of each unit of one site, kept while images stream by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The activation's bins are fixed in advance, so that the histograms of two halves of a dataset add up exactly: evenly
# spaced in asinh(activation / 0.01), which is linear around zero (a bin is 0.002 wide) and logarithmic further out (a
# bin is a fifth of the activation wide). The outermost bins also count what lies beyond.
BINS = 128
EDGES: NDArray[np.float32] = (0.01 * np.sinh(np.linspace(-1, 1, BINS + 1) * np.arcsinh(1000 / 0.01))).astype(np.float32)

# From units (n,) and columns of the batch (n,) to the patches where they peak, (n, 2).
FindPatches = Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.int16]]


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
        return cls(
            activations=np.full((units, k), -np.inf, dtype=np.float32),
            positions=np.full((units, k), -1, dtype=np.int64),
            patches=np.full((units, k if with_patches else 0, 2), -1, dtype=np.int16),
            counts=np.zeros((units, BINS), dtype=np.int32),
            not_finite=np.zeros(units, dtype=np.int32),
        )

    def add(
        self, activations: NDArray[np.float32], positions: NDArray[np.int64], patches: FindPatches | None = None
    ) -> None:
        """Take note of a batch.

        Parameters
        ----------
        activations
            Shape ``(B, units)``.
        positions
            Positions of the images in the dataset, ``(B,)``; none may have been added before.
        patches
            Finds where units peak; asked only about those that enter the ranking.
        """
        finite = np.isfinite(activations)
        units = np.broadcast_to(np.arange(len(self.counts)), activations.shape)
        bins = np.searchsorted(EDGES[1:-1], activations[finite], side="right")
        flat = np.bincount(units[finite] * BINS + bins, minlength=self.counts.size)
        self.counts[...] += flat.reshape(self.counts.shape).astype(np.int32)
        self.not_finite[...] += (~finite).sum(axis=0, dtype=np.int32)

        candidates = np.where(finite, activations, -np.inf).astype(np.float32).T
        self._enter(candidates, np.broadcast_to(positions, candidates.shape), patches)

    def merged(self, other: UnitRanking, offset: int) -> UnitRanking:
        """The ranking of both, the other's positions raised by ``offset``."""
        both = UnitRanking(
            activations=self.activations.copy(),
            positions=self.positions.copy(),
            patches=self.patches.copy(),
            counts=self.counts + other.counts,
            not_finite=self.not_finite + other.not_finite,
        )
        find = (lambda units, columns: other.patches[units, columns]) if other.patches.size else None
        both._enter(other.activations, other.positions + offset, find)
        return both

    def _enter(
        self, candidates: NDArray[np.float32], positions: NDArray[np.int64], patches: FindPatches | None
    ) -> None:
        """Put candidates ``(units, n)`` that are among the best k in their places."""
        k = self.activations.shape[1]
        last, last_position = self.activations[:, -1:], self.positions[:, -1:]
        enters = (candidates > last) | ((candidates == last) & (positions < last_position))
        # Soon few units have one: that keeps the sorting below cheap.
        (units,) = enters.any(axis=1).nonzero()
        if not len(units):
            return
        values = np.concatenate((self.activations[units], candidates[units]), axis=1)
        places = np.concatenate((self.positions[units], positions[units]), axis=1)
        places[np.isneginf(values)] = -1
        order = np.lexsort((places, -values))[:, :k]
        self.activations[units] = np.take_along_axis(values, order, axis=1)
        self.positions[units] = np.take_along_axis(places, order, axis=1)
        if patches is not None:
            kept = self.patches[units][np.arange(len(units))[:, None], np.minimum(order, k - 1)]
            rows, ranks = ((order >= k) & np.isfinite(self.activations[units])).nonzero()
            kept[rows, ranks] = patches(units[rows], order[rows, ranks] - k)
            self.patches[units] = kept
