"""Names of an atlas' neurons: once photos are mapped, piece by piece, from what the atlas already knows of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_vit.atlas.gathered import GatheredMaps, Gathering
from captum_vit.atlas.images import Entry, read_entries
from captum_vit.atlas.manifest import Manifest
from captum_vit.atlas.naming.asked import LEXICON, Naming
from captum_vit.atlas.naming.crops import Area, Extent, areas, cut, random_crops
from captum_vit.atlas.naming.lexicon import Lexicon
from captum_vit.atlas.naming.naming import Name, names
from captum_vit.atlas.pieces import NamePiece
from captum_vit.atlas.ranking import ranked_positions, ranked_sha256
from captum_vit.atlas.reading import PhotoReader, check_unchanged
from captum_vit.atlas.tables import ROWS
from captum_vit.atlas.worker import Advance, Worker
from captum_vit.errors import AtlasError
from captum_vit.ranking.measure import ACTIVATION
from captum_vit.storage.files import check_folder, replacing

# Maps that tell where crops are, for those of random photos.
_SAMPLE = 1024

# Photos that are read at a time, and crops that the CLIP sees.
_PHOTOS, _CROPS = 16, 64


def prepare(folder: Path, manifest: Manifest, naming: Naming, photos: PhotoReader, progress: bool) -> None:
    """Make an atlas' lexicon, if it is not there: what its pieces of names need besides maps.

    Parameters
    ----------
    folder
        The atlas, whose photos are mapped.
    manifest
        Its manifest.
    naming
        What to name with.
    photos
        What reads its photos.
    progress
        Whether to show bars.

    Raises
    ------
    AtlasError
        A photo is not there any more, or another, or the atlas is named with something else.
    NamingError
        There are too few photos to tell chance from.
    OutputError
        A file cannot be written.
    """
    naming.check(folder)
    path = folder / LEXICON
    if path.exists():
        return
    reader, seed = _Reader(folder, manifest, photos), manifest.plan["seed"]
    with tempfile.TemporaryDirectory() as scratch:
        places = _sampled(manifest, Gathering(folder, manifest, Path(scratch)), seed)
    crops = random_crops(
        lambda numbers: reader(reader.images[numbers].tolist()), len(reader.images), places, naming.clip.size, seed
    )
    made = Lexicon.of(
        naming.clip,
        naming.words,
        crops,
        k=manifest.k,
        quantile=naming.quantile,
        seed=seed,
        batch_size=_CROPS,
        progress=progress,
    )
    check_folder(path.parent)
    made.save(path)


def name(worker: Worker, piece: NamePiece, advance: Advance) -> None:
    """Do a piece of the names."""
    folder, manifest, clip = worker.folder, worker.manifest, worker.clip
    reader, lexicon = _Reader(folder, manifest, worker.photos), Lexicon.load(folder / LEXICON)
    with tempfile.TemporaryDirectory() as scratch:
        maps = Gathering(folder, manifest, Path(scratch), [piece.site]).of(ACTIVATION, piece.site)
        excited = _Excited(manifest, piece, maps, reader.ranked[piece.site])
    found = []
    for each in names(clip, lexicon, excited.crops(reader, clip.size), batch_size=_CROPS):
        found.append(each)
        advance(1)
    _write(folder / piece.last_file, piece, found)


def read_names(folder: Path, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """What is known of neurons' names, as columns of the table, by address; nothing where none were asked for.

    Raises
    ------
    AtlasError
        A file is damaged.
    """
    found: dict[str, dict[str, Any]] = {}
    for piece in manifest.name_pieces():
        path = folder / piece.last_file
        if not path.exists():
            continue
        try:
            for record in json.loads(path.read_text(encoding="utf-8"))["neurons"]:
                word, score = record["words"][0] if record["words"] else (None, None)
                found[f"{piece.site}:{record['unit']}"] = {
                    "word": word,
                    "word_score": score,
                    "word_threshold": record["threshold"],
                }
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AtlasError(f"{path} is damaged; delete it, and the same command names its neurons again") from error
    return found


class _Reader:
    """Reads photos of an atlas by their places in its list, and makes sure that they are those that were ranked."""

    def __init__(self, folder: Path, manifest: Manifest, photos: PhotoReader) -> None:
        self._folder, self._photos = folder, photos
        sites = [site.name for site in manifest.sites if manifest.units(site.name)]
        self.ranked = ranked_positions(folder, ACTIVATION, sites)
        self._known = ranked_sha256(folder, manifest, 0, manifest.images.count)
        ranked = np.unique(np.concatenate([ranked.ravel() for ranked in self.ranked.values()]))
        self.images = ranked[self.first_of_files(ranked.tolist())]

    def __call__(self, images: Sequence[int]) -> Iterator[Tensor]:
        """Pixels of photos as the model sees them, ``(3, H, W)`` in [0, 1], in order; one may be there twice."""
        entries = self._entries(np.asarray(images, dtype=np.int64))
        for batch in self._photos.batches([entries[image] for image in images], _PHOTOS):
            if batch.pixels is None or batch.skipped:
                raise AtlasError(f"a photo that was ranked cannot be read any more: {batch.skipped[0]}")
            for number, (name, sha256) in zip(batch.numbers, batch.sources, strict=True):
                check_unchanged((name, self._known[images[number]]), (name, sha256))
            yield from batch.pixels

    def first_of_files(self, images: Sequence[int]) -> list[bool]:
        """Whether each of some images is the first of its file: parts of a photo are much alike. None that is -1 is."""
        seen: set[str | None] = {None}
        found = []
        for image in images:
            file = self._known.get(image)
            found.append(file not in seen)
            seen.add(file)
        return found

    def _entries(self, images: NDArray[np.int64]) -> dict[int, Entry]:
        """The entries of images: a block of the list is read once for all that are in it."""
        found: dict[int, Entry] = {}
        for block in np.unique(images // ROWS).tolist():
            entries = read_entries(self._folder, block * ROWS, (block + 1) * ROWS - 1)
            here = images[images // ROWS == block]
            found |= {image: entries[image - block * ROWS] for image in here.tolist()}
        return found


class _Excited:
    """Where a piece's neurons are excited: of each its photos, the areas of them, and the activations there."""

    def __init__(self, manifest: Manifest, piece: NamePiece, maps: GatheredMaps, ranked: NDArray[np.int64]) -> None:
        rows = np.searchsorted(manifest.units(piece.site), piece.units)
        self.images = ranked[list(piece.units)]
        ranks = np.tile(np.arange(manifest.k), len(rows))
        found, weights = _areas(maps, rows.repeat(manifest.k), ranks, manifest.site(piece.site).extent)
        self.areas = [found[first : first + manifest.k] for first in range(0, len(found), manifest.k)]
        self.weights = weights.reshape(len(rows), manifest.k)

    def crops(self, read: _Reader, size: tuple[int, int]) -> Iterator[list[tuple[Tensor, float]]]:
        """Of each neuron the crops that excite it, and its activation there; a photo is read when it is its turn."""
        excited = (self.weights > 0) & np.array([read.first_of_files(images) for images in self.images.tolist()])
        photos = read(self.images[excited].tolist())
        for neuron, ranks in enumerate(excited):
            yield [
                (cut(next(photos), self.areas[neuron][rank], size), float(self.weights[neuron, rank]))
                for rank in ranks.nonzero()[0]
            ]


