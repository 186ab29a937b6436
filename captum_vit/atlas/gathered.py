"""Maps of photos, gathered from the pieces that they were made in to the neurons that they are of."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_vit.atlas.entries import SiteEntry
from captum_vit.atlas.manifest import Manifest
from captum_vit.atlas.page.records import Sheet
from captum_vit.atlas.photos import tables_of
from captum_vit.atlas.pieces import PhotoPiece
from captum_vit.storage.files import replacing


@dataclass(frozen=True)
class GatheredMaps:
    """The maps of one site's neurons, ``U`` of them in the atlas, on their ``k`` photos.

    Attributes
    ----------
    levels
        Shape ``(U, k, rows, columns)``, in a file that is not read into memory.
    low, high
        Activation at the levels 0 and 255, ``(U, k)``; NaN where there is no map.
    piece, sheet, tile
        Where the photo's thumbnail is: which of the pieces of photos, and which of its sheets and tiles; ``(U, k)``.
    """

    levels: NDArray[np.uint8]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    piece: NDArray[np.int32]
    sheet: NDArray[np.int32]
    tile: NDArray[np.int32]


class Gathering:
    """Goes through all pieces of photos once, and holds what is not a map in memory.

    Parameters
    ----------
    folder
        The atlas.
    manifest
        Its manifest.
    scratch
        A folder for the maps.
    sites
        Names of the sites whose maps are wanted; all when not given.
    """

    def __init__(self, folder: Path, manifest: Manifest, scratch: Path, sites: Collection[str] | None = None) -> None:
        self.pieces: list[PhotoPiece] = list(manifest.photo_pieces())
        # Thumbnails of each piece.
        self.thumbnails = [0] * len(self.pieces)
        self._tiles, self._columns = manifest.pictures.tiles, manifest.pictures.columns
        self._maps: dict[tuple[str, str], GatheredMaps] = {}
        self._rows: dict[str, NDArray[np.int64]] = {}
        for site in manifest.sites:
            units = manifest.units(site.name)
            if units and (sites is None or site.name in sites):
                self._rows[site.name] = np.full(site.units, -1)
                self._rows[site.name][list(units)] = np.arange(len(units))
                for by in manifest.rankings:
                    file = scratch / f"{len(self._maps)}.maps"
                    self._maps[by, site.name] = _empty(file, (len(units), manifest.k), site)
        for number, piece in enumerate(self.pieces):
            for table in tables_of(folder, piece, sites):
                self._take(number, table)

    def of(self, by: str, site: str) -> GatheredMaps:
        """The maps of a site's neurons in the atlas, by unit, on the photos that one ranking chose."""
        return self._maps[by, site]

    def sheet(self, piece: int, number: int) -> Sheet:
        """A sheet of thumbnails, by the number of its piece and its own."""
        tiles = min(self._tiles, self.thumbnails[piece] - number * self._tiles)
        return sheet_of(self.pieces[piece].sheet(number), tiles, self._columns)

    def _take(self, number: int, table: dict[str, Any]) -> None:
        by, site = np.asarray(table["by"]), np.asarray(table["site"])
        places = np.asarray(table["sheet"]) * self._tiles + np.asarray(table["tile"])
        self.thumbnails[number] = max(self.thumbnails[number], int(places.max(initial=-1)) + 1)
        for (measure, name), maps in self._maps.items():
            here = ((by == measure) & (site == name)).nonzero()[0]
            if not len(here):
                continue
            at = self._rows[name][np.asarray(table["unit"])[here]], np.asarray(table["rank"])[here]
            for column in ("low", "high", "sheet", "tile"):
                getattr(maps, column)[at] = np.asarray(table[column])[here]
            maps.piece[at] = number
            levels = b"".join(table["map"][place] for place in here)
            maps.levels[at] = np.frombuffer(levels, dtype=np.uint8).reshape(len(here), *maps.levels.shape[2:])


def sheet_of(path: str, tiles: int, columns: int) -> Sheet:
    """A sheet of so many tiles, of which so many are in a row if there are as many."""
    return Sheet(path, min(columns, tiles), -(-tiles // columns))


def _empty(file: Path, shape: tuple[int, int], site: SiteEntry) -> GatheredMaps:
    units, images = shape
    # Written in full, as a disk that is full later would end the process by a signal; never all of it in memory.
    with replacing(file) as partial, partial.open("wb") as target:
        target.writelines(repeat(bytes(images * math.prod(site.grid)), units))
    levels = np.memmap(file, mode="r+", dtype=np.uint8, shape=(*shape, *site.grid))
    low, high = (np.full(shape, np.nan, dtype=np.float32) for _ in range(2))
    piece, sheet, tile = (np.full(shape, -1, dtype=np.int32) for _ in range(3))
    return GatheredMaps(levels, low, high, piece, sheet, tile)
