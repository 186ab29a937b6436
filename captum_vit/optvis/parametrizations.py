"""How an optimized image is written as parameters: pixels, Fourier coefficients, or phases under fixed magnitudes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from captum_vit.data.images import read_image
from captum_vit.optvis.randomness import StepDraws
from captum_vit.probes.grid import Size

# Lucid's colour correlation of ImageNet's pixels, scaled to unit largest norm, as Lucent has it.
_COLOR = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_COLOR /= np.linalg.norm(_COLOR, axis=0).max()

# Of pixels, what a sigmoid can reach.
_DARKEST = 0.02

# Side in pixels up to which photos fill an image.
_LARGEST = 256

# From parameters (N, ...) to images (N, 3, height, width) in [0, 1].
Decoder = Callable[[Tensor], Tensor]


class Parametrization(Protocol):
    """Parameters of images and the map from them to pixels; all images of a batch apart."""

    def start(self, size: Size, draw: StepDraws) -> Tensor:
        """Random first parameters ``(N, ...)`` of images of ``(height, width)`` pixels."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Parameters of images ``(N, 3, H, W)`` in [0, 1], as near to them as they can be written."""
        ...

    def decoder(self, size: Size, device: torch.device) -> Decoder:
        """The map to images of ``(height, width)`` pixels, which keeps what it needs on the device."""
        ...

    def project(self, parameters: Tensor) -> None:
        """Bring the parameters back to where they are valid, in place, after a step of the optimizer."""
        ...


@dataclass(frozen=True)
class Pixels:
    """The pixels themselves, uniform in [0, 1] at first and clamped to it after each step (Ghiasi et al. 2022)."""

    def start(self, size: Size, draw: StepDraws) -> Tensor:
        """See :class:`Parametrization`."""
        return draw.uniform(3, *size)

    def encode(self, images: Tensor) -> Tensor:
        """The images themselves."""
        return images.clone()

    def decoder(self, size: Size, device: torch.device) -> Decoder:
        """See :class:`Parametrization`."""
        return lambda parameters: parameters

    def project(self, parameters: Tensor) -> None:
        """Clamp to [0, 1]."""
        parameters.clamp_(0, 1)


