"""Reading photos from files as upright RGB, whatever their mode, and finding them in folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from captum_vit.errors import ImageError


def open_rgb(path: str | Path) -> Image.Image:
    """Open an image file as RGB in 8 bits, as models' own transforms take it.

    Rotated as its EXIF tag says; grey becomes RGB, palettes and CMYK are converted, 16-bit values are scaled and not
    clipped, and transparent pixels are laid over white.

    Parameters
    ----------
    path
        Any format that Pillow reads.

    Raises
    ------
    ImageError
        The file is missing, empty, truncated or not an image.
    """
    return _read(path, _rgb)


def read_image(path: str | Path) -> NDArray[np.float32]:
    """Read an image file as RGB, as :func:`open_rgb` does, without rounding 16-bit and half transparent pixels.

    Parameters
    ----------
    path
        Any format that Pillow reads.

    Returns
    -------
    ndarray
        Pixels in [0, 1], shape ``(height, width, 3)``, float32.

    Raises
    ------
    ImageError
        The file is missing, empty, truncated or not an image.
    """
    return _read(path, _pixels)


def from_pixels(pixels: NDArray[np.floating[Any]]) -> Image.Image:
    """Pixels in [0, 1], shape ``(height, width, 3)`` or ``(height, width)``, as an image in 8 bits."""
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


T = TypeVar("T")


def _read(path: str | Path, convert: Callable[[Image.Image], T]) -> T:
    """What ``convert`` makes of an image that is upright and in memory."""
    try:
        with Image.open(path) as image:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return convert(image)
    except UnidentifiedImageError as error:
        reason = "it is not in a format that Pillow knows" if Path(path).stat().st_size else "it is empty"
        raise ImageError(f"{path} cannot be read as an image: {reason}") from error
    except OSError as error:
        raise ImageError(f"{path} cannot be read as an image: {error.strerror or error}") from error
    # Pillow's decoders raise whatever they stumble over: SyntaxError, struct.error, zlib.error, EOFError ...
    except Exception as error:
        raise ImageError(f"{path} cannot be read as an image: {error}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if _is_deep(image):
        return from_pixels(_grey(image)).convert("RGB")
    if _is_transparent(image):
        rgba = image.convert("RGBA")
        opaque = Image.new("RGB", image.size, "white")
        opaque.paste(rgba, mask=rgba)
        return opaque
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def _pixels(image: Image.Image) -> NDArray[np.float32]:
    if _is_deep(image):
        return np.repeat(_grey(image)[..., None], 3, axis=2)
    if _is_transparent(image):
        rgba = np.asarray(image.convert("RGBA"), dtype=np.float64) / 255
        opacity = rgba[..., 3:]
        return (rgba[..., :3] * opacity + (1 - opacity)).astype(np.float32)
    pixels = np.asarray(_rgb(image)).astype(np.float32)
    pixels /= 255
    return pixels


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _is_transparent(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def _grey(image: Image.Image) -> NDArray[np.float32]:
    """Values in [0, 1] of an image with more than 8 bits a pixel, ``(height, width)``."""
    values = np.asarray(image, dtype=np.float64)
    # Pillow opens 16-bit grey as "I;16" or, from PNG in older releases, as "I".
    largest = 1.0 if image.mode == "F" and values.max(initial=0) <= 1 else 65535.0
    return np.clip(values / largest, 0, 1).astype(np.float32)


def find_images(places: Sequence[str | Path]) -> tuple[Path, ...]:
    """Image files in folders and below, sorted by path; files are taken as they are.

    Raises
    ------
    ImageError
        A place does not exist, or there is no image in any of them.
    """
    suffixes = {suffix for suffix, format in Image.registered_extensions().items() if format in Image.OPEN}
    found: list[Path] = []
    for place in map(Path, places):
        if place.is_dir():
            found += sorted(path for path in place.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
        elif place.exists():
            found.append(place)
        else:
            raise ImageError(f"{place} does not exist; give an image file or a folder of images")
    if not found:
        raise ImageError(f"no image in {', '.join(map(str, places))}; give a folder with JPEG or PNG files")
    return tuple(found)


def read_list(path: str | Path) -> tuple[Path, ...]:
    """Image files named in a text file, one a line, relative to the text file's folder; empty lines count for nothing.

    Whether they are there is not looked at.

    Raises
    ------
    ImageError
        The text file cannot be read or names no file.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ImageError(f"{path} is not a text file in UTF-8; give a list of images, one path a line") from error
    files = tuple(Path(path).parent / line.strip() for line in lines if line.strip())
    if not files:
        raise ImageError(f"{path} names no file; write one path a line")
    return files
