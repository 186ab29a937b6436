"""Finding image files in folders, links included, with an account of what is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from captum_vit.errors import ImageError

# Pillow has names for these, but no decoder.
_NOT_DECODED = {"BUFR", "GRIB", "HDF5", "MPEG"}

# Ways to a folder that are followed, as links between folders have more ways than there are photos in the world.
_WAYS = 30

# Formats whose first bytes cannot be another file's, to tell images without a suffix.
_TOLD_BY_CONTENT = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000")

NO_IMAGE = "not an image by the suffix, nor without one by the content"
BROKEN_LINK = "a link to nothing"
LOOP = "a link back to a folder that it is in"
LINKED_OFTEN = "linked to from many places, and found in some of them"
NOT_READABLE = "not readable"
NOT_A_FILE = "neither a file nor a folder"


class Found(NamedTuple):
    """What a search came to.

    Attributes
    ----------
    images
        The image files, in the order of the places, and of each place sorted by path.
    left_out
        What else is there: path and reason of each.
    """

    images: tuple[Path, ...]
    left_out: tuple[tuple[Path, str], ...]

    def notes(self, most: int = 5) -> list[str]:
        """A line for each reason: how many were left out for it, and the names of at most ``most``."""
        reasons: dict[str, list[Path]] = {}
        for path, reason in self.left_out:
            reasons.setdefault(reason, []).append(path)
        return [
            f"{len(paths)} left out, {reason}: {', '.join(map(str, paths[:most]))}{', …' if paths[most:] else ''}"
            for reason, paths in reasons.items()
        ]


def search_images(places: Sequence[str | Path]) -> Found:
    """Image files in folders and below, and what else is there; files that are named are taken as they are.

    Images are files with the suffix of a format that Pillow reads, in capitals too, and files without a suffix that
    begin as a usual format does. Hidden files and folders count. Links are followed, to folders as to files, but for
    those to a folder that they are in.

    Raises
    ------
    ImageError
        A place does not exist.
    """
    images: list[Path] = []
    left_out: list[tuple[Path, str]] = []
    for place in map(Path, places):
        if place.is_dir():
            seen = list(_walk(place))
            images += sorted(path for path, reason in seen if reason is None)
            left_out += sorted((path, reason) for path, reason in seen if reason is not None)
        elif os.path.lexists(place):
            images.append(place)  # be it a link to nothing: reading it says so
        else:
            raise ImageError(f"{place} does not exist; give an image file or a folder of images")
    return Found(tuple(images), tuple(left_out))


def find_images(places: Sequence[str | Path]) -> tuple[Path, ...]:
    """Image files in folders and below, as :func:`search_images` finds them.

    Raises
    ------
    ImageError
        A place does not exist, or there is no image in any of them.
    """
    images, left_out = found = search_images(places)
    if not images:
        notes = f" ({'; '.join(found.notes(3))})" if left_out else ""
        raise ImageError(f"no image in {', '.join(map(str, places))}; give a folder with JPEG or PNG files{notes}")
    return images


def image_suffixes() -> frozenset[str]:
    """Suffixes of the formats that Pillow reads, in small letters, with the dot."""
    decoded = Image.registered_extensions()  # which loads the decoders
    own = {suffix for suffix, kind in decoded.items() if kind in Image.OPEN.keys() - _NOT_DECODED}
    return frozenset(own | {".mpo"})  # several JPEGs in one, of which the first is read


def read_list(path: str | Path) -> tuple[Path, ...]:
    """Image files named in a text file, one a line, relative to the text file's folder; empty lines count for nothing.

    Whether they are there is not looked at.

    Raises
    ------
    ImageError
        The text file cannot be read or names no file.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ImageError(f"{path} is not a text file in UTF-8; give a list of images, one path a line") from error
    files = tuple(Path(path).parent / line.strip() for line in lines if line.strip())
    if not files:
        raise ImageError(f"{path} names no file; write one path a line")
    return files


def _walk(top: Path) -> Iterator[tuple[Path, str | None]]:
    """Files in a folder and below, each with the reason to leave it out, or None for an image."""
    suffixes = image_suffixes()
    ways: Counter[tuple[int, int]] = Counter()
    waiting: list[tuple[Path, frozenset[tuple[int, int]]]] = [(top, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        try:
            status = folder.stat()
            real = status.st_dev, status.st_ino
            if real in above or ways[real] == _WAYS:
                yield folder, LOOP if real in above else LINKED_OFTEN
                continue
            ways[real] += 1
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            yield folder, NOT_READABLE
            continue
        for entry in entries:
            path = folder / entry.name
            try:
                if entry.is_dir():
                    waiting.append((path, above | {real}))
                elif entry.is_file():
                    is_image = path.suffix.lower() in suffixes or (not path.suffix and _begins_as_image(path))
                    yield path, None if is_image else NO_IMAGE
                else:
                    yield path, NOT_A_FILE if os.path.exists(path) else BROKEN_LINK
            except OSError:  # a link to itself, or into a folder that is not readable
                yield path, BROKEN_LINK if entry.is_symlink() else NOT_READABLE


def _begins_as_image(path: Path) -> bool:
    Image.init()
    try:
        with Image.open(path, formats=[kind for kind in _TOLD_BY_CONTENT if kind in Image.OPEN]):
            return True
    except Exception:  # whatever Pillow stumbles over
        return False
