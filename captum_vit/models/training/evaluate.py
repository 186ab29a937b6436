"""Measures what an embedded model learned: ``python -m captum_vit.models.training.evaluate --cache distill-cache``."""

from __future__ import annotations

from collections.abc import Callable
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
from captum_vit.models.training.distill import CROPS_PER_PHOTO, new_run
from captum_vit.models.training.features import Crops, cached_crops, normalize
from captum_vit.models.training.photos import held_out_photos, training_photos

_FIT_EVERY = 8  # every eighth training crop fits the projections: 2520 crops, 161,280 patches
_RIDGE = 1e-3  # of the mean variance of the inputs


@torch.inference_mode()
def last_tokens(model: nn.Module, pixels: Tensor) -> Tensor:
    """Return the normalized last tokens ``(N, 65, width)`` for uint8 pixels ``(N, 3, 64, 64)``."""
    batches = pixels.split(256)
    forward_features: Callable[[Tensor], Tensor] = model.forward_features  # type: ignore[assignment]
    return torch.cat([forward_features(normalize(batch)) for batch in batches])


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


def evaluate(model: nn.Module, fit: Crops, unseen: Crops, held_out: Crops) -> dict[str, float]:
    """Measure how much of the teacher a model's tokens hold.

    Parameters
    ----------
    model
        The student, or the same architecture at random weights.
    fit
        Crops of training photos, on which the linear projections to the teacher's features are fitted.
    unseen
        Crops of photos that no model was trained on.
    held_out
        Crops of training photos that were not trained on (they overlap with ones that were).

    Returns
    -------
    dict
        Measure -> value in [-1, 1]; cosines are means over tokens, the others are fractions of crops.
    """
    fitted, tokens, own = (last_tokens(model, crops.pixels) for crops in (fit, unseen, held_out))
    measures = {}
    for kind, part in (("class token", slice(0, 1)), ("patch tokens", slice(1, None))):
        target = unseen.features[:, part].float().flatten(0, 1)
        projection = Ridge(fitted[:, part].flatten(0, 1), fit.features[:, part].float().flatten(0, 1))
        guess, mean = projection(tokens[:, part].flatten(0, 1)), projection.target_mean
        measures[f"{kind}: cosine"] = float(functional.cosine_similarity(guess, target, dim=-1).mean())
        centred = functional.cosine_similarity(guess - mean, target - mean, dim=-1)
        measures[f"{kind}: cosine, centred"] = float(centred.mean())
    teacher, student = unseen.features[:, 0].float(), tokens[:, 0]
    for label, other in (("any photo", False), ("another photo", True)):
        agree = nearest(student, unseen.photo, other_photos=other) == nearest(teacher, unseen.photo, other_photos=other)
        measures[f"nearest crop of {label} is the teacher's"] = float(agree.float().mean())
    same = unseen.photo[nearest(student, unseen.photo, other_photos=False)] == unseen.photo
    measures["nearest crop is of the same photo"] = float(same.float().mean())
    with torch.inference_mode():
        logits = model.forward_head(own)  # type: ignore[operator]
    measures["exemplar head, top-1"] = float((logits.argmax(1) == held_out.photo).float().mean())
    probe = Ridge(fitted[:, 0], functional.one_hot(fit.photo).float())
    measures["exemplar by linear probe, top-1"] = float((probe(own[:, 0]).argmax(1) == held_out.photo).float().mean())
    return measures


def mean_only(fit: Crops, unseen: Crops) -> dict[str, float]:
    """Measure the cosines that need no model: with the training crops' mean feature."""
    measures = {}
    for kind, part in (("class token", slice(0, 1)), ("patch tokens", slice(1, None))):
        mean = fit.features[:, part].float().mean((0, 1))
        target = unseen.features[:, part].float()
        measures[f"{kind}: cosine"] = float(functional.cosine_similarity(target, mean, dim=-1).mean())
    return measures


def main(
    cache: Annotated[Path, typer.Option(help="Folder for crops and features, as used in training.")],
    name: Annotated[str, typer.Option(help="Which embedded model.")] = "deit_micro",
    seed: Annotated[int, typer.Option(help="Seed of the training crops.")] = 0,
    checkpoint: Annotated[Path | None, typer.Option(help="Also measure this checkpoint, in float32.")] = None,
    threads: Annotated[int, typer.Option(min=1)] = 2,
) -> None:
    """Print the measures of an embedded model and of the same architecture at random weights, as a Markdown table."""
    torch.set_num_threads(threads)
    training = cached_crops(training_photos(), CROPS_PER_PHOTO, seed, cache / "training")
    held_out = cached_crops(training_photos(), 40, seed + 1, cache / "held-out-crops")
    unseen = cached_crops(held_out_photos(), 100, seed + 2, cache / "held-out-photos")
    fit = Crops(training.pixels[::_FIT_EVERY], training.features[::_FIT_EVERY], training.photo[::_FIT_EVERY])
    torch.manual_seed(seed + 1)
    results = {
        "trained": evaluate(load(name), fit, unseen, held_out),
        "random weights": evaluate(MODELS[name].build(), fit, unseen, held_out),
        "mean feature": mean_only(fit, unseen),
    }
    if checkpoint is not None:
        run = new_run(name, training, seed)
        run.resume(checkpoint)
        results["trained, float32"] = evaluate(run.model.student.eval(), fit, unseen, held_out)
    table = Table("", *results, box=box.MARKDOWN)
    for measure in results["trained"]:
        table.add_row(measure, *(f"{r[measure]:.3f}" if measure in r else "" for r in results.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
