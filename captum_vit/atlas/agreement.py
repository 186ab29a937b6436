"""The agreement of renders with photos, as cards tell it, from the embeddings that an atlas keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_vit.atlas.manifest import Manifest
from captum_vit.atlas.vectors import read_vectors
from captum_vit.cards.agreement import FEWEST, OTHERS, STRONGEST, area_under_curve
from captum_vit.cards.photos import of_different_photos
from captum_vit.ranking.result import TopImages
from captum_vit.storage.part import Part


def evenly(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Up to 128 of some images, evenly spaced: what neurons' strongest photos are told from."""
    chosen = np.linspace(0, len(positions) - 1, min(OTHERS, len(positions))).round().astype(np.int64)
    return np.asarray(np.sort(positions)[np.unique(chosen)], dtype=np.int64)


def read_agreements(folder: Path, manifest: Manifest, top: TopImages) -> dict[str, dict[str, Any]]:
    """What is known of neurons' agreement, as columns of the table, by address.

    Parameters
    ----------
    folder
        The atlas.
    manifest
        Its manifest.
    top
        Its ranking by activation.

    Raises
    ------
    AtlasError
        A file is damaged.
    """
    photos = _photos(folder, manifest)
    others = [image for image in evenly(np.array(list(top.sources))).tolist() if image in photos]
    found: dict[str, dict[str, Any]] = {}
    for piece in manifest.render_pieces():
        renders = read_vectors(folder / piece.vectors)
        if renders is None:
            continue
        for unit, vector in zip(piece.units, renders["vectors"], strict=True):
            address = f"{piece.site}:{unit}"
            strongest = of_different_photos(top.best(address))[:STRONGEST]
            files = {Part.of(image.path).file for image in strongest}
            near = [photos[image.index] for image in strongest if image.index in photos]
            far = [photos[image] for image in others if Part.of(top.sources[image][0]).file not in files]
            if min(len(near), len(far)) >= FEWEST and np.isfinite(vector).all():
                found[address] = {"agreement": _agreement(vector, near, far)}
    return found


def _agreement(vector: NDArray[np.float16], near: list[NDArray[Any]], far: list[NDArray[Any]]) -> float:
    likeness = [np.stack(side).astype(np.float32) @ vector.astype(np.float32) for side in (near, far)]
    return area_under_curve(*likeness)


def _photos(folder: Path, manifest: Manifest) -> Mapping[int, NDArray[np.float16]]:
    """The embeddings of photos, by their numbers."""
    found: dict[int, NDArray[np.float16]] = {}
    for piece in manifest.photo_pieces():
        arrays = read_vectors(folder / piece.vectors)
        if arrays is not None:
            found |= dict(zip(arrays["images"].tolist(), arrays["vectors"], strict=True))
    return found
