"""Renders: a piece of them, some units of one site, as sheets of tiles and a file of records."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from captum_vit.atlas.accentuation import accentuated
from captum_vit.atlas.pieces import RenderPiece, ranges
from captum_vit.atlas.sheets import as_tile, write_sheet
from captum_vit.atlas.vectors import write_vectors
from captum_vit.atlas.worker import Advance, Worker
from captum_vit.cards.embedding import at_input_size, embed
from captum_vit.optvis.rendering import render_batches
from captum_vit.optvis.results import Render
from captum_vit.storage.files import check_folder, replacing

# Of the history of a render, at most so many steps are kept, evenly spread.
_KEPT_STEPS = 32


def render(worker: Worker, piece: RenderPiece, advance: Advance) -> None:
    """Do a piece of the renders."""
    pictures, batch_size = worker.manifest.pictures, worker.manifest.work.units_a_batch
    addresses = [f"{piece.site}:{unit}" for unit in piece.units]
    tiles: dict[int, NDArray[np.uint8]] = {}
    records: dict[int, dict[str, Any]] = {}
    vectors: dict[int, NDArray[np.float16]] = {}
    # The piece is counted in neurons, and a contending recipe's steps may be fewer than the plan's.
    progress = _Steps(worker.plan.steps, advance)
    for batch in render_batches(worker.vit, addresses, worker.plan, batch_size=batch_size, on_step=progress):
        finished = []
        for place, tried in batch.items():
            made, started_from = accentuated(worker, tried, piece.site, piece.units[place])
            tiles[place] = as_tile(made.image, pictures.render_size)
            records[place] = _record(piece.units[place], made, started_from)
            finished.append(made)
        vectors |= dict(zip(batch, _embedded(worker, finished), strict=False))
    check_folder((worker.folder / piece.last_file).parent)
    places = range(len(addresses))
    for number, (first, last) in enumerate(ranges(len(addresses), pictures.tiles)):
        some = [tiles[place] for place in places[first : last + 1]]
        write_sheet(worker.folder / piece.sheet(number), some, pictures.columns, pictures.render_quality)
    if vectors:
        write_vectors(worker.folder / piece.vectors, vectors=np.stack([vectors[place] for place in places]))
    content = {
        "site": piece.site,
        "made_with": {name: worker.plan.settings[name] for name in ("device", "versions")},
        "neurons": [records[place] for place in places],
    }
    # The records come last: where they are, the piece is done.
    with replacing(worker.folder / piece.last_file) as partial:
        partial.write_text(json.dumps(content), encoding="utf-8")


def _embedded(worker: Worker, renders: Sequence[Render]) -> NDArray[np.float16]:
    """Embeddings of finished images at the model's input size, ``(N, D)``; none if the model gives none."""
    pixels = torch.stack([torch.from_numpy(np.nan_to_num(made.image)).permute(2, 0, 1) for made in renders])
    found = embed(worker.vit, at_input_size(worker.vit, pixels))
    return np.zeros((0, 0), dtype=np.float16) if found is None else found[0].numpy().astype(np.float16)


class _Steps:
    """Counts steps of neurons until they make whole neurons."""

    def __init__(self, steps: int, advance: Advance) -> None:
        self._steps, self._advance, self._taken = steps, advance, 0

    def __call__(self, neurons: int) -> None:
        before = self._taken // self._steps
        self._taken += neurons
        if more := self._taken // self._steps - before:
            self._advance(more)


def _record(unit: int, made: Render, started_from: str | None) -> dict[str, Any]:
    """What is known of a render beside its pixels; numbers in seven digits, as single precision has."""
    stride = -(-len(made.history) // _KEPT_STEPS)
    return {
        "unit": unit,
        "activation": _number(made.activation, 7),
        "start": _number(made.start, 7),
        "worst": _number(made.worst, 7),
        "made_by": made.made_by,
        "started_from": started_from,
        "problem": made.problem,
        "history_stride": stride,
        "history": [_number(float(value), 4) for value in made.history[::stride]],
    }


def _number(value: float, digits: int) -> float | None:
    """A number as JSON holds it: None where it is not finite."""
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None
