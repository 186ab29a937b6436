"""Sheets of tiles: images of one size in rows in one WebP file, the same bytes for the same pixels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from captum_vit.optvis.sheet import tiled
from captum_vit.probes.grid import Size
from captum_vit.storage.files import replacing

# Of WebP's encoder: how long it looks for a smaller file, 0 to 6.
_METHOD = 6


def as_tile(image: NDArray[np.float32], size: Size) -> NDArray[np.uint8]:
    """Pixels in [0, 1], ``(H, W, 3)``, as a tile of a size, ``(height, width, 3)`` in 0 … 255."""
    pixels = Image.fromarray((np.nan_to_num(image).clip(0, 1) * 255).round().astype(np.uint8))
    if pixels.size != (size[1], size[0]):
        pixels = pixels.resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return np.asarray(pixels)


def write_sheet(path: Path, tiles: Sequence[NDArray[np.uint8]], columns: int, quality: int) -> None:
    """Write tiles ``(height, width, 3)``, row by row without gaps; a place that is left over is white.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    encoded = io.BytesIO()
    sheet = Image.fromarray(tiled(tiles, columns, gap=0, white=255))
    sheet.save(encoded, "WEBP", quality=quality, method=_METHOD)
    with replacing(path) as partial:
        partial.write_bytes(encoded.getvalue())


def read_tile(path: Path, tile: int, columns: int, size: Size) -> NDArray[np.uint8]:
    """One tile of a sheet with so many in a row, ``(height, width, 3)``.

    Raises
    ------
    OSError
        The file is missing, or no picture.
    """
    row, column = divmod(tile, columns)
    height, width = size
    with Image.open(path) as sheet:
        box = (column * width, row * height, (column + 1) * width, (row + 1) * height)
        return np.asarray(sheet.convert("RGB").crop(box))
