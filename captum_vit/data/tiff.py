"""What TIFF files say of their values and Pillow passes over."""

from __future__ import annotations

from typing import Any

from PIL import Image

from captum_vit.errors import ImageError

_PHOTOMETRIC, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 262, 338, 339
_WHITE_IS_ZERO, _SIGNED = 0, 2


def check_bands(image: Image.Image) -> None:
    """Make sure that the bands are those of the image's mode, if it is of a TIFF file.

    Raises
    ------
    ImageError
        There is a fourth band that may be infrared as well as opacity, or 8-bit values are signed.
    """
    if image.format != "TIFF":
        return
    if image.mode == "RGBA" and _tag(image, _EXTRA_SAMPLES) is None:
        raise ImageError("it has four bands and does not say what the fourth is; save the three that are a photo")
    if image.mode == "L" and _tag(image, _SAMPLE_FORMAT) == _SIGNED:
        raise ImageError("its values are signed 8-bit numbers; save them as unsigned ones")


def is_negative(image: Image.Image) -> bool:
    """Whether 0 is white in a deep TIFF file; Pillow inverts the others itself."""
    return image.format == "TIFF" and _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO


def _tag(image: Image.Image, number: int) -> Any:
    value = getattr(image, "tag_v2", {}).get(number)
    return value[0] if isinstance(value, tuple) and value else value
