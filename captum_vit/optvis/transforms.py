"""Augmentations for renders, each a Lucent transform: images in, images out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Transform = Callable[[Tensor], Tensor]


def ensemble(copies: int = 8) -> Transform:
    """Repeat each image, so that the transforms behind augment every copy in its own way.

    Objectives that average over the batch then average over the augmentations, as in Ghiasi et al. (2022, arXiv
    2212.06727). Put it first.

    Parameters
    ----------
    copies
        Copies of each image; the paper uses 8.
    """

    def transform(images: Tensor) -> Tensor:
        return images.repeat_interleave(copies, dim=0)

    return transform


def color_shift(mean: float = 1.0, log_std: float = 1.0) -> Transform:
    """Shift and scale the colours of each image and channel: ``(x - m) / exp(s)``.

    Parameters
    ----------
    mean, log_std
        ``m`` and ``s`` are drawn uniformly from ``[-mean, mean]`` and ``[-log_std, log_std]``; both 1 in the paper.
    """

    def transform(images: Tensor) -> Tensor:
        shape = (2, *images.shape[:2], 1, 1)
        shift, log_scale = torch.rand(shape, device=images.device, dtype=images.dtype) * 2 - 1
        shifted: Tensor = (images - mean * shift) / torch.exp(log_std * log_scale)
        return shifted

    return transform


def gaussian_noise(std: float = 0.5, steps: int = 400) -> Transform:
    """Add Gaussian noise to the colours, one draw per image and channel, that fades linearly over a render.

    One draw for a whole channel is what the authors' published code does; it moves colours about and adds no grain.

    Parameters
    ----------
    std
        Strength at the first step, in units of the image at this place of the chain; 0.5 in the paper.
    steps
        Passes after which the noise is gone. The transform counts its calls, so make a new one for each render.
    """
    calls = 0

    def transform(images: Tensor) -> Tensor:
        nonlocal calls
        remaining = max(0.0, 1 - calls / steps)
        calls += 1
        draw = torch.randn((*images.shape[:2], 1, 1), device=images.device, dtype=images.dtype)
        return images + std * remaining * draw

    return transform


def circular_shift(pixels: int = 32) -> Transform:
    """Shift all images by one random offset; what leaves at one border comes in at the other, so none is lost.

    Parameters
    ----------
    pixels
        Largest shift in pixels, either way and along both axes; 32 in the paper.
    """

    def transform(images: Tensor) -> Tensor:
        return _roll(images, pixels, pixels)

    return transform


def relative_shift(fraction: float = 0.125) -> Transform:
    """Shift as :func:`circular_shift` does, by a share of the image, so that it suits images of any size.

    Parameters
    ----------
    fraction
        Largest shift as a fraction of the image's height and width, either way.
    """

    def transform(images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        return _roll(images, round(fraction * height), round(fraction * width))

    return transform


def _roll(images: Tensor, largest_down: int, largest_right: int) -> Tensor:
    offsets = [int(torch.randint(-largest, largest + 1, ())) for largest in (largest_down, largest_right)]
    return images.roll(offsets, dims=(2, 3))


def pixel_noise(std: float = 0.08) -> Transform:
    """Add Gaussian noise to every pixel.

    Parameters
    ----------
    std
        Strength in units of the image at this place of the chain.
    """

    def transform(images: Tensor) -> Tensor:
        return images + std * torch.randn_like(images)

    return transform


def random_crops(crops: int = 8, sides: tuple[float, float] = (0.5, 0.25), steps: int = 256) -> Transform:
    """Replace each image by random square crops of it, resized to the image's size (Fel et al. 2023).

    Parameters
    ----------
    crops
        Crops of each image.
    sides
        Mean side of the crops at the first and the last step, as a fraction of the image's.
    steps
        Passes over which the side changes linearly. The transform counts its calls, so make a new one for each render.
    """
    calls = 0

    def transform(images: Tensor) -> Tensor:
        nonlocal calls
        progress = min(1.0, calls / max(1, steps - 1))
        calls += 1
        mean = sides[0] + (sides[1] - sides[0]) * progress
        count = crops * len(images)
        draws = torch.randn((3, count), device=images.device, dtype=images.dtype)
        side = (mean + 0.05 * draws[0]).clamp(0.05, 1.0)
        # Centres in grid_sample's coordinates, in which the image spans [-1, 1]; crops stay inside the image.
        centres = torch.minimum(torch.maximum(0.3 * draws[1:], side - 1), 1 - side)
        zeros = torch.zeros_like(side)
        rows = torch.stack([torch.stack([side, zeros, centres[0]], -1), torch.stack([zeros, side, centres[1]], -1)], 1)
        copies = images.repeat_interleave(crops, dim=0)
        grid = functional.affine_grid(rows, list(copies.shape), align_corners=False)
        return functional.grid_sample(copies, grid, align_corners=False, padding_mode="reflection")

    return transform
