"""How fine the structure of images is: the mean frequency of their power, and the width of their correlation."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_vit.studies.spectrum import radius_of_frequencies

# The slowest wave of all, one cycle across the image, is half correlated at 0.242 of it.
_FARTHEST, _DISTANCES = 0.25, 1024
# Radii that count as one, in cycles: of a large image there are a hundred thousand different ones.
_APART = 1 / 16


def mean_frequency(images: Tensor) -> Tensor:
    """Mean spatial frequency of images, weighted by power.

    Parameters
    ----------
    images
        Shape ``(N, C, H, W)``. They count as going on around their borders.

    Returns
    -------
    Tensor
        Cycles per shorter side, ``(N,)``; larger is finer. NaN for an image of one colour.
    """
    radius, power = _power(images)
    return power @ radius / power.sum(1)


def correlation_width(images: Tensor) -> Tensor:
    """How far from one another two places of an image are correlated by a half, on average over all directions.

    By the theorem of Wiener and Khinchin, the correlation at a distance is the mean of the Bessel function J0 over the
    frequencies, weighted by power. A wave of a single frequency is half correlated at 0.242 of its length, and noise
    within a pixel.

    Parameters
    ----------
    images
        Shape ``(N, C, H, W)``. They count as going on around their borders.

    Returns
    -------
    Tensor
        The smallest such distance, as a share of the shorter side, ``(N,)``; smaller is finer. NaN for an image of one
        colour.
    """
    radius, power = _power(images)
    radii, places = (radius / _APART).round().unique(return_inverse=True)
    radii, power = radii * _APART, power.new_zeros(len(power), len(radii)).index_add_(1, places, power)
    distances = torch.linspace(0, _FARTHEST, _DISTANCES, dtype=radii.dtype)
    waves = torch.special.bessel_j0(2 * torch.pi * radii[:, None] * distances)
    correlation = power @ waves / power.sum(1, keepdim=True)
    first = (correlation < 0.5).int().argmax(1, keepdim=True).clamp_min(1)
    above, below = correlation.gather(1, first - 1), correlation.gather(1, first)
    part = (above - 0.5) / (above - below)  # of the way from one distance to the next
    width: Tensor = ((first - 1 + part) * distances[1]).squeeze(1)
    return width


def _power(images: Tensor) -> tuple[Tensor, Tensor]:
    """How far all frequencies are from the mean, ``(F,)``, and the power of images at each, ``(N, F)``.

    The power is that of all channels, so that colours of one brightness count too; at the mean there is none.
    """
    pixels = images.detach().cpu().double()
    pixels = pixels - pixels.mean((-2, -1), keepdim=True)
    # Rounding leaves a little variance in an image of one colour.
    pixels = pixels * (pixels.abs().amax((1, 2, 3), keepdim=True) > 1e-6)
    power = torch.fft.fft2(pixels).abs().square().sum(1).flatten(1)
    return radius_of_frequencies(*images.shape[-2:]).double().flatten(), power
