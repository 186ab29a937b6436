"""The augmented views of a batch of images: what transforms did to them, carried out in a few operations at the end.

Changes of colour and of place are maps with a handful of numbers each. Views compose them, and look at pixels once:
eight copies of an image in eight colours cost one product over the copies, and none over their history.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from operator import truediv
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from captum_vit.probes.grid import Size


@dataclass(frozen=True)
class Warp:
    """Where each view looks: an affine map from the pixels of a frame to those of the images.

    Attributes
    ----------
    matrix
        ``(N, copies, 2, 3)``: from (x, y, 1) in pixels from the frame's centre to (x, y) from the image's centre.
    frame
        (height, width) of the frame in pixels, for each view its own: ``(N, copies, 2)``.
    size
        The frame's size where it is shown as it is.
    mirrored
        Whether what lies outside the image mirrors it; zero otherwise.
    spacing
        Pixels of the images, about as many as there are at most, from one pixel of the frame to the next.
    """

    matrix: Tensor
    frame: Tensor
    size: Size
    mirrored: bool = False
    spacing: float = 1.0


@dataclass(frozen=True)
class Views:
    """Several views of each image of a batch.

    Attributes
    ----------
    images
        The images, ``(N, copies, 3, height, width)``, or ``(N, 1, 3, height, width)`` where all views of an image have
        the same origin.
    copies
        Number of views of each image.
    scale, offset
        Factor and summand of each view and channel, ``(N or 1, copies or 1, 3, 1, 1)``, not yet applied.
    warp
        Where each view looks, not yet applied; it comes before scale and offset.
    input_size
        (height, width) in pixels of what the model sees, where images are larger; None: they are as the model sees
        them, or smaller.
    """

    images: Tensor
    copies: int
    scale: Tensor | None = None
    offset: Tensor | None = None
    warp: Warp | None = None
    input_size: Size | None = None

    @classmethod
    def of(cls, images: Tensor, input_size: Size | None = None) -> Views:
        """Views that are the images ``(N, copies, 3, height, width)`` themselves, for a model that sees such a size."""
        larger = input_size is not None and any(map(int.__gt__, images.shape[-2:], input_size))
        return cls(images, images.shape[1], input_size=input_size if larger else None)

    @property
    def size(self) -> Size:
        """(height, width) in pixels."""
        if self.warp is not None:
            return self.warp.size
        height, width = self.images.shape[-2:]
        return height, width

    def settled(self) -> Views:
        """The same views, with all that was composed carried out."""
        return replace(self, images=self.pixels, scale=None, offset=None, warp=None)

    def repeated(self, times: int) -> Views:
        """Each view so many times, one after the other."""
        if self.copies == 1 and self.warp is None:
            return replace(self, copies=times)  # what there is serves all
        pixels = self.pixels.expand(-1, self.copies, -1, -1, -1)
        return replace(self.settled(), images=pixels.repeat_interleave(times, dim=1), copies=self.copies * times)

    def recoloured(self, scale: Tensor, offset: Tensor) -> Views:
        """``scale * view + offset``, each ``(N or 1, copies or 1, 3, 1, 1)``."""
        if self.scale is None or self.offset is None:
            return replace(self, scale=scale, offset=offset)
        return replace(self, scale=self.scale * scale, offset=torch.addcmul(offset, self.offset, scale))

    def rolled(self, down: Tensor, right: Tensor) -> Views:
        """All views of an image moved by ``(N,)`` pixels; what leaves at one border comes in at the other."""
        if self.warp is not None:
            return self.settled().rolled(down, right)
        rolled: Tensor = _Roll.apply(self.images, down, right)
        return replace(self, images=rolled)

    def padded(self, pixels: int, value: float) -> Views:
        """A frame of so many pixels of one value around each view."""
        plain = self if self.scale is None and self.warp is None else self.settled()
        return replace(plain, images=functional.pad(plain.images, [pixels] * 4, value=value))

    def moved(
        self,
        matrix: Tensor,
        frame: Tensor | None = None,
        *,
        mirrored: bool = False,
        size: Size | None = None,
        spacing: float = 1.0,
    ) -> Views:
        """Look through an affine map.

        Parameters
        ----------
        matrix
            ``(N, copies or 1, 2, 3)``: from (x, y, 1) in the new frame to (x, y) in the present one, in pixels from the
            centre of each.
        frame
            (height, width) of the new frame in pixels, ``(N, copies or 1, 2)``; the present one when not given.
        mirrored
            Whether what lies outside the image mirrors it; zero otherwise.
        size
            (height, width) of the new frame where that is another size for all views; ``frame`` then says nothing.
        spacing
            Pixels of the present frame, about as many as there are at most, from one pixel of the new one to the next.
        """
        if self.scale is not None or (self.warp is not None and self.warp.mirrored != mirrored):
            return self.settled().moved(matrix, frame, mirrored=mirrored, size=size, spacing=spacing)
        matrix = matrix.expand(-1, self.copies, -1, -1)
        if size is not None or (frame is None and self.warp is None):
            frame = matrix.new_empty(*matrix.shape[:2], 2)
            frame[..., 0], frame[..., 1] = size or self.size
        size = size or self.size
        if self.warp is None:
            assert frame is not None
            return replace(self, warp=Warp(matrix, frame, size, mirrored, spacing))
        linear = self.warp.matrix[..., :2]
        both = linear @ matrix
        both[..., 2] += self.warp.matrix[..., 2]
        frame, spacing = self.warp.frame if frame is None else frame, self.warp.spacing * spacing
        return replace(self, warp=Warp(both, frame, size, mirrored, spacing))

    @property
    def frame(self) -> Tensor | None:
        """(height, width) of each view's own frame in pixels, ``(N, copies, 2)``; None where all have one size."""
        return None if self.warp is None else self.warp.frame

    @cached_property
    def pixels(self) -> Tensor:
        """The views, ``(N, copies, 3, height, width)``; with one copy for all where they are alike."""
        return self.at_size(self.size)

    def at_size(self, size: Size) -> Tensor:
        """The views resized to ``(height, width)`` pixels, bilinearly; see :attr:`pixels`."""
        if self.warp is None:
            images = _resized(self.images, size)
        else:
            images = _warped(self.images, self.warp, size, self._looks(size))
        if self.scale is None or self.offset is None:
            return images
        coloured: Tensor = _Recolour.apply(images, self.scale, self.offset)
        return coloured

    def _looks(self, size: Size) -> int:
        """How often, along either axis, the images are looked at for one pixel of a view at a size."""
        assert self.warp is not None
        # As Lucent does, one look where images are of the model's own size, though a frame around them adds to it.
        smaller = 1.0 if self.input_size is None else max(map(truediv, self.warp.size, size))
        return max(1, math.ceil(self.warp.spacing * smaller))


