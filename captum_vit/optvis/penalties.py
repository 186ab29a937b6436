"""Penalties: what an image costs by itself, whatever a neuron makes of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from captum_vit.optvis.views import Views


class Penalty(ABC):
    """What is added to the loss of each image of a batch."""

    @abstractmethod
    def of(self, views: Views) -> Tensor:
        """Penalty of each image, from its views before normalization; shape ``(N,)``."""


@dataclass(frozen=True)
class TotalVariation(Penalty):
    """Roughness of the views, by :func:`total_variation`.

    Attributes
    ----------
    weight
        Factor; 0.0005 in Ghiasi et al. (2022).
    """

    weight: float = 0.0005

    def of(self, views: Views) -> Tensor:
        """See :class:`Penalty`."""
        if views.warp is not None:
            return self.of(views.settled())
        # A change of colour scales differences, and is not needed in pixels: views of one origin are looked at once.
        norms = _channel_norms(views.images)
        if views.scale is not None:
            norms = norms * views.scale.abs().flatten(2)[:, :, None]
        return norms.mean(dim=(1, 3)).sum(dim=1) * self.weight


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
    return _channel_norms(images[None]).mean(dim=(0, 1, 3)).sum()


def _channel_norms(images: Tensor) -> Tensor:
    """L2 norms ``(N, copies, 4, 3)`` of the differences in four directions, of images ``(N, copies, 3, H, W)``."""
    norms: Tensor = _ChannelNorms.apply(images)
    return norms


class _ChannelNorms(torch.autograd.Function):
    """The norms and their gradient, for all images at once and in place.

    Autograd would keep the differences of all directions, each as large as the batch, and add up padded copies.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        """Norms of the differences; half precision is added up in single."""
        norms = (
            torch.stack(
                [torch.linalg.vector_norm(a - b, dim=(-2, -1), dtype=torch.float32) for a, b in _neighbours(images)],
                dim=2,
            )
            if images.dtype in (torch.float16, torch.bfloat16)
            else torch.stack([torch.linalg.vector_norm(a - b, dim=(-2, -1)) for a, b in _neighbours(images)], dim=2)
        )
        ctx.save_for_backward(images, norms)
        return norms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The gradient of a norm is the differences divided by it; where an image is flat, zero."""
        images, norms = ctx.saved_tensors
        scales = (gradient / norms).masked_fill_(norms == 0, 0)[..., None, None].unbind(2)
        total = torch.zeros_like(images)
        for (a, b), (total_a, total_b), scale in zip(_neighbours(images), _neighbours(total), scales, strict=True):
            differences = (a - b).mul_(scale)
            total_a.add_(differences)
            total_b.sub_(differences)
        return total


def _neighbours(images: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """Views of images ``(..., H, W)``: each pixel that has one, and its neighbour; right, below, diagonally."""
    return (
        (images[..., :, 1:], images[..., :, :-1]),
        (images[..., 1:, :], images[..., :-1, :]),
        (images[..., 1:, 1:], images[..., :-1, :-1]),
        (images[..., 1:, :-1], images[..., :-1, 1:]),
    )
