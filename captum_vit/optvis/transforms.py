"""Augmentations for renders: data that says how views of images are drawn, and carries it out for a whole batch.

Each is also a Lucent transform: called with images ``(B, 3, H, W)`` it gives images, and draws from PyTorch's global
generator as Lucent's own do from theirs; the lower-case names are for Lucent's loop.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from captum_vit.optvis.canvas import whole_pixels
from captum_vit.optvis.randomness import Draws, stream_key
from captum_vit.optvis.views import Views
from captum_vit.probes.grid import Size

# What any other transform is: Lucent's, torchvision's or one's own function, images (B, 3, H, W) in, images out.
Foreign = Callable[[Tensor], Tensor]


class Numbers(Protocol):
    """Random numbers for each image of a batch; see :class:`captum_vit.optvis.randomness.StepDraws`."""

    step: int
    steps: int
    depths: Tensor

    def uniform(self, *shape: int) -> Tensor:
        """In [0, 1), shape ``(N, *shape)``."""
        ...

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, shape ``(N, *shape)``."""
        ...

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """From ``low`` to ``high``, both included, shape ``(N, *shape)``."""
        ...

    def choice(self, values: Sequence[float], *shape: int) -> Tensor:
        """One of the values, all as likely, shape ``(N, *shape)``."""
        ...


class Transform(ABC):
    """An augmentation of all views of a batch of images.

    Attributes
    ----------
    shows_parts
        Whether the model sees parts of an image by it, by which the finished image is then judged.
    """

    shows_parts: ClassVar[bool] = False

    @abstractmethod
    def apply(self, views: Views, draw: Numbers) -> Views:
        """The views, augmented, by numbers that each image draws apart."""

    def __call__(self, images: Tensor) -> Tensor:
        """As in Lucent's loop: images ``(B, 3, H, W)`` in, images out."""
        step, steps = self._pass()
        seed = int(torch.randint(2**31, ()))  # of PyTorch's global generator, which a caller may have seeded
        draws = Draws([stream_key(seed, "transform")], 1, images.device).at(0, 0)
        draws.step, draws.steps = step, steps
        views = self.apply(Views.of(images[None]), draws)
        return views.pixels.expand(-1, views.copies, -1, -1, -1)[0]

    def _pass(self) -> tuple[int, int]:
        """The number of the pass in Lucent's loop, and of how many; for what changes over a render."""
        return 0, 1


@dataclass(frozen=True)
class _Fading(Transform):
    """A transform that changes over a render; in Lucent's loop it counts its calls, so make a new one each time."""

    steps: int | None = field(default=None, kw_only=True)
    _calls: Iterator[int] = field(default_factory=count, init=False, repr=False, compare=False)

    def _pass(self) -> tuple[int, int]:
        return next(self._calls), self.steps or 400

    def _over(self, draw: Numbers) -> int:
        return self.steps or draw.steps


@dataclass(frozen=True)
class Ensemble(Transform):
    """Several views of each image, so that the transforms behind augment every one in its own way.

    Objectives that average over the views then average over the augmentations, as in Ghiasi et al. (2022, arXiv
    2212.06727). Put it first.

    Attributes
    ----------
    copies
        Views of each image; the paper uses 8.
    """

    copies: int = 8

    def apply(self, views: Views, draw: Numbers) -> Views:
        """See :class:`Transform`."""
        return views.repeated(self.copies)


@dataclass(frozen=True)
class ColorShift(Transform):
    """Shift and scale the colours of each view and channel: ``(x - m) / exp(s)``.

    Attributes
    ----------
    mean, log_std
        ``m`` and ``s`` are drawn uniformly from ``[-mean, mean]`` and ``[-log_std, log_std]``; both 1 in the paper.
    """

    mean: float = 1.0
    log_std: float = 1.0

    def apply(self, views: Views, draw: Numbers) -> Views:
        """See :class:`Transform`."""
        shift, log_scale = (draw.uniform(2, views.copies, 3, 1, 1) * 2 - 1).unbind(1)
        scale = torch.exp(log_scale * -self.log_std)
        return views.recoloured(scale, shift * scale * -self.mean)


@dataclass(frozen=True)
class GaussianNoise(_Fading):
    """Add Gaussian noise to the colours, one draw for each view and channel, that fades linearly over a render.

    One draw for a whole channel is what the authors' published code does; it moves colours about and adds no grain.

    Attributes
    ----------
    std
        Strength at the first step, in units of the image at this place of the chain; 0.5 in the paper.
    steps
        Steps after which the noise is gone; those of the render when None (400, the paper's, in Lucent's loop).
    """

    std: float = 0.5

    def apply(self, views: Views, draw: Numbers) -> Views:
        """See :class:`Transform`."""
        remaining = max(0.0, 1 - draw.step / self._over(draw))
        noise = draw.normal(views.copies, 3, 1, 1) * (self.std * remaining)
        return views.recoloured(torch.ones_like(noise), noise)