@dataclass(frozen=True)
class Fourier:
    """Fourier coefficients, scaled by inverse frequency, of decorrelated colours behind a sigmoid (Olah et al. 2017).

    Attributes
    ----------
    sd
        Standard deviation of the first coefficients.
    decay
        Power of the frequency by which coefficients are scaled down.
    """

    sd: float = 0.01
    decay: float = 1.0

    def start(self, size: Size, draw: StepDraws) -> Tensor:
        """See :class:`Parametrization`."""
        height, width = size
        return draw.normal(3, height, width // 2 + 1, 2) * self.sd

    def encode(self, images: Tensor) -> Tensor:
        """Exact but for black and white, which no sigmoid reaches."""
        height, width = images.shape[-2:]
        return torch.view_as_real(_spectrum(images)) / self._factors((height, width), images.device)

    def decoder(self, size: Size, device: torch.device) -> Decoder:
        """See :class:`Parametrization`."""
        factors, colors = self._factors(size, device), _color_matrix(device)

        def decode(parameters: Tensor) -> Tensor:
            spectrum = torch.view_as_complex(parameters * factors)
            return _correlated(torch.fft.irfft2(spectrum, s=size, norm="ortho"), colors)

        return decode

    def _factors(self, size: Size, device: torch.device) -> Tensor:
        height, width = size
        frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
        # Lucid's divisor of 4: the smaller the values that reach the sigmoid, the less saturated the colours.
        scale = np.maximum(frequencies, 1 / max(size)) ** -self.decay / 4
        return torch.tensor(np.stack((scale, scale), axis=-1), dtype=torch.float32, device=device)

    def project(self, parameters: Tensor) -> None:
        """Every coefficient is valid."""


@dataclass(frozen=True)
class Phases:
    """Phases under the magnitudes of natural photos (MaCo; Fel et al. 2023, arXiv 2306.06805, equation 3).

    Only the phases are optimized, so no image of this parametrization has more of a frequency than photos have.

    Attributes
    ----------
    photos
        Photos whose mean magnitude spectrum is taken; the package's own when none are given.
    spread
        Standard deviation to which the phases of an image are brought whenever they are used, 1 in the authors' code:
        the further the parameters have moved, the less a step of the optimizer turns a phase. None: phases are the
        parameters as they are.
    """

    photos: tuple[Path, ...] = ()
    spread: float | None = None

    def start(self, size: Size, draw: StepDraws) -> Tensor:
        """See :class:`Parametrization`."""
        height, width = size
        if self.spread is not None:
            return draw.normal(3, height, width // 2 + 1)
        return (draw.uniform(3, height, width // 2 + 1) * 2 - 1) * math.pi

    def encode(self, images: Tensor) -> Tensor:
        """Their phases; the magnitudes are photos' all the same."""
        return torch.angle(_spectrum(images))

    def decoder(self, size: Size, device: torch.device) -> Decoder:
        """See :class:`Parametrization`."""
        from captum_vit.models import default_photos

        spectrum = _magnitudes(tuple(self.photos) or default_photos(), size)
        magnitudes = torch.tensor(spectrum, dtype=torch.float32, device=device)
        colors = _color_matrix(device)

        def decode(parameters: Tensor) -> Tensor:
            if self.spread is not None:
                spread, mean = torch.std_mean(parameters, dim=(1, 2, 3), keepdim=True)
                parameters = (parameters - mean) * (self.spread / (spread + 1e-5))
            spectrum = torch.polar(magnitudes.expand_as(parameters), parameters)
            return _correlated(torch.fft.irfft2(spectrum, s=size, norm="ortho"), colors)

        return decode

    def project(self, parameters: Tensor) -> None:
        """Every phase is valid."""


def _spectrum(images: Tensor) -> Tensor:
    """Fourier coefficients of the decorrelated colours of images ``(N, 3, H, W)`` in [0, 1]."""
    colors = torch.linalg.inv(_color_matrix(images.device).double())
    logits = torch.logit(images.double().clamp(_DARKEST, 1 - _DARKEST))
    decorrelated = (colors @ logits.flatten(2)).reshape(logits.shape)
    spectrum: Tensor = torch.fft.rfft2(decorrelated, norm="ortho")
    return spectrum.to(torch.complex64)


def _color_matrix(device: torch.device) -> Tensor:
    return torch.tensor(_COLOR, dtype=torch.float32, device=device)


def _correlated(images: Tensor, colors: Tensor) -> Tensor:
    """Decorrelated colours ``(N, 3, H, W)`` as pixels in [0, 1]."""
    return torch.sigmoid(colors @ images.flatten(2)).reshape(images.shape)


def _magnitudes(photos: Sequence[Path], size: Size) -> NDArray[np.float64]:
    """Mean magnitude spectrum ``(3, height, width // 2 + 1)`` of photos, in the space of :class:`Fourier`.

    Photos have no detail to fill a large canvas with. Its spectrum is that of a smaller one, stretched: an image that
    shows more of the world has the same amount of each frequency (in cycles a pixel).
    """
    height, width = (min(side, _LARGEST) for side in size)
    return _stretched(_mean_magnitudes(photos, (height, width)), (height, width), size)


@lru_cache(maxsize=8)
def _mean_magnitudes(photos: Sequence[Path], size: Size) -> NDArray[np.float64]:
    """Mean magnitude spectrum of photos, resized."""
    height, width = size
    total = np.zeros((3, height, width // 2 + 1))
    for photo in photos:
        channels: list[Any] = [
            Image.fromarray(np.ascontiguousarray(channel)).resize((width, height), Image.Resampling.BILINEAR)
            for channel in read_image(photo).transpose(2, 0, 1)
        ]
        pixels = np.stack(channels).astype(np.float64).clip(_DARKEST, 1 - _DARKEST)
        decorrelated = np.einsum("ij,jhw->ihw", np.linalg.inv(_COLOR), np.log(pixels / (1 - pixels)))
        total += np.abs(np.fft.rfft2(decorrelated, norm="ortho"))
    return total / len(photos)


def _stretched(spectrum: NDArray[np.float64], small: Size, large: Size) -> NDArray[np.float64]:
    """A spectrum ``(3, height, width // 2 + 1)`` of images of one size as that of larger ones."""
    if small == large:
        return spectrum
    frequencies = [
        (np.fft.fftshift(np.fft.fftfreq(height)), np.fft.rfftfreq(width)) for height, width in (small, large)
    ]
    rows, columns = (
        np.stack([np.interp(there, here, each) for each in np.eye(len(here))], axis=1)
        for here, there in zip(*frequencies, strict=True)
    )
    # The mean colour is no frequency: none of it goes into the first ones, and it grows with the number of pixels.
    means = spectrum[:, 0, 0] * math.sqrt(math.prod(large) / math.prod(small))
    spectrum = spectrum.copy()
    spectrum[:, 0, 0] = (spectrum[:, 0, 1] + spectrum[:, 1, 0]) / 2
    stretched = np.fft.ifftshift(rows @ np.fft.fftshift(spectrum, axes=1) @ columns.T, axes=1)
    stretched[:, 0, 0] = means
    return stretched
