"""The agreement of renders with photos, as cards tell it, from the embeddings that an atlas keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from captum_vit.atlas.manifest import Manifest
from captum_vit.atlas.vectors import read_vectors
from captum_vit.cards.agreement import STRONGEST, area_under_curve, others_of, two_sides
from captum_vit.cards.photos import of_different_photos
from captum_vit.ranking.result import TopImages


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
    others = others_of(top)
    found: dict[str, dict[str, Any]] = {}
    for piece in manifest.render_pieces():
        renders = read_vectors(folder / piece.vectors)
        if renders is None:
            continue
        for unit, vector in zip(piece.units, renders["vectors"], strict=True):
            address = f"{piece.site}:{unit}"
            strongest = of_different_photos(top.best(address))[:STRONGEST]
            sides = two_sides(strongest, others, photos)
            if sides is not None and np.isfinite(vector).all():
                found[address] = {"agreement": _agreement(vector, *sides)}
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
