"""How an optimized image is written as parameters: pixels, Fourier coefficients, or phases under fixed magnitudes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from captum_vit.data.images import read_image
from captum_vit.probes.grid import Size

# Lucid's colour correlation of ImageNet's pixels, scaled to unit largest norm, as Lucent has it.
_COLOR = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_COLOR = _COLOR / _COLOR.norm(dim=0).max()


class Parametrization(Protocol):
    """Parameters of images and the map from them to pixels; all images of a batch apart."""

    def start(self, size: Size) -> Tensor:
        """Random first parameters of one image of ``(height, width)`` pixels, from the global generators."""
        ...

    def images(self, parameters: Tensor, size: Size) -> Tensor:
        """Images ``(N, 3, height, width)`` in [0, 1] of the parameters ``(N, ...)``."""
        ...

    def project(self, parameters: Tensor) -> None:
        """Bring the parameters back to where they are valid, in place, after a step of the optimizer."""
        ...


@dataclass(frozen=True)
class Pixels:
    """The pixels themselves, uniform in [0, 1] at first and clamped to it after each step (Ghiasi et al. 2022)."""

    def start(self, size: Size) -> Tensor:
        """See :class:`Parametrization`."""
        return torch.rand(3, *size)

    def images(self, parameters: Tensor, size: Size) -> Tensor:
        """See :class:`Parametrization`."""
        return parameters

    def project(self, parameters: Tensor) -> None:
        """Clamp to [0, 1]."""
        parameters.clamp_(0, 1)


@dataclass(frozen=True)
class Fourier:
    """Fourier coefficients, scaled by inverse frequency, of decorrelated colours behind a sigmoid (Olah et al. 2017).

    Parameters
    ----------
    sd
        Standard deviation of the first coefficients.
    decay
        Power of the frequency by which coefficients are scaled down.
    """

    sd: float = 0.01
    decay: float = 1.0

    def start(self, size: Size) -> Tensor:
        """See :class:`Parametrization`."""
        height, width = size
        return torch.randn(3, height, width // 2 + 1, 2) * self.sd

    def images(self, parameters: Tensor, size: Size) -> Tensor:
        """See :class:`Parametrization`."""
        scale = 1 / _frequencies(size).clamp(min=1 / max(size)) ** self.decay
        spectrum = torch.view_as_complex(parameters) * scale.to(parameters)
        # Lucid's divisor: the smaller the values that reach the sigmoid, the less saturated the colours.
        return torch.sigmoid(_correlate(torch.fft.irfft2(spectrum, s=size, norm="ortho") / 4))

    def project(self, parameters: Tensor) -> None:
        """Every coefficient is valid."""


@dataclass(frozen=True)
class Phases:
    """Phases under the magnitudes of natural photos (MaCo; Fel et al. 2023, arXiv 2306.06805, equation 3).

    Only the phases are optimized, so no image of this parametrization has more of a frequency than photos have.

    Parameters
    ----------
    photos
        Photos whose mean magnitude spectrum is taken; the package's own when none are given.
    """

    photos: tuple[Path, ...] = ()

    def start(self, size: Size) -> Tensor:
        """See :class:`Parametrization`."""
        height, width = size
        return (torch.rand(3, height, width // 2 + 1) * 2 - 1) * math.pi

    def images(self, parameters: Tensor, size: Size) -> Tensor:
        """See :class:`Parametrization`."""
        magnitudes = _magnitudes(self.photos, size).to(parameters)
        spectrum = torch.polar(magnitudes.expand_as(parameters), parameters)
        return torch.sigmoid(_correlate(torch.fft.irfft2(spectrum, s=size, norm="ortho")))

    def project(self, parameters: Tensor) -> None:
        """Every phase is valid."""


def _frequencies(size: Size) -> Tensor:
    height, width = size
    return torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])


def _correlate(images: Tensor) -> Tensor:
    return torch.einsum("ij,njhw->nihw", _COLOR.to(images), images)


_spectra: dict[tuple[tuple[Path, ...], Size], Tensor] = {}


def _magnitudes(photos: Sequence[Path], size: Size) -> Tensor:
    """Mean magnitude spectrum ``(3, height, width // 2 + 1)`` of photos, in the space of :class:`Fourier`."""
    from captum_vit.models import default_photos

    paths = tuple(photos) or default_photos()
    if (paths, size) not in _spectra:
        magnitudes = []
        for path in paths:
            pixels = torch.from_numpy(np.ascontiguousarray(read_image(path))).float().permute(2, 0, 1)[None]
            pixels = functional.interpolate(pixels, size=size, mode="bilinear", antialias=True)
            decorrelated = torch.einsum("ij,njhw->nihw", torch.linalg.inv(_COLOR), torch.logit(pixels, eps=0.02))
            magnitudes.append(torch.fft.rfft2(decorrelated, norm="ortho")[0].abs())
        _spectra[paths, size] = torch.stack(magnitudes).mean(dim=0)
    return _spectra[paths, size]
