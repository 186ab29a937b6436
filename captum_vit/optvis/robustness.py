"""The six views by which a finished image is judged: what it shows should outlast a shift and a change of scale."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

_SHIFT, _CLOSER, _FARTHER = 0.2, 1.25, 0.8


def six_views(images: Tensor) -> Iterator[Tensor]:
    """Shifts by a fifth of the image in four directions, around its borders, and zooms by 1.25 and 0.8.

    Parameters
    ----------
    images
        Shape ``(N, C, H, W)``.

    Yields
    ------
    Tensor
        One view of all images, of their shape. What is missing around one that was zoomed out is its mirror image.
    """
    # Resizing knows no half precision on every device.
    images = images if images.dtype == torch.float64 else images.float()
    height, width = images.shape[-2:]
    down, right = max(1, round(_SHIFT * height)), max(1, round(_SHIFT * width))
    for rows, columns in ((down, 0), (-down, 0), (0, right), (0, -right)):
        yield torch.roll(images, (rows, columns), (-2, -1))
    yield _closer(images, (height, width))
    yield _farther(images, (height, width))


def _closer(images: Tensor, size: tuple[int, int]) -> Tensor:
    rows, columns = (max(1, round(side / _CLOSER)) for side in size)
    top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    middle = images[..., top : top + rows, left : left + columns]
    return interpolate(middle, size, mode="bilinear", align_corners=False)


def _farther(images: Tensor, size: tuple[int, int]) -> Tensor:
    rows, columns = (max(1, round(side * _FARTHER)) for side in size)
    smaller = interpolate(images, (rows, columns), mode="bilinear", align_corners=False, antialias=True)
    above, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    borders = [left, size[1] - columns - left, above, size[0] - rows - above]
    # A mirror image is as far as that goes; images of a few pixels have less.
    mode = "reflect" if max(borders[:2]) < columns and max(borders[2:]) < rows else "replicate"
    return pad(smaller, borders, mode=mode)
