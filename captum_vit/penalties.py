"""Penalties: what an image costs by itself, whatever a neuron makes of it."""

from __future__ import annotations

import torch
from torch import Tensor


def total_variation(images: Tensor) -> Tensor:
    """Roughness of images.

    For each of four neighbour directions (right, down and both diagonals) the L2 norm of the differences, averaged
    over images and channels; summed over the directions. The regularizer of Ghiasi et al. (2022, arXiv 2212.06727) as
    their published code has it.

    Parameters
    ----------
    images
        Pixels, shape ``(B, 3, H, W)``.

    Returns
    -------
    Tensor
        A scalar, in units of the pixels.
    """
    right = images[..., :, 1:] - images[..., :, :-1]
    down = images[..., 1:, :] - images[..., :-1, :]
    down_right = images[..., 1:, 1:] - images[..., :-1, :-1]
    down_left = images[..., 1:, :-1] - images[..., :-1, 1:]
    norms = [differences.flatten(2).norm(dim=2).mean() for differences in (right, down, down_right, down_left)]
    return torch.stack(norms).sum()
