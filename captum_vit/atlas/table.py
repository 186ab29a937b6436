"""The table of neurons: a row for each, for pandas, DuckDB, Polars and whatever else reads Parquet."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captum_vit.atlas.agreement import read_agreements
from captum_vit.atlas.classes import Labels
from captum_vit.atlas.entries import SiteEntry
from captum_vit.atlas.manifest import Manifest
from captum_vit.atlas.pieces import RenderPiece, merged_ranking
from captum_vit.atlas.tables import writing
from captum_vit.errors import AtlasError
from captum_vit.ranking.measure import ACTIVATION
from captum_vit.ranking.result import TopImages
from captum_vit.storage.files import shown

FILE = "neurons.parquet"

# Type of each column, in order.
KINDS = {
    "address": "string",
    "site": "dictionary:string",
    "unit": "int32",
    "depth": "int32",
    "live": "bool",
    "natural_maximum": "float32",
    "activation": "float32",
    "worst": "float32",
    "ratio": "float32",
    "worst_ratio": "float32",
    "silenced": "bool",
    "problem": "string",
    "made_by": "dictionary:string",
    "started_from": "string",
    "agreement": "float32",
    "images": "list:int64",
    "image_names": "list:string",
    "activations": "list:float32",
    "relevant_images": "list:int64",
    "relevances": "list:float32",
    "classes": "list:string",
    "class_counts": "list:int32",
    "class_enrichments": "list:float32",
    "class_p_values": "list:float64",
    "word": "string",
    "word_score": "float32",
    "word_threshold": "float32",
    "sheet": "dictionary:string",
    "tile": "int32",
    "tiles": "int32",
}

_OF_RENDERS = ("activation", "worst", "problem", "made_by", "started_from", "sheet", "tile", "tiles")


def write_neurons(folder: Path, manifest: Manifest, *more: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the table, site by site.

    Parameters
    ----------
    folder
        The atlas, with its rankings; renders that are missing leave their columns empty.
    manifest
        Its manifest.
    more
        By address, values of further columns, such as words.

    Raises
    ------
    AtlasError, RankingFileError
        A file is damaged.
    OutputError
        The table cannot be written.
    """
    rankings = {by: TopImages.load(folder / merged_ranking(by)) for by in manifest.rankings}
    labels = Labels.of(folder, manifest)
    more = (read_agreements(folder, manifest, rankings[ACTIVATION]), *more)
    with writing(folder / FILE, KINDS) as write:
        for depth, site in enumerate(manifest.sites):
            rows = list(_rows(folder, manifest, depth, site, rankings, labels, more))
            if rows:
                write({name: [row.get(name) for row in rows] for name in KINDS})


def read_records(folder: Path, piece: RenderPiece) -> list[dict[str, Any]]:
    """The records of a piece's renders, in the order of its units; none if the piece is not done.

    Raises
    ------
    AtlasError
        The file is damaged.
    """
    path = folder / piece.last_file
    try:
        records = json.loads(path.read_text(encoding="utf-8"))["neurons"]
        if [record["unit"] for record in records] == list(piece.units):
            return list(records)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise AtlasError(f"{path} is damaged; delete it, and the same command renders its neurons again")


def is_silenced(problem: str | None) -> bool:
    """Whether what is wrong with a render is that it does not excite its neuron."""
    return problem is not None and problem.startswith(("silenced", "dead"))


def _rows(
    folder: Path,
    manifest: Manifest,
    depth: int,
    site: SiteEntry,
    rankings: Mapping[str, TopImages],
    labels: Labels,
    more: Sequence[Mapping[str, Mapping[str, Any]]],
) -> Iterator[dict[str, Any]]:
    """The rows of a site, by unit."""
    renders = {
        unit: {**record, **_where(piece, place, manifest.pictures.tiles)}
        for piece in manifest.render_pieces()
        if piece.site == site.name
        for place, (unit, record) in enumerate(zip(piece.units, read_records(folder, piece), strict=False))
    }
    for unit in manifest.units(site.name):
        address = f"{site.name}:{unit}"
        best = rankings[ACTIVATION].best(address)
        strongest = best[0].activation if best else math.nan
        made = renders.get(unit, {})
        images = [image.index for image in best]
        row = {
            "address": address,
            "site": site.name,
            "unit": unit,
            "depth": depth,
            "live": strongest > 0,
            "natural_maximum": strongest,
            "images": images,
            "image_names": [shown(image.path) for image in best],
            "activations": [image.activation for image in best],
            **{name: made.get(name) for name in _OF_RENDERS},
            "ratio": _over(made.get("activation"), strongest, manifest),
            "worst_ratio": _over(made.get("worst"), strongest, manifest),
            "silenced": is_silenced(made.get("problem")),
            **labels.counted(images),
            **{name: value for known in more for name, value in known.get(address, {}).items()},
        }
        for by, ranking in rankings.items():
            if by != ACTIVATION:
                relevant = ranking.best(address)
                row["relevant_images"] = [image.index for image in relevant]
                row["relevances"] = [image.value for image in relevant]
        yield row


def _where(piece: RenderPiece, place: int, tiles: int) -> dict[str, Any]:
    """The sheet and tile of a render, by its place in the piece, and how many tiles that sheet has."""
    sheet, tile = divmod(place, tiles)
    return {"sheet": piece.sheet(sheet), "tile": tile, "tiles": min(tiles, piece.amount - sheet * tiles)}


def _over(activation: float | None, strongest: float, manifest: Manifest) -> float | None:
    """An activation over the strongest photo's; None where that cannot be compared."""
    if activation is None or not strongest > 0 or manifest.rankings[ACTIVATION] != "mean":
        return None
    return float(np.float32(activation / strongest))
