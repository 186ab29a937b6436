"""Low-pass and high-pass filters of images in the Fourier domain, and the share of energy that they keep."""

from __future__ import annotations

import torch
from torch import Tensor


def radius_of_frequencies(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """How far each frequency of :func:`torch.fft.fft2` lies from the mean, in cycles per shorter side, ``(H, W)``."""
    short = min(height, width)
    rows, columns = (torch.fft.fftfreq(side, device=device) * short for side in (height, width))
    return torch.hypot(rows[:, None], columns[None, :])


def low_pass(pixels: Tensor, radius: float) -> Tensor:
    """What is left of images without frequencies beyond a radius.

    Parameters
    ----------
    pixels
        Images, ``(..., H, W)``.
    radius
        The highest frequency that stays, in cycles per shorter side; from half the diagonal's on, all do.

    Returns
    -------
    Tensor
        The same shape, in float32. Values may leave [0, 1], as the filter rings at sharp edges; nothing is clipped,
        so that what two filters leave adds up to the image.
    """
    pixels = pixels.float()
    height, width = pixels.shape[-2:]
    inside = radius_of_frequencies(height, width, pixels.device) <= radius + 1e-4  # which rounding may add
    filtered: Tensor = torch.fft.ifft2(torch.fft.fft2(pixels) * inside).real
    return filtered


def high_pass(pixels: Tensor, radius: float) -> Tensor:
    """What is left of images without frequencies up to a radius, but for each channel's mean.

    Parameters and result are those of :func:`low_pass`. The mean stays, as an image around black is not only without
    its low frequencies but of a brightness that no photo has.
    """
    pixels = pixels.float()
    return pixels - low_pass(pixels, radius) + pixels.mean((-2, -1), keepdim=True)


def energy_kept(filtered: Tensor, pixels: Tensor) -> Tensor:
    """The share of an image's variance that is left in a filtered one, ``(B,)``, in [0, 1].

    By Parseval's theorem it is the share of the squared amplitudes of all frequencies but the mean. An image of one
    colour has no variance to lose; of it, all is kept.
    """
    kept, whole = (
        (images.float() - images.float().mean((-2, -1), keepdim=True)).square().sum((-3, -2, -1))
        for images in (filtered, pixels)
    )
    # Rounding leaves a little variance in an image of one colour.
    flat = whole <= 1e-9 * pixels[0].numel()
    return torch.where(flat, torch.ones_like(whole), kept / whole.clamp_min(1e-30))
