"""The entries of a manifest: a model's site, the images, how the work is divided, how pictures are kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

from captum_vit.probes.grid import Size


@dataclass(frozen=True)
class SiteEntry:
    """A site of the model, whether its neurons are in the atlas or not.

    Attributes
    ----------
    name
        As the model calls it, ``"blocks.5"``.
    kind
        What its channels are, one of :data:`captum_vit.probes.kinds.KINDS`.
    units
        How many it has.
    grid
        Rows and columns of its patch maps.
    extent
        Left, top, right and bottom of the area that the cells tile evenly, as parts of the photo's width and height.
    """

    name: str
    kind: str
    units: int
    grid: Size
    extent: tuple[float, float, float, float]


@dataclass(frozen=True)
class Images:
    """The images that the neurons were shown.

    Attributes
    ----------
    count, sha256
        How many, and the checksum of their list.
    labelled
        Whether each has a label, the folder that it is in.
    """

    count: int
    sha256: str
    labelled: bool


@dataclass(frozen=True)
class Work:
    """How the work is divided, on which the last bits of results depend.

    Attributes
    ----------
    threads
        Threads with which a worker computes on a CPU.
    images_a_piece, images_a_batch
        Of the rankings, and of the photos.
    units_a_piece, units_a_batch
        Of the renders.
    """

    threads: int
    images_a_piece: int
    images_a_batch: int
    units_a_piece: int
    units_a_batch: int


@dataclass(frozen=True)
class Pictures:
    """How renders and photos are kept: as tiles of sheets in the format WebP.

    Sheets are small: a page that shows one tile decodes all of its sheet.

    Attributes
    ----------
    render_size, photo_size
        Height and width of a tile in pixels.
    render_quality, photo_quality
        Of WebP, 0 to 100.
    tiles
        Renders or thumbnails in a sheet, at most.
    """

    render_size: Size
    photo_size: Size
    render_quality: int = 75
    photo_quality: int = 70
    tiles: int = 16

    @property
    def columns(self) -> int:
        """Tiles in a row of a sheet: about as many as there are rows."""
        return math.ceil(math.sqrt(self.tiles))
