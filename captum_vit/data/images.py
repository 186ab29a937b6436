"""Reading photos from files as upright RGB, whatever their mode; what means nothing as a photo is refused."""

from __future__ import annotations

import io
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from captum_vit.data.deep import Levels, is_deep
from captum_vit.data.search import Found, find_images, read_list, search_images
from captum_vit.data.tiff import check_bands
from captum_vit.errors import ImageError
from captum_vit.storage.part import Part

# The search has been found here too since it was written here.
__all__ = ["Found", "as_rgb", "find_images", "from_pixels", "open_rgb", "read_image", "read_list", "search_images"]

# Times as long as wide. Models resize the short side: a strip of 65,500 × 1 pixels would become one of gigabytes, of
# which they see the middle only.
LONGEST = 100

# Pixels that are converted at a time, so that a large photo is in memory once, and not once for each conversion.
_STRIP = 2**20


def open_rgb(path: str | Path) -> Image.Image:
    """Open an image file as RGB in 8 bits, as models' own transforms take it.

    Rotated as its EXIF tag says; grey becomes RGB, palettes and CMYK are converted, and transparent pixels are laid
    over white. Of 16 bits, 65535 is white; of 32 bits and of floating point, 1, 255 or 65535, whichever the largest
    value comes near to: up to a tenth beyond it, which is clipped as a tenth below 0 is, and for the latter two not
    below a sixteenth.

    Parameters
    ----------
    path
        Any format that Pillow reads; or a part of such a file (:class:`captum_vit.storage.part.Part`).

    Raises
    ------
    ImageError
        The file is missing, empty, truncated or not an image; its values are in none of these ranges, or NaN; it is
        more than a hundred times as long as wide; or it has more pixels than Pillow, or memory, takes.
    """
    return _read(path, as_rgb)


def decode_rgb(content: bytes, name: str) -> Image.Image:
    """Decode an image file's bytes, as :func:`open_rgb` does a file.

    Parameters
    ----------
    content
        The bytes.
    name
        What the message calls them; the name of a part asks for that part.

    Raises
    ------
    ImageError
        As for :func:`open_rgb`.
    """
    part = Part.of(name)
    return _told(name, lambda: _decoded(io.BytesIO(content), len(content), lambda image: as_rgb(_cut(image, part))))


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
        As for :func:`open_rgb`, but that an image may be as long as it likes.
    """
    return _read(path, _pixels)


def as_rgb(image: Image.Image) -> Image.Image:
    """An open image as :func:`open_rgb` gives it, but for its rotation; the image itself if it is RGB already.

    Raises
    ------
    ImageError
        It means nothing as a photo, or is more than a hundred times as long as wide.
    """
    short, long = sorted(image.size)
    if long > LONGEST * short:
        width, height = image.size
        raise ImageError(
            f"it has {width} × {height} pixels, and of a strip more than {LONGEST} times as long as wide a model sees "
            "next to nothing; cut it"
        )
    if is_deep(image):
        levels = Levels.of(image, (strip for _, strip in _strips(image)))
        grey = Image.new("L", image.size)
        for top, strip in _strips(image):
            grey.paste(from_pixels(levels(strip)), (0, top))
        return grey.convert("RGB")
    if _is_transparent(image):
        opaque = Image.new("RGB", image.size, "white")
        for top, strip in _strips(image):
            rgba = strip.convert("RGBA")
            opaque.paste(rgba, (0, top), mask=rgba)
        return opaque
    return _converted(image)


def from_pixels(pixels: NDArray[np.floating[Any]]) -> Image.Image:
    """Pixels in [0, 1], shape ``(height, width, 3)`` or ``(height, width)``, as an image in 8 bits.

    Raises
    ------
    ImageError
        They are of another shape, whole numbers, NaN, or not in [0, 1].
    """
    if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or not pixels.size:
        raise ImageError(f"pixels of shape {pixels.shape} are no image (height, width, 3) or (height, width)")
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ImageError(f"pixels are {pixels.dtype}, and should be floating point in [0, 1]; divide them first")
    least, largest = pixels.min(), pixels.max()
    # Rounding may add a little. NaN is not in any range.
    if not (least >= -1e-3 and largest <= 1 + 1e-3):
        raise ImageError(f"pixels go from {least:g} to {largest:g}, and should be in [0, 1]; scale or clip them first")
    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


T = TypeVar("T")


def _read(path: str | Path, convert: Callable[[Image.Image], T]) -> T:
    """What ``convert`` makes of an image, or a part of one, that is upright and in memory."""
    part = Part.of(path)

    def read() -> T:
        status = Path(part.file).stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise ImageError("it is a folder" if stat.S_ISDIR(status.st_mode) else "it is not a regular file")
        return _decoded(part.file, status.st_size, lambda image: convert(_cut(image, part)))

    return _told(path, read)


def _decoded(file: str | Path | io.BytesIO, size: int, convert: Callable[[Image.Image], T]) -> T:
    if not size:
        raise ImageError("it is empty")
    with Image.open(file) as image:
        if not all(image.size):
            raise ImageError("it has no pixels")
        check_bands(image)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return convert(image)


def _cut(image: Image.Image, part: Part) -> Image.Image:
    return image if part.box is None else image.crop(part.pixels(*image.size))


def _told(name: str | Path, read: Callable[[], T]) -> T:
    """What a reading gives; whatever it stumbles over is told by the file's name."""
    try:
        return read()
    # Pillow's decoders raise whatever they stumble over: SyntaxError, struct.error, zlib.error, EOFError ...
    except Exception as error:
        raise ImageError(f"{name} cannot be read as an image: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not in a format, or of a kind of its format, that Pillow knows"
    if isinstance(error, Image.DecompressionBombError):
        return (
            "it has so many pixels that Pillow takes it for an attack; if it is none, raise PIL.Image.MAX_IMAGE_PIXELS"
        )
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _pixels(image: Image.Image) -> NDArray[np.float32]:
    width, height = image.size
    levels = Levels.of(image, (strip for _, strip in _strips(image))) if is_deep(image) else None
    pixels = np.empty((height, width, 3), dtype=np.float32)
    for top, strip in _strips(image):
        rows = pixels[top : top + strip.height]
        if levels is not None:
            rows[:] = levels(strip)[..., None]
        elif _is_transparent(image):
            rgba = np.asarray(strip.convert("RGBA"), dtype=np.float64) / 255
            opacity = rgba[..., 3:]
            rows[:] = rgba[..., :3] * opacity + (1 - opacity)
        else:
            np.divide(np.asarray(_converted(strip)), np.float32(255), out=rows)
    return pixels


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The image in parts of its full width, each with the row where it begins."""
    width, height = image.size
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _converted(image: Image.Image) -> Image.Image:
    """An image of 8 bits without transparency, as RGB."""
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy it


def _is_transparent(image: Image.Image) -> bool:
    return "transparency" in image.info or (image.mode != "LAB" and bool({"A", "a"} & set(image.getbands())))
