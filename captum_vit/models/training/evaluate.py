"""Measures what the embedded models learned: ``python -m captum_vit.models.training.evaluate --cache FOLDER``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from captum_vit.models import load
from captum_vit.models.registry import MODELS
from captum_vit.models.training.distill import CROPS_PER_PHOTO, Precision
from captum_vit.models.training.features import Crops, cached_crops, normalize
from captum_vit.models.training.photos import held_out_photos, reserved_parts, training_photos
from captum_vit.models.training.students import features, on_grid

_FIT_EVERY = 8  # every eighth training crop fits the projections: 2520 crops, 161,280 patches
_RIDGE = 1e-3  # of the mean variance of the inputs


@torch.inference_mode()
def outputs(model: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return pooled features, last maps and logits (see `features`) for uint8 pixels ``(N, 3, 64, 64)``."""
    batches = [features(model, normalize(batch)) for batch in pixels.split(256)]
    pooled, maps, logits = (torch.cat(column) for column in zip(*batches, strict=True))
    return pooled, maps, logits


class Ridge:
    """Linear map with an intercept, by ridge regression on rows."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.input_mean, self.target_mean = inputs.mean(0), targets.mean(0)
        centred = (inputs - self.input_mean).double()
        gram = centred.T @ centred
        gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        solution: Tensor = torch.linalg.solve(gram, centred.T @ (targets - self.target_mean).double())
        self.weight = solution.float()

    def __call__(self, inputs: Tensor) -> Tensor:
        """Map rows."""
        return (inputs - self.input_mean) @ self.weight + self.target_mean


def nearest(tokens: Tensor, photo: Tensor, *, other_photos: bool) -> Tensor:
    """For each row, the index of the nearest other row by cosine about the mean, optionally of other photos only."""
    rows = functional.normalize(tokens - tokens.mean(0), dim=-1)
    similarity = rows @ rows.T
    excluded = photo[:, None] == photo if other_photos else torch.eye(len(rows), dtype=torch.bool)
    return similarity.masked_fill(excluded, -torch.inf).argmax(1)


def evaluate(model: nn.Module, fit: Crops, unseen: Crops, reserved: Crops) -> dict[str, float]:
    """Measure how much of the teacher a model's tokens hold.

    Parameters
    ----------
    model
        The student, or the same architecture at random weights.
    fit
        Crops of training photos, on which the linear projections to the teacher's features are fitted.
    unseen
        Crops of photos that no model was trained on.
    reserved
        Crops of the reserved parts of the training photos, which no model was trained on.

    Returns
    -------
    dict
        Measure -> value in [-1, 1]; cosines are means over tokens, the others are fractions of crops.
    """
    grid = (8, 8)
    tokens, targets = {}, {}
    for name, crops in (("fit", fit), ("unseen", unseen)):
        pooled, maps, _ = outputs(model, crops.pixels)
        grid = (maps.shape[2], maps.shape[3])
        tokens[name] = {"class token": pooled, "patches": maps.flatten(2).transpose(1, 2).flatten(0, 1)}
        patches = on_grid(crops.features[:, 1:].float(), grid).flatten(0, 1)
        targets[name] = {"class token": crops.features[:, 0].float(), "patches": patches}
    measures = {}
    for kind in ("class token", "patches"):
        projection = Ridge(tokens["fit"][kind], targets["fit"][kind])
        guess, mean = projection(tokens["unseen"][kind]), projection.target_mean
        centred = functional.cosine_similarity(guess - mean, targets["unseen"][kind] - mean, dim=-1)
        measures[f"{kind}: cosine"] = float(functional.cosine_similarity(guess, targets["unseen"][kind], dim=-1).mean())
        measures[f"{kind}: cosine, centred"] = float(centred.mean())
    teacher, student = targets["unseen"]["class token"], tokens["unseen"]["class token"]
    for label, other in (("any photo", False), ("another photo", True)):
        agree = nearest(student, unseen.photo, other_photos=other) == nearest(teacher, unseen.photo, other_photos=other)
        measures[f"nearest crop of {label} is the teacher's"] = float(agree.float().mean())
    same = unseen.photo[nearest(student, unseen.photo, other_photos=False)] == unseen.photo
    measures["nearest crop is of the same photo"] = float(same.float().mean())
    pooled, _, logits = outputs(model, reserved.pixels)
    measures["exemplar head, top-1"] = float((logits.argmax(1) == reserved.photo).float().mean())
    probe = Ridge(tokens["fit"]["class token"], functional.one_hot(fit.photo).float())
    measures["exemplar by linear probe, top-1"] = float((probe(pooled).argmax(1) == reserved.photo).float().mean())
    return measures


def main(
    cache: Annotated[Path, typer.Option(help="Folder for crops and features, as used in training.")],
    names: Annotated[list[str] | None, typer.Argument(help="Which embedded models; all when not given.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the training crops.")] = 0,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    precision: Annotated[
        Precision, typer.Option(help="Of the teacher, for crops not in the cache.")
    ] = Precision.float32,
) -> None:
    """Print the measures of embedded models, each beside its architecture at random weights, as a Markdown table."""
    torch.set_num_threads(threads)
    training = cached_crops(training_photos(), CROPS_PER_PHOTO, seed, cache / "training", precision.dtype)
    reserved = cached_crops(reserved_parts(), 40, seed + 1, cache / "reserved-parts", precision.dtype)
    unseen = cached_crops(held_out_photos(), 100, seed + 2, cache / "held-out-photos", precision.dtype)
    fit = Crops(training.pixels[::_FIT_EVERY], training.features[::_FIT_EVERY], training.photo[::_FIT_EVERY])
    rows = {}
    for name in names or MODELS:
        rows[name] = evaluate(load(name), fit, unseen, reserved)
        torch.manual_seed(seed + 1)
        rows[f"{name}, random weights"] = evaluate(MODELS[name].build(), fit, unseen, reserved)
    table = Table("", *next(iter(rows.values())), box=box.MARKDOWN)
    for name, measures in rows.items():
        table.add_row(name, *(f"{value:.3f}" for value in measures.values()))
    Console(width=240).print(table)


if __name__ == "__main__":
    typer.run(main)
