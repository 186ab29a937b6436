"""Rankings: a piece of them over some images, and the exact ranking over all that the pieces give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from captum_vit.atlas.images import read_entries
from captum_vit.atlas.manifest import Manifest
from captum_vit.atlas.pieces import RankingPiece, merged_ranking
from captum_vit.atlas.worker import Advance, Worker
from captum_vit.ranking.measure import ACTIVATION, find_reduction
from captum_vit.ranking.ranker import Ranker
from captum_vit.ranking.result import TopImages
from captum_vit.ranking.topk import UnitRanking
from captum_vit.storage.files import check_folder


def rank(worker: Worker, piece: RankingPiece, advance: Advance) -> None:
    """Do a piece of a ranking: one pass over its images for all sites of the model."""
    manifest, vit = worker.manifest, worker.vit
    reduction = manifest.rankings[piece.by]
    empty = {
        site.name: UnitRanking.empty(site.units, manifest.k, with_patches=reduction == "max") for site in manifest.sites
    }
    ranker = Ranker(vit, find_reduction(reduction, piece.by), empty, by=piece.by)
    entries = read_entries(worker.folder, piece.first, piece.last)
    sources: dict[int, tuple[str, str]] = {}
    skipped: list[str] = []
    for batch in worker.photos.batches(entries, manifest.work.images_a_batch):
        if batch.pixels is not None:
            ranker.add(vit.preprocessing.normalize(batch.pixels), batch.numbers)
        sources.update(zip(batch.numbers, batch.sources, strict=True))
        skipped += batch.skipped
        advance(len(batch.numbers) + len(batch.skipped))
    ranking = TopImages(
        k=manifest.k,
        reduction=reduction,
        images=len(sources),
        positions=len(entries),
        skipped=tuple(skipped),
        settings=_settings(manifest, piece.by),
        units=ranker.units(),
        sources=sources,
    )
    path = worker.folder / piece.last_file
    check_folder(path.parent)
    ranking.save(path)


def merge(folder: Path, manifest: Manifest, by: str) -> None:
    """Make the ranking over all images from its pieces, which are then not needed any more.

    Raises
    ------
    OutputError
        A file cannot be written.
    RankingFileError
        A piece is missing or damaged.
    """
    merged = folder / merged_ranking(by)
    if not merged.exists():
        first, *others = (folder / piece.last_file for piece in manifest.ranking_pieces() if piece.by == by)
        ranking = TopImages.load(first)
        for path in others:
            ranking = ranking.merge(TopImages.load(path))
        ranking.save(merged)
    drop_merged(folder, manifest)


def drop_merged(folder: Path, manifest: Manifest) -> None:
    """Take away pieces of rankings that are merged; a worker that all took for dead may have written one since."""
    for piece in manifest.ranking_pieces():
        if (folder / merged_ranking(piece.by)).exists():
            (folder / piece.last_file).unlink(missing_ok=True)


def ranked_positions(folder: Path, by: str, sites: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Of the ranking over all images, which are the best of each unit, ``(units, k)``; -1 where there are fewer."""
    with safe_open(folder / merged_ranking(by), framework="numpy") as file:
        return {site: file.get_tensor(f"{site}/positions") for site in sites}


def strongest(folder: Path, site: str, unit: int) -> tuple[int, float]:
    """The image that excites a unit most, and the activation on it; -1 and -inf where there is none."""
    with safe_open(folder / merged_ranking(ACTIVATION), framework="numpy") as file:
        position, activation = (file.get_slice(f"{site}/{name}")[unit, 0] for name in ("positions", "activations"))
    return int(position), float(activation)


def ranked_images(folder: Path) -> NDArray[np.int64]:
    """Which images are among the best of any unit of the model by activation, ascending."""
    with safe_open(folder / merged_ranking(ACTIVATION), framework="numpy") as file:
        return np.asarray(file.get_tensor("sources/positions"), dtype=np.int64)


def ranked_sha256(folder: Path, manifest: Manifest, first: int, last: int) -> dict[int, str]:
    """SHA-256 of those images of a range that are in a ranking, by their positions."""
    found: dict[int, str] = {}
    for by in manifest.rankings:
        with safe_open(folder / merged_ranking(by), framework="numpy") as file:
            positions, digests = file.get_tensor("sources/positions"), file.get_tensor("sources/sha256")
        here = ((positions >= first) & (positions <= last)).nonzero()[0]
        digests = digests.reshape(-1, 32)
        found |= {int(positions[place]): digests[place].tobytes().hex() for place in here}
    return found


def _settings(manifest: Manifest, by: str) -> dict[str, Any]:
    """What :func:`captum_vit.top_images` records of the model, so that cards take the ranking too."""
    model: Mapping[str, Any] = manifest.model
    settings = {name: model[name] for name in ("model", "weights_sha256", "size", "mean", "std", "origin")}
    settings["versions"] = {name: manifest.renders["versions"][name] for name in ("captum-vit", "timm", "torch")}
    return settings if by == ACTIVATION else {**settings, "by": by}