@dataclass(frozen=True)
class CircularShift(Transform):
    """Move all views of an image by one random offset; what leaves at one border comes in at the other.

    Attributes
    ----------
    pixels
        Largest shift in pixels, either way and along both axes; 32 in the paper.
    """

    pixels: int = 32

    def apply(self, views: Views, draw: Numbers) -> Views:
        """See :class:`Transform`."""
        down, right = draw.integers(-self.pixels, self.pixels, 2).unbind(1)
        return views.rolled(down, right)


@dataclass(frozen=True)
class RelativeShift(Transform):
    """Move as :class:`CircularShift` does, by a share of the image, so that it suits images of any size.

    Attributes
    ----------
    fraction
        Largest shift as a fraction of the image's height and width, either way.
    """

    fraction: float = 0.125

    def apply(self, views: Views, draw: Numbers) -> Views:
        """See :class:`Transform`."""
        down, right = (round(self.fraction * side) for side in views.size)
        return views.rolled(draw.integers(-down, down), draw.integers(-right, right))


@dataclass(frozen=True)
class ShiftByDepth(Transform):
    """Move as :class:`RelativeShift` does, the further the deeper the neuron lies in the model.

    Early neurons answer to fine textures in place, and far shifts cost them more than they gain. Late ones see the
    whole image, and what they answer to should outlast it (docs/render-quality.md). In Lucent's loop, as the last.

    Attributes
    ----------
    first, last
        Largest shift for neurons of the first and the last block, as fractions of the image's height and width; in
        between it grows evenly.
    """

    first: float = 0.125
    last: float = 0.25

    def apply(self, views: Views, draw: Numbers) -> Views:
        """See :class:`Transform`."""
        fractions = self.first + (self.last - self.first) * draw.depths
        largest = [(fractions * side).round() for side in views.size]
        down, right = (((2 * most + 1) * draw.uniform()).floor() - most for most in largest)
        return views.rolled(down.long(), right.long())


@dataclass(frozen=True)
class PixelNoise(Transform):
    """Add Gaussian noise to every pixel of every view.

    Attributes
    ----------
    std
        Strength in units of the image at this place of the chain.
    """

    std: float = 0.08

    def apply(self, views: Views, draw: Numbers) -> Views:
        """See :class:`Transform`."""
        plain = views.settled()
        noise = draw.normal(views.copies, *plain.images.shape[2:]) * self.std
        return replace(plain, images=plain.images + noise)


@dataclass(frozen=True)
class RandomCrops(_Fading):
    """Random crops of each view, at the size that the model sees (Fel et al. 2023, arXiv 2306.06805).

    They are taken from a canvas of any size by one interpolation; where they are shown smaller than they are, a pixel
    is the mean of several. Crops have the shape of the view, and stay inside it.

    Attributes
    ----------
    crops
        Crops of each view.
    sides
        Mean side of the crops at the first and the last step, as a fraction of the view's.
    steps
        Steps over which the side changes linearly; those of the render when None (400 in Lucent's loop).
    spread
        Standard deviation of the side around its mean.
    size
        (height, width) of what comes out, or a side, in pixels; what the model sees when None, which in Lucent's loop
        is taken to be the view's own size.
    """

    shows_parts = True

    crops: int = 8
    sides: tuple[float, float] = (0.5, 0.25)
    spread: float = field(default=0.05, kw_only=True)
    size: int | Size | None = field(default=None, kw_only=True)

    def apply(self, views: Views, draw: Numbers) -> Views:
        """See :class:`Transform`."""
        progress = min(1.0, draw.step / max(1, self._over(draw) - 1))
        mean = self.sides[0] + (self.sides[1] - self.sides[0]) * progress
        views = views.repeated(self.crops)
        draws = draw.normal(3, views.copies)
        side = (mean + self.spread * draws[:, 0]).clamp(0.05, 1.0)
        # Centres in halves of the view's sides; crops stay inside the view.
        centres = torch.minimum(torch.maximum(0.3 * draws[:, 1:], side[:, None] - 1), 1 - side[:, None])
        height, width = views.size
        right, down = centres[:, 0] * (width / 2), centres[:, 1] * (height / 2)
        size = views.input_size or views.size if self.size is None else whole_pixels("size", self.size)
        below, beside = height / size[0], width / size[1]
        matrix = _affine(side * beside, 0, right, 0, side * below, down)
        largest = min(1.0, max(0.05, mean + 3 * self.spread))  # all but one in seven hundred
        return views.moved(matrix, mirrored=True, size=size, spacing=largest * max(below, beside))


