"""The study of pooling: what a classifier that was trained on the class token makes of the patches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from captum_vit.data.crop import eval_crop
from captum_vit.data.images import open_rgb
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.studies.classifier import Classifier
from captum_vit.studies.drawing import panels, percent
from captum_vit.studies.keeping import Kept
from captum_vit.studies.measuring import Classification, Hits, Scored, accuracies, check_asked, columns_of, labels_of
from captum_vit.studies.study import Row, Study
from captum_vit.studies.tokens import TokenReader

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLASS_TOKEN, MEAN, EACH = "class token", "mean of patches", "single patches"
MIDDLE, BEST, ANY = "patch in the middle", "best patch", "any patch"
_MAPS = "top-1 by position"


def pooling(
    vit: AdaptedModel,
    images: str | Path | Mapping[str, str],
    *,
    name: str | None = None,
    classifier: str = "auto",
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = True,
    keep: str | Path | None = None,
) -> Study:
    """Accuracy of the class token's classifier on the patches, together and one by one (Ghiasi et al. 2022, Table 1).

    Parameters
    ----------
    vit
        The adapted model, which classifies by its class token.
    images
        A folder with a folder for each class, or files and their labels.
    name
        What the table calls the model; its class when not given.
    classifier, seed, batch_size, progress, keep
        As for :func:`captum_vit.studies.frequency`. Probe and neighbours are by the class token.

    Returns
    -------
    Study
        A row for each thing that the classifier reads: the class token; the mean of the patches, each normalized as the
        class token is; single patches, on average over positions; the patch in the middle; that of the position with
        the best top-1, which is chosen on the same images; and any patch, by which an image is classified rightly if
        one of its patches is. The record has the accuracy by position, ``(rows, columns)``.

    Raises
    ------
    StudyError
        The model has no class token, or classifies by more than that; no image can be used, or there is no classifier.
    LabelError
        An image is in no folder that is named after its class.
    """
    check_asked(vit, batch_size)
    asked = Classification(vit, labels_of(images), classifier, seed, batch_size, progress)
    reader = TokenReader(vit)
    kept = Kept(keep, "pooling", vit, name, asked.settings)
    if kept.done is not None:
        return kept.done
    crop = eval_crop(vit)

    def scored(pixels: Tensor, found: Classifier) -> Iterator[Scored]:
        tokens = reader.read(vit.preprocessing.normalize(pixels.to(vit.dtype)))
        patches = tokens.patches.flatten(1, 2)
        yield CLASS_TOKEN, reader.scores(tokens.heads, found), None
        yield MEAN, reader.scores(patches.mean(1, keepdim=True), found), None
        yield EACH, reader.scores(patches.flatten(0, 1)[:, None], found).unflatten(0, patches.shape[:2]), None

    hits = asked.measure(lambda file: crop(open_rgb(file)), scored, kept, whole=CLASS_TOKEN)
    rows, columns = reader.grid
    by_position = hits.top1[EACH].mean(0)
    best = int(by_position.argmax())
    chosen = {MIDDLE: rows // 2 * columns + columns // 2, BEST: best}
    hits = _with_chosen(hits, chosen)
    table: list[Row] = [
        {
            "parameters": kept.facts["parameters"],
            "classifier on": read,
            "position": f"{chosen[read] // columns},{chosen[read] % columns}" if read in chosen else None,
            **accuracies(hits, read, seed, CLASS_TOKEN),
        }
        for read in (CLASS_TOKEN, MEAN, EACH, *chosen, ANY)
    ]
    facts = {**hits.facts, _MAPS: by_position.reshape(rows, columns).tolist()}
    return kept.finish(table, facts, columns_of(CLASS_TOKEN))


def _with_chosen(hits: Hits, chosen: Mapping[str, int]) -> Hits:
    """What is said of single positions, and of any of them."""

    def with_chosen(right: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        single = {name: right[EACH][:, position] for name, position in chosen.items()}
        return {**right, **single, ANY: np.any(right[EACH], axis=1)}

    return replace(hits, top1=with_chosen(hits.top1), top5=with_chosen(hits.top5))


def draw(study: Study) -> Figure:
    """Top-1 by what the classifier reads, and for each model a map of it by position."""
    figure, axes = panels(1 + len(study.models))
    height = 0.8 / len(study.models)
    read = list(dict.fromkeys(str(row["classifier on"]) for row in study.rows))
    highest = max(100 * np.max(facts[_MAPS]) for facts in study.models.values())  # one scale for all
    for number, (model, facts) in enumerate(study.models.items()):
        rows = [row for row in study.rows if row["model"] == model]
        places = [place + (number - (len(study.models) - 1) / 2) * height for place in range(len(read))]
        axes[0].barh(places, percent(rows, "top-1"), height, color=f"C{number}", label=model)
        shown = axes[1 + number].imshow(100 * np.array(facts[_MAPS]), vmin=0, vmax=highest)
        figure.colorbar(shown, ax=axes[1 + number], label="top-1 of a single patch, %")
        axes[1 + number].set_title(model)
    axes[0].set_yticks(range(len(read)), read)
    axes[0].invert_yaxis()
    axes[0].set_xlabel("top-1, %")
    axes[0].spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    return figure
