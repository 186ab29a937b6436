"""Reading an atlas: ``captum_vit.open_atlas``, and what is known of each neuron."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_vit.atlas.classes import Labels
from captum_vit.atlas.manifest import Manifest
from captum_vit.atlas.photos import restored
from captum_vit.atlas.pieces import PhotoPiece, RenderPiece, is_done, merged_ranking
from captum_vit.atlas.sheets import read_tile
from captum_vit.atlas.table import FILE as TABLE
from captum_vit.atlas.table import read_records
from captum_vit.atlas.tables import read_matching, read_rows, reading
from captum_vit.errors import AddressError, AtlasError
from captum_vit.probes.address import Address
from captum_vit.ranking.measure import ACTIVATION
from captum_vit.ranking.result import Histogram, TopImages


@dataclass(frozen=True)
class AtlasPhoto:
    """A photo that excites a neuron.

    Attributes
    ----------
    name
        Its path in the folder or archive that it was in.
    index
        Its place among the atlas' images.
    value
        The neuron's activation on it, or its relevance, whichever chose it.
    thumbnail
        What the model saw of it, 0 to 255, shape ``(height, width, 3)``.
    patch_map
        The neuron's activation over the patch grid, to a 256th of the map's range, shape ``(rows, columns)``.
    label
        Its class, where images have labels.
    """

    name: str
    index: int
    value: float
    thumbnail: NDArray[np.uint8] = field(repr=False)
    patch_map: NDArray[np.float32] = field(repr=False)
    label: str | None = None


@dataclass(frozen=True)
class AtlasNeuron:
    """What an atlas knows of one neuron.

    Attributes
    ----------
    address
        ``"site:unit"``.
    scores
        Its row of the table: ``live``, ``natural_maximum``, ``activation``, ``ratio``, ``problem``, ``word`` ... Empty
        while the table is not written.
    render
        The optimized image, 0 to 255, shape ``(height, width, 3)``; None while there is none.
    record
        What is known of the render besides; empty while there is none.
    photos
        Those that excite it most, best first.
    relevant
        Those by relevance, best first; empty where they were not ranked by it.
    histogram
        Its activations on all images; None while they are not ranked.
    """

    address: str
    scores: Mapping[str, Any]
    render: NDArray[np.uint8] | None = field(repr=False)
    record: Mapping[str, Any] = field(repr=False)
    photos: tuple[AtlasPhoto, ...] = field(repr=False)
    relevant: tuple[AtlasPhoto, ...] = field(repr=False)
    histogram: Histogram | None = field(repr=False)

    def __repr__(self) -> str:
        known = [f"{len(self.photos)} photos shown"]
        if self.record:
            known.append(f"activation {self.record['activation']:.3g}")
        if (ratio := self.scores.get("ratio")) is not None:
            known.append(f"{ratio:.3g} times the strongest photo's")
        return f"AtlasNeuron({self.address}, {', '.join(known)})"


class Atlas:
    """An atlas in a folder, finished or not; what is looked at is read.

    Parameters
    ----------
    folder
        The folder.

    Attributes
    ----------
    folder
        The folder.
    manifest
        What the atlas is of, and how it was made.

    Raises
    ------
    AtlasError
        The folder is no atlas, or one of another version of the format.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.load(self.folder)
        self._pieces = {(piece.site, unit): piece for piece in self.manifest.render_pieces() for unit in piece.units}
        self._parts = {
            (site, unit): number
            for number, part in enumerate(self.manifest.parts)
            for site, pieces in part.items()
            for runs in pieces
            for first, last in runs
            for unit in range(first, last + 1)
        }

    def __repr__(self) -> str:
        return f"Atlas({self.manifest.model['origin'].get('name', self.manifest.model['model'])}, {len(self)} neurons)"

    def __len__(self) -> int:
        return len(self._pieces)

    def __iter__(self) -> Iterator[Address]:
        """Addresses of the neurons, by site in the order of the forward pass and by unit."""
        for site in self.manifest.sites:
            for unit in self.manifest.units(site.name):
                yield Address(f"{site.name}:{unit}")

    def __contains__(self, address: object) -> bool:
        try:
            parsed = Address.parse(address)  # type: ignore[arg-type]
        except AddressError:
            return False
        return (parsed.site, parsed.unit) in self._pieces

    def __getitem__(self, address: str) -> AtlasNeuron:
        """What is known of a neuron.

        Raises
        ------
        AddressError
            It is not in the atlas.
        AtlasError
            A file is damaged.
        """
        parsed = Address.parse(address)
        site, unit = parsed.site, parsed.unit
        piece = self._pieces.get((site, unit))
        if piece is None:
            raise AddressError(
                f"{parsed} is not in this atlas; it has {self._in_words(site)}, and others can be added to it"
            )
        render, record = self._render(piece, unit)
        ranking = self.rankings.get(ACTIVATION)
        relevance = next((by for by in self.rankings if by != ACTIVATION), None)
        return AtlasNeuron(
            address=parsed,
            scores=self._row(parsed),
            render=render,
            record=record,
            photos=self._photos(parsed, ACTIVATION),
            relevant=() if relevance is None else self._photos(parsed, relevance),
            histogram=None if ranking is None else ranking.histogram(parsed),
        )

    @cached_property
    def rankings(self) -> dict[str, TopImages]:
        """The rankings over all images, by what they measure; those that are finished."""
        paths = {by: self.folder / merged_ranking(by) for by in self.manifest.rankings}
        return {by: TopImages.load(path) for by, path in paths.items() if path.exists()}

    @property
    def failures(self) -> dict[str, str]:
        """Pieces of work that failed each time, with their errors."""
        found = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.folder.glob("failures/*.json")))
        return {each["piece"]: each["error"] for each in found}

    def table(self) -> Any:
        """The table of neurons, as pyarrow's; ``.to_pandas()`` makes it one of pandas.

        Raises
        ------
        AtlasError
            It is not written yet.
        """
        with reading(self.folder / TABLE) as file:
            return file.read()

    # --- files

    @cached_property
    def _labels(self) -> Labels:
        return Labels.of(self.folder, self.manifest)

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        if not (self.folder / TABLE).exists():
            return {}
        with reading(self.folder / TABLE) as file:
            addresses = file.read(columns=["address"])["address"].to_pylist()
        return {address: row for row, address in enumerate(addresses)}

    def _row(self, address: str) -> Mapping[str, Any]:
        row = self._rows.get(address)
        return {} if row is None else read_rows(self.folder / TABLE, row, row, None)[0]

    def _render(self, piece: RenderPiece, unit: int) -> tuple[NDArray[np.uint8] | None, Mapping[str, Any]]:
        records = read_records(self.folder, piece)
        if not records:
            return None, {}
        pictures, place = self.manifest.pictures, piece.units.index(unit)
        sheet, tile = divmod(place, pictures.tiles)
        path = self.folder / piece.sheet(sheet)
        try:
            pixels = read_tile(path, tile, pictures.columns, pictures.render_size)
        except (OSError, SyntaxError) as error:
            raise AtlasError(
                f"{path} is damaged ({error}); delete it and the files beside it, and make it again"
            ) from error
        return pixels, records[place]

    def _photos(self, address: Address, by: str) -> tuple[AtlasPhoto, ...]:
        """A neuron's photos, best first, without those whose pieces are not done."""
        if by not in self.rankings:
            return ()
        part = self._parts[address.site, address.unit]
        best = self.rankings[by].best(address)
        pieces = {self.manifest.photo_piece(part, image.index): None for image in best}
        rows = {row["rank"]: (piece, row) for piece in pieces for row in self._maps(piece, address, by)}
        pictures = self.manifest.pictures
        return tuple(
            AtlasPhoto(
                name=image.path,
                index=image.index,
                value=image.value,
                thumbnail=read_tile(
                    self.folder / piece.sheet(row["sheet"]), row["tile"], pictures.columns, pictures.photo_size
                ),
                patch_map=restored(row["map"], row["low"], row["high"], self.manifest.site(address.site).grid),
                label=self._labels[image.index],
            )
            for rank, image in enumerate(best)
            if rank in rows
            for piece, row in [rows[rank]]
        )

    def _maps(self, piece: PhotoPiece, address: Address, by: str) -> list[dict[str, Any]]:
        """The rows of a neuron in a piece's table; none if the piece is not done."""
        if not is_done(self.folder, piece):
            return []
        wanted = {"by": by, "site": address.site, "unit": address.unit}
        return read_matching(self.folder / piece.last_file, wanted)

    def _in_words(self, site: str) -> str:
        """The units of a site that are in the atlas, or the sites that have some."""
        units = [unit for name, unit in self._pieces if name == site]
        if units:
            return f"{len(units)} units of {site}, {min(units)} … {max(units)}"
        return f"neurons of {', '.join(dict.fromkeys(name for name, _ in self._pieces))}"


def open_atlas(folder: str | Path) -> Atlas:
    """Open an atlas that is in a folder, finished or not.

    Raises
    ------
    AtlasError
        The folder is no atlas, or one of another version of the format.

    Examples
    --------
    ``open_atlas("deit_micro-atlas")["blocks.5:42"].photos[0].name``
    """
    return Atlas(folder)
