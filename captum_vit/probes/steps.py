"""The steps from pixels to cells along one axis: how many cells each gives, and where in the image they look."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """One convolution-like step from a grid to a coarser one, along one axis.

    Parameters
    ----------
    kernel, stride, padding
        As for ``torch.nn.Conv2d``, in cells of the finer grid.
    ceil
        Whether a last, incomplete window counts as a cell (the model pads the end of the axis) or is dropped.
    """

    kernel: int
    stride: int
    padding: int = 0
    ceil: bool = False

    def count(self, cells: int) -> int:
        """Number of windows over ``cells`` cells (Dumoulin & Visin 2016, arXiv 1603.07285, relationship 6)."""
        if cells < 1:
            return 0
        span = cells + 2 * self.padding - self.kernel
        windows = (-(-span // self.stride) if self.ceil else span // self.stride) + 1
        # As in torch, a window may end beyond the axis but not begin there: it would hold nothing.
        beyond = self.ceil and (windows - 1) * self.stride >= cells + self.padding
        return max(0, windows - beyond)

    def centres(self, finer: NDArray[np.float64], spacing: float) -> NDArray[np.float64]:
        """Centres of the windows, given those of the finer cells, in pixels."""
        # Padding is symmetric, so it must not pull the outer cells inwards: extrapolate. What ``ceil`` adds at the
        # end lies on one side only and holds nothing: leave it out of the mean.
        outside = spacing * np.arange(1, self.padding + 1)
        padded = np.concatenate([finer[0] - outside[::-1], finer, finer[-1] + outside])
        windows = self.count(len(finer))
        missing = max(0, (windows - 1) * self.stride + self.kernel - len(padded))
        padded = np.concatenate([padded, np.full(missing, np.nan)])
        starts = self.stride * np.arange(windows)
        return np.asarray(np.nanmean(padded[starts[:, None] + np.arange(self.kernel)], axis=1), dtype=np.float64)

    def spacing(self, finer: float, cells: int) -> float:
        """Distance between the windows, given that between the finer cells, in pixels."""
        return finer * self.stride


@dataclass(frozen=True)
class SameWindow:
    """A step whose padding TensorFlow's rule "same" sets: as many as give ``cells / stride`` windows, rounded up.

    Where that number is odd, the end of the axis gets one more than its beginning.

    Parameters
    ----------
    kernel, stride
        As for :class:`Window`.
    """

    kernel: int
    stride: int

    def count(self, cells: int) -> int:
        """Number of windows over ``cells`` cells."""
        return -(-cells // self.stride)

    def centres(self, finer: NDArray[np.float64], spacing: float) -> NDArray[np.float64]:
        """See :meth:`Window.centres`."""
        windows = self.count(len(finer))
        padding = max(0, (windows - 1) * self.stride + self.kernel - len(finer))
        middles = self.stride * np.arange(windows) - padding // 2 + (self.kernel - 1) / 2
        inside = np.interp(middles, np.arange(len(finer)), finer)
        return np.asarray(inside + spacing * (middles - np.clip(middles, 0, len(finer) - 1)), dtype=np.float64)

    def spacing(self, finer: float, cells: int) -> float:
        """See :meth:`Window.spacing`."""
        return finer * self.stride


@dataclass(frozen=True)
class Resize:
    """A step that resamples an axis of evenly spaced cells to a number of cells of its own, borders kept.

    Parameters
    ----------
    cells
        That number.
    """

    cells: int

    def count(self, cells: int) -> int:
        """Number of cells that it gives, whatever it gets."""
        return self.cells

    def centres(self, finer: NDArray[np.float64], spacing: float) -> NDArray[np.float64]:
        """See :meth:`Window.centres`."""
        middles = (np.arange(self.cells) + 0.5) * len(finer) / self.cells - 0.5
        return np.asarray(finer[0] + spacing * middles, dtype=np.float64)

    def spacing(self, finer: float, cells: int) -> float:
        """See :meth:`Window.spacing`."""
        return finer * cells / self.cells


@dataclass(frozen=True)
class Crop:
    """A step that keeps the middle of an axis; one that is shorter is resampled to the length instead.

    Parameters
    ----------
    cells
        How many cells it keeps.
    """

    cells: int

    def count(self, cells: int) -> int:
        """Number of cells that it gives, whatever it gets."""
        return self.cells

    def centres(self, finer: NDArray[np.float64], spacing: float) -> NDArray[np.float64]:
        """See :meth:`Window.centres`."""
        if len(finer) < self.cells:
            return Resize(self.cells).centres(finer, spacing)
        before = round((len(finer) - self.cells) / 2)
        return finer[before : before + self.cells]

    def spacing(self, finer: float, cells: int) -> float:
        """See :meth:`Window.spacing`."""
        return finer * min(1.0, cells / self.cells)


Step = Window | SameWindow | Resize | Crop
