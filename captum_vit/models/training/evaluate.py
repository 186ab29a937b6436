"""Measures what the embedded models learned: ``python -m captum_vit.models.training.evaluate --photos FOLDER``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
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
from captum_vit.models.training.distill import Precision
from captum_vit.models.training.features import Crops, cached_crops, normalize, squares
from captum_vit.models.training.labelled import category_of_each, labelled_photos
from captum_vit.models.training.photos import fewer_crops, held_out_photos, training_photos
from captum_vit.models.training.students import features, on_grid
from captum_vit.regression import ridge

# Every fourteenth training crop fits the projections: about 2,500 crops, 161,000 patches; as many of a share of them.
_FIT_EVERY = 14
_UNSEEN_CROPS = 8  # of each photo never trained on
_NEAREST = 10
_RIDGE = 1e-3  # of the mean variance of the inputs


@torch.inference_mode()
def outputs(model: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return pooled features, last maps and logits (see `features`) for uint8 pixels ``(N, 3, 64, 64)``."""
    batches = [features(model, normalize(batch)) for batch in pixels.split(256)]
    pooled, maps, logits = (torch.cat(column) for column in zip(*batches, strict=True))
    return pooled, maps, logits


def similarities(tokens: Tensor) -> Tensor:
    """Cosines of rows with standardized channels, ``(N, N)``; of a row with itself, minus infinity."""
    rows = functional.normalize((tokens - tokens.mean(0)) / (tokens.std(0) + 1e-6), dim=-1)
    return (rows @ rows.T).fill_diagonal_(-torch.inf)


def held_of_the_teacher(model: nn.Module, fit: Crops, crops: Mapping[str, Crops]) -> dict[str, float]:
    """Measure how much of the teacher a model's tokens hold: centred cosines on crops it was not trained on.

    Parameters
    ----------
    model
        The student, or the same architecture at random weights.
    fit
        Crops of training photos, on which the linear projections to the teacher's features are fitted.
    crops
        Sets of crops of other photos, by name.

    Returns
    -------
    dict
        Measure -> mean cosine over tokens, in [-1, 1].
    """
    inputs, targets = _tokens(model, fit)
    measures = {}
    for kind in ("class token", "patches"):
        weight, bias = ridge(inputs[kind], targets[kind], _RIDGE)
        mean = targets[kind].mean(0)
        for name, measured in crops.items():
            tokens, teacher = _tokens(model, measured)
            guess = tokens[kind] @ weight + bias
            centred = functional.cosine_similarity(guess - mean, teacher[kind] - mean, dim=-1)
            measures[f"{name}: {kind}"] = float(centred.mean())
    return measures


def _tokens(model: nn.Module, crops: Crops) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Give the model's tokens and the teacher's, by kind, each with a row per token."""
    pooled, maps, _ = outputs(model, crops.pixels)
    patches = on_grid(crops.features[:, 1:].float(), (maps.shape[2], maps.shape[3])).flatten(0, 1)
    tokens = {"class token": pooled, "patches": maps.flatten(2).transpose(1, 2).flatten(0, 1)}
    return tokens, {"class token": crops.features[:, 0].float(), "patches": patches}


def neighbours(tokens: Tensor, teacher: Tensor, category: Tensor) -> dict[str, float]:
    """Measure whether the nearest other photo, by pooled features ``(N, C)``, is one that makes sense.

    Parameters
    ----------
    tokens
        Pooled features of photos.
    teacher
        The teacher's class tokens of them.
    category
        Of each photo, or -1 where no other photo shares it: these photos are neighbours, and are not asked for theirs.

    Returns
    -------
    dict
        Measure -> fraction of photos.
    """
    chosen = similarities(tokens).argmax(1)
    of_teacher = similarities(teacher).topk(_NEAREST, dim=1).indices
    asked = category >= 0
    same = (category[chosen] == category)[asked]
    return {
        "nearest photo shares the category": float(same.float().mean()),
        "nearest photo is of the teacher's ten": float((of_teacher == chosen[:, None]).any(1).float().mean()),
    }


def named(logits: Tensor, category: Tensor) -> dict[str, float]:
    """Give the fractions of photos whose category has the largest logit, and one of the largest five."""
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices == category[:, None]
    return {"head, top-1": float(best[:, 0].float().mean()), "head, top-5": float(best.any(1).float().mean())}


def main(
    photos: Annotated[Path, typer.Option(help="Folder of labelled photos, as used in training.")],
    cache: Annotated[Path, typer.Option(help="Folder for crops and features, as used in training.")] = Path(
        "distill-cache"
    ),
    names: Annotated[list[str] | None, typer.Argument(help="Which embedded models; all when not given.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the training crops.")] = 0,
    share: Annotated[float, typer.Option(min=0.1, max=1, help="Share of each photo's crops, as in training.")] = 1.0,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    precision: Annotated[
        Precision, typer.Option(help="Of the teacher, for crops not in the cache.")
    ] = Precision.float32,
) -> None:
    """Print the measures of embedded models, each beside its architecture at random weights, as a Markdown table."""
    torch.set_num_threads(threads)
    dtype = precision.dtype
    labelled = labelled_photos(photos)
    trained = fewer_crops(training_photos() + labelled.training, share)
    training = cached_crops(trained, seed, cache / "training", dtype)
    every = round(share * _FIT_EVERY)
    fit = Crops(training.pixels[::every], training.features[::every], training.photo[::every])
    others = {"unseen categories": labelled.unseen, "bundled photos": held_out_photos()}
    crops = {
        name: cached_crops([replace(photo, crops=_UNSEEN_CROPS) for photo in group], seed + 1, cache / name, dtype)
        for name, group in others.items()
    }
    unseen, kept = (squares(group, dtype) for group in (labelled.unseen, labelled.kept))
    photos_of = Counter(photo.category for photo in labelled.unseen)
    shared = [category for category, count in photos_of.items() if count > 1]
    of_unseen = torch.tensor(category_of_each(labelled.unseen, shared))
    of_kept = torch.tensor(category_of_each(labelled.kept, labelled.categories))

    def measured(model: nn.Module) -> dict[str, float]:
        pooled, _, _ = outputs(model, unseen.pixels)
        _, _, logits = outputs(model, kept.pixels)
        return {
            **held_of_the_teacher(model, fit, crops),
            **neighbours(pooled, unseen.features[:, 0].float(), of_unseen),
            **named(logits, of_kept),
        }

    rows = {}
    for name in names or MODELS:
        rows[name] = measured(load(name))
        torch.manual_seed(seed + 1)
        rows[f"{name}, random weights"] = measured(MODELS[name].build())
    teacher = unseen.features[:, 0].float()
    rows["the teacher itself"] = neighbours(teacher, teacher, of_unseen)
    table = Table("", *next(iter(rows.values())), box=box.MARKDOWN)
    for name, measures in rows.items():
        table.add_row(
            name,
            *(f"{measures[column.header]:.3f}" if column.header in measures else "" for column in table.columns[1:]),
        )
    Console(width=240).print(table)


if __name__ == "__main__":
    typer.run(main)
