"""Grey of more than 8 bits a pixel: what is white in it, and what is no picture at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captum_vit.data.tiff import is_negative
from captum_vit.errors import ImageError

# What is white, where the format does not say: the one that the largest value comes near to.
_WHITES = (1.0, 255.0, 65535.0)
_NEAR = 1 / 16  # of white, for all but the smallest: of less than that, nobody knows what is meant
_OVERSHOOT = 0.1  # of white, beyond it or below black, is what resampling adds; it is clipped

# These say that white is 65535, whatever Pillow's release makes of their 16 bits.
_WHITE_IS_KNOWN = ("PNG", "PPM", "JPEG2000")


def is_deep(image: Image.Image) -> bool:
    """Whether a pixel is a number of 16 bits or more."""
    return image.mode.startswith("I") or image.mode == "F"


class Levels(NamedTuple):
    """From the values of a deep image to levels of grey.

    Attributes
    ----------
    white
        The value that is white; of a negative, black.
    negative
        Whether 0 is white.
    """

    white: float
    negative: bool

    @classmethod
    def of(cls, image: Image.Image, strips: Iterable[Image.Image]) -> Levels:
        """Those of an image: 65535 is white of 16 bits; of 32 bits or floating point, 1, 255 or 65535, as it looks.

        Parameters
        ----------
        image
            The image.
        strips
            Parts that make up the image, to be looked at one after another.

        Raises
        ------
        ImageError
            Pixels are NaN or infinite, or the values fit none of these.
        """
        least, largest, broken = np.inf, -np.inf, 0
        for strip in strips:
            values = np.asarray(strip)
            broken += values.size - int(np.isfinite(values).sum())
            least, largest = min(least, float(values.min())), max(largest, float(values.max()))
        if broken:
            raise ImageError(f"{broken} of its pixels are NaN or infinite")
        return cls(_white(image, least, largest), is_negative(image))

    def __call__(self, strip: Image.Image) -> NDArray[np.float32]:
        """Levels in [0, 1] of a part of the image, ``(height, width)``."""
        levels = np.clip(np.asarray(strip, dtype=np.float64) / self.white, 0, 1)
        return (1 - levels if self.negative else levels).astype(np.float32)


def _white(image: Image.Image, least: float, largest: float) -> float:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _WHITE_IS_KNOWN):
        if image.format == "TIFF" and 0 < largest < 256:
            raise ImageError(
                f"its values of 16 bits go up to {largest:g}, which is black where 65535 is white; save it in 8 bits"
            )
        return _WHITES[-1]
    for white in _WHITES:
        darkest = 0.0 if white == _WHITES[0] else _NEAR * white
        if darkest <= largest <= (1 + _OVERSHOOT) * white and least >= -_OVERSHOOT * white:
            return white
    raise ImageError(
        f"its values go from {least:g} to {largest:g}, in none of the ranges of grey: 0 to 1, 0 to 255, 0 to 65535; "
        "scale it to one of them"
    )
