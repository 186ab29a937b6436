"""Patch-grid arithmetic: how many cells an image of any size gives, and where in the image each cell looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_vit.errors import GridError
from captum_vit.probes.steps import Crop, Resize, SameWindow, Step, Window

Size = tuple[int, int]


@dataclass(frozen=True)
class PatchGrid:
    """The chain of windows that leads from pixels to the cells of a patch map, for rows and for columns.

    Build one with :meth:`patches` for the patch embedding, and add a model's later poolings and merges with
    :meth:`then`. Calling it gives the grid's shape for an image size.

    Examples
    --------
    >>> grid = PatchGrid.patches(16, stride=8)          # PiT: overlapping patches ...
    >>> grid((224, 224))
    (27, 27)
    >>> grid.then(3, stride=2, padding=1)((224, 224))   # ... and its first pooling
    (14, 14)
    """

    rows: tuple[Step, ...] = ()
    columns: tuple[Step, ...] = ()

    @classmethod
    def patches(
        cls, size: int | Size, stride: int | Size | None = None, padding: int | Size = 0, ceil: bool = False
    ) -> PatchGrid:
        """Grid of a patch embedding.

        Parameters
        ----------
        size
            Side of a patch in pixels, or (height, width).
        stride
            Distance between patches in pixels; the patch size when not given (patches that tile the image).
        padding
            Zero padding on each side, in pixels.
        ceil
            Whether the model pads the image to a multiple of the patch size (timm's ``dynamic_img_pad``).
        """
        return cls().then(size, size if stride is None else stride, padding, ceil)

    def then(self, kernel: int | Size, stride: int | Size, padding: int | Size = 0, ceil: bool = False) -> PatchGrid:
        """The grid after one more pooling, merge or strided convolution of this one, in cells of this grid."""
        (kernel_y, kernel_x), (stride_y, stride_x), (padding_y, padding_x) = map(_pair, (kernel, stride, padding))
        return replace(
            self,
            rows=(*self.rows, Window(kernel_y, stride_y, padding_y, ceil)),
            columns=(*self.columns, Window(kernel_x, stride_x, padding_x, ceil)),
        )

    def then_same(self, kernel: int | Size, stride: int | Size) -> PatchGrid:
        """The grid after a convolution or pooling with TensorFlow's padding "same", in cells of this grid."""
        (kernel_y, kernel_x), (stride_y, stride_x) = map(_pair, (kernel, stride))
        return replace(
            self,
            rows=(*self.rows, SameWindow(kernel_y, stride_y)),
            columns=(*self.columns, SameWindow(kernel_x, stride_x)),
        )

    def resized(self, size: int | Size) -> PatchGrid:
        """The grid after its cells were resampled to ``size`` cells, (rows, columns), borders kept."""
        rows, columns = _pair(size)
        return replace(self, rows=(*self.rows, Resize(rows)), columns=(*self.columns, Resize(columns)))

    def cropped(self, size: int | Size) -> PatchGrid:
        """The grid of the middle ``size`` cells, (rows, columns); where there are fewer, they are resampled."""
        rows, columns = _pair(size)
        return replace(self, rows=(*self.rows, Crop(rows)), columns=(*self.columns, Crop(columns)))

    def through(self, *modules: nn.Module | None) -> PatchGrid:
        """The grid after every convolution and pooling in modules, in the order in which they are registered.

        Parameters
        ----------
        modules
            Layers, or containers of layers that follow one another: a convolutional stem, a downsampling. Other
            layers in them leave cells where they are. Of branches that run side by side, give one. None is what a
            model has where it leaves a layer out.

        Raises
        ------
        GridError
            A convolution is transposed, or not of two dimensions.
        """
        grid = self
        for module in modules:
            for layer in module.modules() if module is not None else ():
                grid = _after(grid, layer)
        return grid

    def __call__(self, image_size: Size) -> Size:
        """Shape (rows, columns) of the grid for an image of ``(height, width)`` pixels.

        Raises
        ------
        GridError
            The image is too small to give a cell.
        """
        rows, columns = image_size
        for window in self.rows:
            rows = window.count(rows)
        for window in self.columns:
            columns = window.count(columns)
        if not (rows and columns):
            height, width = image_size
            raise GridError(f"a {height}x{width} image is too small for this patch grid: it has {rows}x{columns} cells")
        return rows, columns

    def centres(self, image_size: Size) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where the cells look.

        Parameters
        ----------
        image_size
            ``(height, width)`` in pixels.

        Returns
        -------
        rows, columns
            Centre of each grid row and each grid column in pixels; pixel ``i`` covers ``[i, i + 1)``, so the
            centre of a 16-pixel patch at the border is 8.0.

        Raises
        ------
        GridError
            The image is too small to give a cell.
        """
        self(image_size)
        return _centres(self.rows, image_size[0]), _centres(self.columns, image_size[1])

    def to_image(self, patch_map: Tensor, image_size: Size) -> Tensor:
        """Resample a patch map to pixels, linearly between the cells' true centres.

        Parameters
        ----------
        patch_map
            Shape ``(..., rows, columns)``.
        image_size
            ``(height, width)`` in pixels of the image that gave the map.

        Returns
        -------
        Tensor
            Shape ``(..., height, width)``. Outside the outermost centres the nearest cell's value holds.

        Raises
        ------
        GridError
            An image of that size does not give a map of that shape.
        """
        cells, expected = tuple(patch_map.shape[-2:]), self(image_size)
        if cells != expected:
            raise GridError(
                f"a patch map of {_by(cells)} cells is not of a {_by(image_size)} image, which has {_by(expected)}; "
                "give a map (..., rows, columns) and the size (height, width) of the image that gave it"
            )
        rows, columns = map(_interpolation, self.centres(image_size), image_size)
        return _along_both_axes(rows, patch_map, columns)

    def pool(self, pixel_attribution: Tensor) -> Tensor:
        """Average over the pixels of each cell: from pixels to the grid of patch maps, as :meth:`to_image` goes back.

        A pixel belongs to the cell whose centre is nearest, as in :meth:`feature_mask`. Where those cells are equally
        large, the map's mean is that of the pixels.

        Parameters
        ----------
        pixel_attribution
            Shape ``(..., height, width)``, of an image of that size. Leading dimensions stay as they are; sum over
            the channels of an attribution ``(B, 3, height, width)`` before or after, as Captum's own plots do.

        Returns
        -------
        Tensor
            Shape ``(..., rows, columns)``. A cell that no pixel is nearest to has the value of the pixel nearest to
            its centre.

        Raises
        ------
        GridError
            There is no height and width, or the image is too small to give a cell.
        """
        if pixel_attribution.ndim < 2:
            raise GridError(
                f"an attribution of shape {tuple(pixel_attribution.shape)} has no pixels; give it (..., height, width)"
            )
        image_size = (pixel_attribution.shape[-2], pixel_attribution.shape[-1])
        rows, columns = map(_averages, self.centres(image_size), image_size)
        return _along_both_axes(rows, pixel_attribution, columns)

    def feature_mask(self, image_size: Size) -> Tensor:
        """Number of the cell whose centre is nearest, for each pixel: Captum's ``feature_mask`` on this grid.

        Returns
        -------
        Tensor
            Integers ``0 ... rows * columns - 1`` in reading order, shape ``(1, 1, height, width)``.
        """
        rows, columns = map(_nearest, self.centres(image_size), image_size)
        cells = rows[:, None] * self(image_size)[1] + columns
        return torch.from_numpy(cells)[None, None]


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _pair(value: int | Size) -> Size:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _after(grid: PatchGrid, layer: Any) -> PatchGrid:
    """The grid after one layer, as far as it moves cells."""
    kind = type(layer).__name__
    if isinstance(layer, nn.ConvTranspose2d | nn.Conv1d | nn.Conv3d):
        raise GridError(f"{kind} gives no coarser grid of patches; describe its cells by then()")
    if "Pad2d" in kind:
        left, right, top, bottom = layer.padding
        if (left, top) != (right, bottom):
            raise GridError(f"{kind} pads one side more than the other; describe its cells by then()")
        return grid.then(1, 1, (top, left))
    # Poolings have no common class, and timm has some of its own, one of which calls its kernel a filter.
    size: Any = getattr(layer, "kernel_size", getattr(layer, "filt_size", None))
    pools = "Pool2d" in kind and "Adaptive" not in kind and size is not None
    if not (isinstance(layer, nn.Conv2d) or kind == "CondConv2d" or pools):
        return grid
    kernel, stride = _pair(size), _pair(layer.stride or size)
    if kernel == stride == (1, 1):
        return grid
    dilation = _pair(getattr(layer, "dilation", 1))
    kernel = (dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1)
    padding = getattr(layer, "padding", 0)
    if "Same" in kind or padding == "same" or getattr(layer, "dynamic_padding", False):
        return grid.then_same(kernel, stride)
    return grid.then(kernel, stride, 0 if padding == "valid" else padding, getattr(layer, "ceil_mode", False))


def _centres(steps: tuple[Step, ...], pixels: int) -> NDArray[np.float64]:
    centres, spacing = np.arange(pixels, dtype=np.float64) + 0.5, 1.0
    for step in steps:
        cells = len(centres)
        centres, spacing = step.centres(centres, spacing), step.spacing(spacing, cells)
    return centres


def _interpolation(centres: NDArray[np.float64], pixels: int) -> NDArray[np.float64]:
    """Matrix (pixels, cells) that interpolates values at the cells' centres linearly at the pixels' centres."""
    return np.stack([np.interp(np.arange(pixels) + 0.5, centres, cell) for cell in np.eye(len(centres))], axis=1)


def _nearest(centres: NDArray[np.float64], pixels: int) -> NDArray[np.intp]:
    """Number of the cell whose centre is nearest, for each pixel along an axis."""
    return np.asarray(np.abs(centres - (np.arange(pixels)[:, None] + 0.5)).argmin(axis=1))


def _averages(centres: NDArray[np.float64], pixels: int) -> NDArray[np.float64]:
    """Matrix (cells, pixels) that averages over the pixels of each cell."""
    inside = (_nearest(centres, pixels) == np.arange(len(centres))[:, None]).astype(np.float64)
    # A padded axis may have cells at the very border, which share their nearest pixel with a neighbour.
    for cell in np.flatnonzero(inside.sum(axis=1) == 0):
        inside[cell, np.clip(int(centres[cell]), 0, pixels - 1)] = 1
    return np.asarray(inside / inside.sum(axis=1, keepdims=True))


def _along_both_axes(rows: NDArray[np.float64], values: Tensor, columns: NDArray[np.float64]) -> Tensor:
    """Apply one matrix to the columns and one to the rows of ``values``; whole numbers give fractions."""
    if not values.is_floating_point():
        values = values.to(torch.get_default_dtype())
    return torch.from_numpy(rows).to(values) @ values @ torch.from_numpy(columns).to(values).T
