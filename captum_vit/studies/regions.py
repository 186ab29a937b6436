"""Where an image's objects are: bounding boxes in ImageNet's XML, or masks as pictures, found by the image's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from captum_vit.errors import ImageError, StudyError

BOXES, MASK = ".xml", ".png"
# Of the ratio of the sides: rounding of a smaller copy of an image, and no image that was turned.
_SAME_SHAPE = 0.02


class Box(NamedTuple):
    """A box in pixels; left and top lie in it, right and bottom just beyond it."""

    left: float
    top: float
    right: float
    bottom: float


class Regions:
    """The files of boxes and masks in a folder and below.

    Parameters
    ----------
    folder
        Files named as their images are: ``n01440764_10026.xml`` or ``.png`` for ``n01440764_10026.JPEG``. Of several
        with one name, that in a folder named as the image's.

    Raises
    ------
    StudyError
        There is no such folder, or no such file in it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._files: dict[str, list[Path]] = {}
        for path in sorted(self.folder.rglob("*")):
            if path.suffix.lower() in (BOXES, MASK):
                self._files.setdefault(path.stem, []).append(path)
        if not self._files:
            raise StudyError(f"{folder} has no boxes (.xml) and no masks (.png), named as their images are")

    @property
    def files(self) -> list[Path]:
        """All files of boxes and masks."""
        return [path for paths in self._files.values() for path in paths]

    def mask(self, file: str | Path, size: tuple[int, int]) -> Image.Image:
        """White where an image's objects are, black elsewhere: the union of its boxes, or its mask.

        Parameters
        ----------
        file
            The image.
        size
            Its width and height in pixels.

        Raises
        ------
        StudyError
            There are no boxes, or they are of an image of another shape.
        """
        path = self._of(Path(file))
        mask = _read_mask(path) if path.suffix.lower() == MASK else boxes_to_mask(*read_boxes(path, size))
        if abs(mask.width / mask.height / (size[0] / size[1]) - 1) > _SAME_SHAPE:
            raise StudyError("its boxes or mask are of an image of another shape")
        if mask.getextrema() == (0, 0):
            raise StudyError("no box or mask in its file")
        return mask.resize(size, Image.Resampling.NEAREST)

    def _of(self, image: Path) -> Path:
        found = self._files.get(image.stem, [])
        if not found:
            raise StudyError("no file of boxes or mask")
        if len(found) > 1:
            found = [path for path in found if path.parent.name == image.parent.name]
        if len(found) != 1:
            raise StudyError("several files of boxes or masks have its name")
        return found[0]


def read_boxes(path: str | Path, size: tuple[int, int]) -> tuple[list[Box], tuple[int, int]]:
    """The boxes in an XML file of ImageNet's or Pascal VOC's, and the size of the image that they are of.

    Parameters
    ----------
    path
        The file, with ``object/bndbox`` for each object.
    size
        The image's width and height in pixels, for a file that does not tell.

    Raises
    ------
    StudyError
        The file cannot be read.
    """
    try:
        root = ElementTree.parse(path).getroot()
        told = [int(root.findtext(f"size/{side}") or 0) for side in ("width", "height")]
        boxes = [
            Box(*(float(box.findtext(side) or "") for side in ("xmin", "ymin", "xmax", "ymax")))
            for box in root.iterfind("object/bndbox")
        ]
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise StudyError("its file of boxes cannot be read") from error
    return boxes, (told[0], told[1]) if all(side > 0 for side in told) else size


def boxes_to_mask(boxes: Sequence[Box], size: tuple[int, int]) -> Image.Image:
    """White inside the union of boxes, black elsewhere.

    Parameters
    ----------
    boxes
        In pixels; what lies outside of the image is cut off.
    size
        Width and height of the image.
    """
    width, height = size
    inside = np.zeros((height, width), dtype=np.uint8)
    for box in boxes:
        rows = slice(max(round(box.top), 0), max(round(box.bottom), 0))
        inside[rows, max(round(box.left), 0) : max(round(box.right), 0)] = 255
    return Image.fromarray(inside)


def _read_mask(path: Path) -> Image.Image:
    """A mask in which all that is not black is an object; of a picture with a palette, all but its first colour."""
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture if picture.mode in ("P", "L", "1", "I;16", "I") else picture.convert("L"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ImageError("its mask cannot be read") from error
    return Image.fromarray(np.where(values > 0, np.uint8(255), np.uint8(0)))
