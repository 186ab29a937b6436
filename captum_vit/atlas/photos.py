"""What cards show of photos: a piece of their thumbnails, and of the maps of the neurons that they excite most."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_vit.atlas.images import read_entries
from captum_vit.atlas.pieces import PhotoPiece, is_done, units_of
from captum_vit.atlas.ranking import ranked_images, ranked_positions, ranked_sha256
from captum_vit.atlas.reading import check_unchanged
from captum_vit.atlas.sheets import as_tile, write_sheet
from captum_vit.atlas.tables import reading, writing
from captum_vit.atlas.vectors import write_vectors
from captum_vit.atlas.worker import Advance, Worker
from captum_vit.cards.agreement import evenly
from captum_vit.cards.embedding import embed
from captum_vit.errors import AtlasError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.grid import Size
from captum_vit.storage.files import check_folder

# The columns of a piece's file, a row for each map.
KINDS = {
    "by": "dictionary:string",
    "site": "dictionary:string",
    "unit": "int32",
    "rank": "int16",
    "image": "int64",
    "sheet": "int32",
    "tile": "int32",
    "low": "float32",
    "high": "float32",
    "map": "binary",
}


@dataclass(frozen=True)
class _Best:
    """Of the units of a site, those that have some images among their best: an entry for each map."""

    by: str
    site: str
    unit: NDArray[np.int64]
    rank: NDArray[np.int64]
    image: NDArray[np.int64]


def show(worker: Worker, piece: PhotoPiece, advance: Advance) -> None:
    """Do a piece of the photos: one pass over those of its images that are among the best of a neuron of the part."""
    pictures, batch_size = worker.manifest.pictures, worker.manifest.work.images_a_batch
    best = list(_best(worker, piece))
    shown = {image for each in best for image in each.image.tolist()}
    used = sorted(shown)
    known = ranked_sha256(worker.folder, worker.manifest, piece.first, piece.last)
    # Some more are embedded, to tell a neuron's strongest photos from; they are not shown.
    sample = evenly(ranked_images(worker.folder).tolist())
    read = sorted({*used, *(image for image in sample if piece.first <= image <= piece.last)})
    entries = read_entries(worker.folder, piece.first, piece.last) if read else []
    entries = [entries[image - piece.first] for image in read]
    path = worker.folder / piece.last_file
    check_folder(path.parent)
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {(each.by, each.site): [] for each in best}
    tiles: list[NDArray[np.uint8]] = []
    vectors: list[NDArray[np.float16]] = []
    sheets = 0
    for batch in worker.photos.batches(entries, batch_size):
        if batch.pixels is None or batch.skipped:
            raise AtlasError(f"a photo that was ranked cannot be read any more: {batch.skipped[0]}")
        images = [read[number] for number in batch.numbers]
        for image, (name, sha256) in zip(images, batch.sources, strict=True):
            check_unchanged((name, known[image]), (name, sha256))
        # Maps and embeddings are of one pass.
        here = _among(best, images)
        with _taking(worker.vit, here) as taken:
            embedded = embed(worker.vit, batch.pixels)
        for number, each in enumerate(here):
            sheet, tile = np.divmod(np.searchsorted(used, np.array(images)[each.image]), pictures.tiles)
            of_maps = {**_rows(each, images, taken[number]), "sheet": sheet, "tile": tile}
            rows[each.by, each.site].append(of_maps)
        if embedded is not None:
            vectors.append(embedded[0].numpy().astype(np.float16))
        for image, pixels in zip(images, batch.pixels.permute(0, 2, 3, 1).numpy(), strict=True):
            if image in shown:
                tiles.append(as_tile(pixels, pictures.photo_size))
        while len(tiles) >= pictures.tiles:
            to = worker.folder / piece.sheet(sheets)
            write_sheet(to, tiles[: pictures.tiles], pictures.columns, pictures.photo_quality)
            tiles, sheets = tiles[pictures.tiles :], sheets + 1
    if tiles:
        write_sheet(worker.folder / piece.sheet(sheets), tiles, pictures.columns, pictures.photo_quality)
    if vectors:
        arrays = {"images": np.array(read), "vectors": np.concatenate(vectors)}
        write_vectors(worker.folder / piece.vectors, **arrays)
    # The table comes last: where it is, the piece is done. One group of rows for each site: many small ones take more.
    with writing(path, KINDS) as write:
        for some in rows.values():
            write({name: np.concatenate([each[name] for each in some]) for name in KINDS})
    advance(piece.amount)


def _best(worker: Worker, piece: PhotoPiece) -> Iterator[_Best]:
    part = worker.manifest.parts[piece.part]
    for by in worker.manifest.rankings:
        for site, positions in ranked_positions(worker.folder, by, list(part)).items():
            units = np.array([unit for runs in part[site] for unit in units_of(runs)])
            ranked = positions[units]
            row, rank = ((ranked >= piece.first) & (ranked <= piece.last)).nonzero()
            if len(row):
                yield _Best(by, site, units[row], rank, ranked[row, rank])


def _among(best: list[_Best], images: list[int]) -> list[_Best]:
    """The entries for some images, which are counted from the first of them."""
    found = []
    for each in best:
        here = np.isin(each.image, images)
        if here.any():
            place = np.searchsorted(images, each.image[here])
            found.append(_Best(each.by, each.site, each.unit[here], each.rank[here], place))
    return found


@contextmanager
def _taking(vit: AdaptedModel, best: list[_Best]) -> Iterator[dict[int, Tensor]]:
    """Context in which a pass leaves maps ``(N, rows, columns)`` for each entry of ``best``, by its place there.

    The entries count images by their places in the batch. No other maps are held, as there may be gigabytes of them.
    """
    taken: dict[int, Tensor] = {}

    def take(place: int, maps: Tensor) -> None:
        of_images, of_units = torch.from_numpy(best[place].image), torch.from_numpy(best[place].unit)
        taken[place] = maps[of_images, of_units].float()

    with ExitStack() as hooks:
        for place, each in enumerate(best):
            hook = vit.layer(each.site).register_forward_hook(lambda _, __, maps, place=place: take(place, maps))
            hooks.callback(hook.remove)
        yield taken


def _rows(each: _Best, images: list[int], maps: Tensor) -> dict[str, Any]:
    """Columns of the table for maps of a batch's images."""
    low, high, levels = quantized(maps.cpu().numpy())
    return {
        "by": np.full(len(maps), each.by, dtype=object),
        "site": np.full(len(maps), each.site, dtype=object),
        "unit": each.unit,
        "rank": each.rank,
        "image": np.array(images)[each.image],
        "low": low,
        "high": high,
        "map": np.array([level.tobytes() for level in levels], dtype=object),
    }


