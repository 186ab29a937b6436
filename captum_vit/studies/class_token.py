"""The study of the class token: when it meets the patches, and when it has read of them what it needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from captum_vit.data.crop import eval_crop
from captum_vit.data.images import open_rgb
from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.studies.classifier import Classifier
from captum_vit.studies.drawing import finish, panels, percent
from captum_vit.studies.isolation import Isolation
from captum_vit.studies.keeping import Kept
from captum_vit.studies.measuring import WHOLE, Classification, Scored, accuracies, check_asked, columns_of, labels_of
from captum_vit.studies.study import Row, Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CUT_OFF, ALONE = "cut off until", "alone from"


def class_token(
    vit: AdaptedModel,
    images: str | Path | Mapping[str, str],
    *,
    name: str | None = None,
    blocks: Sequence[int] | None = None,
    classifier: str = "auto",
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = True,
    keep: str | Path | None = None,
) -> Study:
    """Accuracy where the class token is cut off from the patches in early, or in late blocks (Ghiasi et al. 2022).

    Cut off until block n, it neither attends to the patches nor is attended to in the blocks before that: both go their
    ways by themselves, and meet at block n. Alone from block n, it sees itself only in that block and all behind it.

    Parameters
    ----------
    vit
        The adapted model. A distillation token that a head reads is treated as the class token is; register tokens go
        with the patches.
    images
        A folder with a folder for each class, or files and their labels.
    name
        What the table calls the model; its class when not given.
    blocks
        The numbers n, from 0 to the number of blocks that the class token passes; all when not given. Cut off until 0,
        or alone from the last number, the model is as it is.
    classifier, seed, batch_size, progress, keep
        As for :func:`captum_vit.studies.frequency`. Probe and neighbours are those of the model as it is.

    Returns
    -------
    Study
        A row for the model as it is, and one for each condition and block; ``site`` is the block's name.

    Raises
    ------
    StudyError
        The model has no class token, does not classify by it alone, or has no block of that number; no image can be
        used, or there is no classifier.
    LabelError
        An image is in no folder that is named after its class.
    """
    check_asked(vit, batch_size)
    asked = Classification(vit, labels_of(images), classifier, seed, batch_size, progress)
    isolation = Isolation(vit)
    depth = len(isolation.blocks)
    numbers = sorted(set(range(depth + 1) if blocks is None else blocks))
    if not numbers or not all(isinstance(number, int) and 0 <= number <= depth for number in numbers):
        raise StudyError(
            f"blocks={list(numbers)}; the class token of {vit.model_name} passes {depth}: give 0 to {depth}"
        )
    settings = {
        # What was asked, and not what it comes to: models of other depths have other numbers.
        "blocks": None if blocks is None else numbers,
        **asked.settings,
    }
    kept = Kept(keep, "class-token", vit, name, settings)
    if kept.done is not None:
        return kept.done
    crop = eval_crop(vit)
    views = {f"{condition} {number}": (condition, number) for condition in (CUT_OFF, ALONE) for number in numbers}

    def scored(pixels: Tensor, found: Classifier) -> Iterator[Scored]:
        images = vit.preprocessing.normalize(pixels.to(vit.dtype))
        own = found.scores(images)
        yield WHOLE, own, None
        for view, (condition, number) in views.items():
            if number == (0 if condition == CUT_OFF else depth):  # nothing is masked
                yield view, own, None
                continue
            with isolation.cut_off(number) if condition == CUT_OFF else isolation.alone(number):
                scores = found.scores(images)
            yield view, scores, None

    hits = asked.measure(lambda file: crop(open_rgb(file)), scored, kept)
    rows: list[Row] = [
        {
            "parameters": kept.facts["parameters"],
            "class token": condition,
            "block": number,
            "site": None if number in (None, depth) else isolation.blocks[number].name,
            **accuracies(hits, view, seed),
        }
        for view, (condition, number) in {WHOLE: ("as it is", None), **views}.items()
    ]
    return kept.finish(rows, {**hits.facts, "blocks": depth}, columns_of())


def draw(study: Study) -> Figure:
    """Accuracy by block: the class token cut off until it to the left, alone from it to the right."""
    figure, axes = panels(2, sharey=True)
    for ax, condition in zip(axes, (CUT_OFF, ALONE), strict=True):
        for number, model in enumerate(study.models):
            rows = [row for row in study.rows if row["model"] == model and row["class token"] == condition]
            blocks = [row["block"] for row in rows]
            ax.plot(blocks, percent(rows, "top-1"), marker="o", color=f"C{number}", label=model)
            ends = percent(rows, "low top-1"), percent(rows, "high top-1")
            ax.fill_between(blocks, *ends, color=f"C{number}", alpha=0.2, linewidth=0)
        ax.set_xlabel(f"class token {condition} block")
    finish(axes, "top-1, %")
    return figure