def _areas(
    maps: GatheredMaps, rows: NDArray[Any], ranks: NDArray[Any], extent: Extent
) -> tuple[list[Area], NDArray[np.float32]]:
    """Areas of some maps and activations there; 0 where there is no map."""
    low, high = maps.low[rows, ranks], maps.high[rows, ranks]
    span = (high - low)[:, None, None]
    values = low[:, None, None] + maps.levels[rows, ranks].astype(np.float32) / 255 * span
    found, weights = areas(torch.from_numpy(np.nan_to_num(values)), extent)
    return found, np.where(np.isfinite(low), weights, 0).astype(np.float32)


def _sampled(manifest: Manifest, gathering: Gathering, seed: int) -> list[Area]:
    """Areas of neurons' crops: some of each site, as many as its part of the neurons."""
    random = np.random.default_rng(seed)
    found: list[Area] = []
    for site in manifest.sites:
        units = len(manifest.units(site.name))
        if units:
            maps = gathering.of(ACTIVATION, site.name)
            wanted = min(units * manifest.k, max(1, round(_SAMPLE * units / manifest.neurons)))
            chosen = np.sort(random.choice(units * manifest.k, wanted, replace=False))
            of_site, weights = _areas(maps, chosen // manifest.k, chosen % manifest.k, site.extent)
            excited = [area for area, weight in zip(of_site, weights, strict=True) if weight > 0]
            found += excited or of_site
    return found


def _write(path: Path, piece: NamePiece, found: Sequence[Name]) -> None:
    neurons = [
        {
            "unit": unit,
            "words": [[word, float(f"{score:.6g}")] for word, score in name.words],
            "threshold": None if name.threshold is None else float(f"{name.threshold:.6g}"),
        }
        for unit, name in zip(piece.units, found, strict=True)
    ]
    check_folder(path.parent)
    with replacing(path) as partial:
        partial.write_text(json.dumps({"site": piece.site, "neurons": neurons}), encoding="utf-8")
