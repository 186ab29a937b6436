"""Contact sheets: images of one size in rows on white, each with its address where that fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

# Sizes of letters in pixels, of which the largest is taken that fits under the images.
_LETTERS = (14, 12, 11, 10, 9, 8, 7)


def tiled(
    images: Sequence[NDArray[Any]] | NDArray[Any], columns: int | None = None, gap: int = 4, white: int = 1
) -> NDArray[Any]:
    """Images ``(H, W, 3)`` of one size in rows on white; about a square when no number of columns is given."""
    count, (height, width, _) = len(images), images[0].shape
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), white, dtype=images[0].dtype)
    for index, image in enumerate(images):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def labelled(images: Sequence[NDArray[np.uint8]], names: Sequence[str], columns: int | None = None) -> Image.Image:
    """A contact sheet of images ``(H, W, 3)`` in 0 … 255 with a name under each, if the names fit."""
    height, width = images[0].shape[:2]
    font = _font(names, width)
    if font is None:
        return Image.fromarray(tiled(images, columns, white=255))
    below = math.ceil(font.getbbox("Ay,:")[3]) + 2
    framed = [np.pad(image, ((0, below), (0, 0), (0, 0)), constant_values=255) for image in images]
    sheet = Image.fromarray(tiled(framed, columns, white=255))
    draw, across = ImageDraw.Draw(sheet), (sheet.width + 4) // (width + 4)
    for index, name in enumerate(names):
        top, left = (index // across) * (height + below + 4), (index % across) * (width + 4)
        draw.text((left, top + height), name, fill="black", font=font)
    return sheet


def _font(names: Sequence[str], width: int) -> ImageFont.FreeTypeFont | None:
    """The largest letters in which all names fit; None if there are none, or this Pillow was built without letters."""
    for size in _LETTERS:
        try:
            font = ImageFont.load_default(size)
        except ImportError:  # built without FreeType
            return None
        if isinstance(font, ImageFont.FreeTypeFont) and max(map(font.getlength, names)) <= width:
            return font
    return None