@dataclass(frozen=True)
class Pad(Transform):
    """A frame around each view; ``pad(12, mode="constant", constant_value=0.5)`` of Lucent's standard transforms.

    Attributes
    ----------
    pixels
        Its width in pixels.
    value
        Its colour.
    """

    pixels: int = 12
    value: float = 0.5

    def apply(self, views: Views, draw: Numbers) -> Views:
        """See :class:`Transform`."""
        return views.padded(self.pixels, self.value)


@dataclass(frozen=True)
class Jitter(Transform):
    """Move each view down and to the right, black coming in; Lucent's ``jitter``.

    Attributes
    ----------
    pixels
        The shift is drawn from 0 … ``pixels - 1``, along either axis.
    """

    pixels: int = 8

    def apply(self, views: Views, draw: Numbers) -> Views:
        """See :class:`Transform`."""
        right, down = draw.integers(0, self.pixels - 1, views.copies, 2).float().neg().unbind(-1)
        return views.moved(_affine(1, 0, right, 0, 1, down))


@dataclass(frozen=True)
class RandomScale(Transform):
    """Magnify each view by a factor drawn from several; Lucent's ``random_scale``.

    A view that becomes smaller gets a black frame, as in Lucent.

    Attributes
    ----------
    scales
        The factors.
    """

    scales: tuple[float, ...] = tuple(1 + (i - 5) / 50 for i in range(11))

    def apply(self, views: Views, draw: Numbers) -> Views:
        """See :class:`Transform`."""
        factor = draw.choice(self.scales, views.copies)
        height, width = views.size if views.frame is None else views.frame.unbind(-1)
        down, across = (factor * height).ceil(), (factor * width).ceil()
        frame = torch.stack(
            [side + 2 * ((old - side) / 2).ceil().clamp(min=0) for old, side in ((height, down), (width, across))],
            dim=-1,
        )
        # The corners of one lie on those of the other (Lucent upsamples with align_corners=True).
        return views.moved(_affine((width - 1) / (across - 1), 0, 0, 0, (height - 1) / (down - 1), 0), frame)


@dataclass(frozen=True)
class RandomRotate(Transform):
    """Turn each view about its centre by an angle drawn from several, black coming in; Lucent's ``random_rotate``.

    Attributes
    ----------
    degrees
        The angles, anticlockwise.
    """

    degrees: tuple[float, ...] = (*range(-10, 11), 0, 0, 0, 0, 0)

    def apply(self, views: Views, draw: Numbers) -> Views:
        """See :class:`Transform`."""
        angle = draw.choice(self.degrees, views.copies) * (math.pi / 180)
        cos, sin = angle.cos(), angle.sin()
        return views.moved(_affine(cos, -sin, 0, sin, cos, 0))


# With the distributions of Lucent's own, which interpolates three times where these do once, and cuts off at each what
# leaves the frame.
LUCENTS_STANDARD = (Pad(), Jitter(8), RandomScale(), RandomRotate(), Jitter(4))


def _affine(*entries: Tensor | float) -> Tensor:
    """Matrices ``(N, copies, 2, 3)`` of entries row by row, each a number or ``(N, copies)``."""
    like = next(entry for entry in entries if isinstance(entry, Tensor))
    zero = torch.zeros_like(like)
    columns = [entry if isinstance(entry, Tensor) else zero + entry for entry in entries]
    return torch.stack(columns, dim=-1).reshape(*like.shape, 2, 3)


ensemble = Ensemble
color_shift = ColorShift
circular_shift = CircularShift
relative_shift = RelativeShift
shift_by_depth = ShiftByDepth
pixel_noise = PixelNoise


def gaussian_noise(std: float = 0.5, steps: int = 400) -> GaussianNoise:
    """:class:`GaussianNoise` that fades over so many passes of Lucent's loop."""
    return GaussianNoise(std=std, steps=steps)


def random_crops(
    crops: int = 8, sides: tuple[float, float] = (0.5, 0.25), steps: int = 256, size: int | Size | None = None
) -> RandomCrops:
    """:class:`RandomCrops` whose sides change over so many passes of Lucent's loop, at a size in pixels."""
    return RandomCrops(crops=crops, sides=sides, steps=steps, size=size)