def quantized(maps: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8]]:
    """Maps ``(N, rows, columns)`` in 256 levels between the smallest and the largest value of each.

    Returns
    -------
    low, high
        The values of levels 0 and 255, ``(N,)``.
    levels
        Shape ``(N, rows, columns)``.
    """
    low, high = maps.min(axis=(1, 2)), maps.max(axis=(1, 2))
    span = np.where(high > low, high - low, 1).astype(np.float32)
    levels = (maps - low[:, None, None]) / span[:, None, None] * np.float32(255)
    return low, high, np.nan_to_num(levels).round().astype(np.uint8)


def restored(levels: bytes, low: float, high: float, grid: Size) -> NDArray[np.float32]:
    """The inverse of :func:`quantized` for one map, ``(rows, columns)``, to a 256th of its range."""
    shares = np.frombuffer(levels, dtype=np.uint8).reshape(grid).astype(np.float32) / 255
    return np.asarray(low + shares * (high - low), dtype=np.float32)


def tables_of(folder: Path, piece: PhotoPiece, sites: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a piece, some at a time, by column; none if the piece is not done.

    Each group of rows is of one site; of ``sites`` others are not read.

    Raises
    ------
    AtlasError
        The file is damaged.
    """
    if not is_done(folder, piece):
        return
    with reading(folder / piece.last_file) as file:
        for group in range(file.num_row_groups):
            if sites is not None and _site_of(file, group) not in sites:
                continue
            table = file.read_row_group(group)
            yield {
                name: table[name].to_pylist() if name in ("by", "site", "map") else table[name].to_numpy()
                for name in KINDS
            }


def _site_of(file: Any, group: int) -> str:
    return str(file.metadata.row_group(group).column(list(KINDS).index("site")).statistics.min)
