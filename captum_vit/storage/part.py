"""Names of parts of photos: media fragments, so that a crop is an image of its own wherever images have paths."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

_FRAGMENT = re.compile(r"(.+)#xywh=percent:([\d.]+),([\d.]+),([\d.]+),([\d.]+)", re.DOTALL)

# Left, top, width and height in per cent: the quarters and the middle.
_SMALL = ((0, 0, 50, 50), (50, 0, 50, 50), (0, 50, 50, 50), (50, 50, 50, 50), (25, 25, 50, 50))
_BESIDE = ((0, 0, 50, 100), (50, 0, 50, 100))
_BELOW = ((0, 0, 100, 50), (0, 50, 100, 50))


class Part(NamedTuple):
    """A rectangle of an image file, named as in W3C's Media Fragments URI 1.0: ``cat.jpg#xywh=percent:0,0,50,50``.

    Attributes
    ----------
    file
        Path of the image file.
    box
        Left edge, upper edge, width and height in per cent of the image's; None for all of it.
    """

    file: str
    box: tuple[float, float, float, float] | None = None

    @classmethod
    def of(cls, path: str | Path) -> Part:
        """What a path names: a file, which may be called anything, or a part of one."""
        found = _FRAGMENT.fullmatch(str(path))
        if found is None or os.path.lexists(path):
            return cls(str(path))
        try:
            left, top, width, height = (float(number) for number in found.groups()[1:])
        except ValueError:
            return cls(str(path))
        is_inside = width > 0 and height > 0 and left + width <= 100 and top + height <= 100
        return cls(found[1], (left, top, width, height)) if is_inside else cls(str(path))

    @property
    def path(self) -> str:
        """How the part is named."""
        return self.file if self.box is None else f"{self.file}#xywh=percent:{','.join(f'{n:g}' for n in self.box)}"

    def pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, upper, right and lower edge in an image of that size, as Pillow's ``crop`` takes them; never empty."""
        if self.box is None:
            return 0, 0, width, height
        left, top, across, down = self.box
        columns = round(left * width / 100), round((left + across) * width / 100)
        rows = round(top * height / 100), round((top + down) * height / 100)
        first, above = min(columns[0], width - 1), min(rows[0], height - 1)
        return first, above, max(columns[1], first + 1), max(rows[1], above + 1)


def parts(path: str | Path, *, wide: bool) -> tuple[Part, ...]:
    """Eight parts of an image: all of it, its two halves along the longer side, its quarters and its middle.

    Parameters
    ----------
    path
        Its file.
    wide
        Whether it is at least as wide as high.
    """
    boxes = (*(_BESIDE if wide else _BELOW), *_SMALL)
    return Part(str(path)), *(Part(str(path), box) for box in boxes)