def _resized(images: Tensor, size: Size) -> Tensor:
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    flat = functional.interpolate(images.flatten(0, 1), size=size, mode="bilinear", align_corners=False, antialias=True)
    return flat.reshape(*images.shape[:3], *size)


def _warped(images: Tensor, warp: Warp, size: Size, looks: int) -> Tensor:
    """The views by one interpolation, whatever was composed, at ``looks`` places a pixel and axis.

    A pixel is their mean: where the image is larger than it is shown, a single look would skip what lies between.
    """
    (height, width), (rows, columns) = images.shape[-2:], (side * looks for side in size)
    # From grid_sample's coordinates of the output, in which the frame spans [-1, 1], to those of the image.
    matrix = warp.matrix.clone()
    matrix[..., :2] *= warp.frame.flip(-1)[..., None, :] / 2
    matrix[..., 0, :] *= 2 / width
    matrix[..., 1, :] *= 2 / height
    count, copies = matrix.shape[:2]
    grid = functional.affine_grid(matrix.flatten(0, 1), [count * copies, 3, rows, columns], align_corners=False)
    mode = "reflection" if warp.mirrored else "zeros"
    if images.shape[1] == 1:
        # One image, seen several times: the views below one another are one wide look at it.
        grid = grid.unflatten(0, (count, copies)).flatten(1, 2)
        seen = functional.grid_sample(images[:, 0], grid, align_corners=False, padding_mode=mode)
        return _mean_of(looks, seen).reshape(count, 3, copies, *size).transpose(1, 2)
    seen = functional.grid_sample(images.flatten(0, 1), grid, align_corners=False, padding_mode=mode)
    return _mean_of(looks, seen).reshape(count, copies, 3, *size)


def _mean_of(looks: int, seen: Tensor) -> Tensor:
    return seen if looks == 1 else functional.avg_pool2d(seen, looks)


class _Recolour(torch.autograd.Function):
    """``scale * image + offset`` for each view, whose gradient is added up view by view, without a copy of them all."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        """Images ``(N, copies or 1, 3, H, W)`` with a factor and a summand for each view."""
        ctx.save_for_backward(scale)
        ctx.copies = images.shape[1]
        return torch.addcmul(offset, images, scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the images; that of the colours is never asked for."""
        (scale,) = ctx.saved_tensors
        if ctx.copies == gradient.shape[1]:
            return gradient * scale, None, None
        scale = scale.expand(-1, gradient.shape[1], -1, -1, -1)
        total = gradient[:, 0] * scale[:, 0]
        for copy in range(1, gradient.shape[1]):
            total.addcmul_(gradient[:, copy], scale[:, copy])
        return total[:, None], None, None


class _Roll(torch.autograd.Function):
    """Circular shifts, each image its own; a permutation, whose gradient is the permutation back: nothing is summed."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, down: Tensor, right: Tensor) -> Tensor:
        """Images ``(N, copies, 3, H, W)``, moved by ``(N,)`` pixels down and to the right."""
        ctx.save_for_backward(down, right)
        return _roll(images, down, right)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Moved back."""
        down, right = ctx.saved_tensors
        return _roll(gradient, -down, -right), None, None


def _roll(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    rows = (torch.arange(height, device=images.device) - down[:, None]) % height
    columns = (torch.arange(width, device=images.device) - right[:, None]) % width
    places = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    moved = images.flatten(3).gather(3, places[:, None, None].expand(-1, *images.shape[1:3], -1))
    return moved.reshape(images.shape)
