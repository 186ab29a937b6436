"""What tells a model's images apart: its own head, or a classifier that is fitted on a part of the folder."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from captum_vit.data.crop import eval_crop
from captum_vit.data.images import open_rgb
from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.studies.heads import features, outputs_of, place_of, scores
from captum_vit.studies.passes import Measured, Notes, measure_images
from captum_vit.studies.readouts import linear_probe, nearest_neighbours

OWN, PROBE, NEIGHBOURS, AUTO = KINDS = ("own", "probe", "neighbours", "auto")
ONLY_ONE = "the only image of its class, which a classifier cannot both learn and be tested on"
FITTED = "the classifier was fitted on it"


@dataclass(frozen=True)
class Classifier:
    """Scores of classes for images, and which images may be classified.

    Attributes
    ----------
    scores
        From images as the model expects them, ``(B, 3, H, W)``, to a score for each class, ``(B, classes)``.
    targets
        The place of each label among the scores.
    files
        Images to be classified, and their labels.
    left_out
        Images that are not, and why.
    words
        What it is, for the record.
    of_features
        From features, ``(..., C)``, to scores, of a classifier that was fitted; None of the model's own head.
    """

    scores: Callable[[Tensor], Tensor]
    targets: Mapping[str, int]
    files: Mapping[str, str]
    left_out: Mapping[str, str]
    words: str
    of_features: Callable[[Tensor], Tensor] | None = None


def find_classifier(
    vit: AdaptedModel,
    labels: Mapping[str, str],
    kind: str = AUTO,
    *,
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = True,
    notes: Notes | None = None,
) -> Classifier:
    """The model's own head where it knows all the folder's labels, or else one that is fitted on its features.

    Parameters
    ----------
    vit
        The adapted model.
    labels
        Image files and their labels: names of classes, WordNet's numbers (``n02084071``) or both (``n02084071_dog``).
    kind
        ``"own"``, the model's head; ``"probe"``, ridge regression of the classes, one against the rest;
        ``"neighbours"``, the vote of the 20 nearest images (:func:`captum_vit.studies.readouts.nearest_neighbours`); or
        ``"auto"``, the head if it knows the labels, or else a probe. Probe and neighbours have the features that the
        head reads, of half of each class's images; the other half is what they may be tested on, the same for both.
    seed
        Draws the halves.
    batch_size
        Images in a forward pass.
    progress
        Whether to show a bar.
    notes
        Where the features that a classifier is fitted on are kept until all are there.

    Raises
    ------
    StudyError
        There is no such kind, the head does not know a label, the model gives no features, or no two classes have two
        images that can be read.
    """
    if kind not in KINDS:
        raise StudyError(f'no classifier "{kind}"; use {", ".join(KINDS)}')
    if kind in (OWN, AUTO):
        outputs = outputs_of(vit)
        found = {label: place for label in set(labels.values()) if (place := place_of(label, outputs)) is not None}
        unknown = sorted(set(labels.values()) - set(found))
        if not unknown:
            return Classifier(partial(scores, vit), found, dict(labels), {}, "its own head")
        if kind == OWN:
            more = f" and {len(unknown) - 1} more of the folder's labels" if unknown[1:] else ""
            raise StudyError(
                f'the head of {vit.model_name} does not know "{unknown[0]}"{more}; fit one on the folder with '
                f"classifier {PROBE} or {NEIGHBOURS}"
            )
    fit, test, left_out = split(labels, seed)
    classes = sorted(set(fit.values()))
    if len(classes) < 2:
        raise StudyError(
            "a classifier needs two classes with two images each; put images into folders named after them"
        )
    measured = _features_of(vit, list(fit), batch_size, progress, notes)
    targets = {label: place for place, label in enumerate(classes)}
    places = torch.tensor([targets[fit[file]] for file in measured.used], device=vit.device)
    if len(places.unique()) < 2:
        raise StudyError("images of two classes are needed to fit a classifier, and can be read of fewer")
    fitted = nearest_neighbours if kind == NEIGHBOURS else linear_probe
    readout = fitted(torch.from_numpy(measured.values["features"]).to(vit.device), places, len(classes))
    left_out |= {**dict.fromkeys(measured.used, FITTED), **measured.left_out}
    return Classifier(
        lambda images: readout.scores(features(vit, images)), targets, test, left_out, readout.words, readout.scores
    )


def _features_of(
    vit: AdaptedModel, files: Sequence[str], batch_size: int, progress: bool, notes: Notes | None
) -> Measured:
    """What the head reads of image files, ``(N, C)``, by the name ``features``."""
    crop = eval_crop(vit)
    return measure_images(
        files,
        lambda file: crop(open_rgb(file)),
        lambda pixels, _: {"features": features(vit, vit.preprocessing.normalize(pixels.to(vit.device, vit.dtype)))},
        title="Fitting a classifier",
        batch_size=batch_size,
        progress=progress,
        notes=notes,
    )


def split(labels: Mapping[str, str], seed: int) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Half of each class's files, drawn by the seed; the other half; and those left out, with the reason."""
    fit: dict[str, str] = {}
    test: dict[str, str] = {}
    left_out: dict[str, str] = {}
    of_class: dict[str, list[str]] = {}
    for file, label in labels.items():
        of_class.setdefault(label, []).append(file)
    for label, files in of_class.items():
        if len(files) < 2:
            left_out[files[0]] = ONLY_ONE
            continue
        drawn = random.Random(f"{seed} {label}").sample(files, len(files) // 2)
        fit |= dict.fromkeys(drawn, label)
        test |= {file: label for file in files if file not in set(drawn)}
    return fit, test, left_out
