"""What tells a model's images apart: its own head, or a linear probe that is fitted on a part of the folder."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from captum_vit.data.crop import eval_crop
from captum_vit.data.images import open_rgb
from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.studies.heads import features, outputs_of, place_of, scores
from captum_vit.studies.passes import Notes, measure_images

OWN, PROBE, AUTO = "own", "probe", "auto"
# Of the mean variance of the features.
RIDGE = 0.1
ONLY_ONE = "the only image of its class, which a probe cannot both learn and be tested on"
FITTED = "the probe was fitted on it"


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
        From features, ``(..., C)``, to scores, of a probe; None of the model's own head.
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
    """The model's own head where it knows all the folder's labels, or else a linear probe.

    Parameters
    ----------
    vit
        The adapted model.
    labels
        Image files and their labels: names of classes, WordNet's numbers (``n02084071``) or both (``n02084071_dog``).
    kind
        ``"own"``, ``"probe"``, or ``"auto"``, which is the head if it knows the labels. The probe is ridge regression
        of the classes, one against the rest, on the features that the head reads. Half of each class's images fit it;
        the other half is what it may be tested on.
    seed
        Draws the halves.
    batch_size
        Images in a forward pass.
    progress
        Whether to show a bar.
    notes
        Where the features that a probe is fitted on are kept until all are there.

    Raises
    ------
    StudyError
        There is no such kind, the head does not know a label, the model gives no features, or no two classes have two
        images that can be read.
    """
    if kind not in (AUTO, OWN, PROBE):
        raise StudyError(f'no classifier "{kind}"; use {AUTO}, {OWN} or {PROBE}')
    outputs = outputs_of(vit)
    found = {label: place for label in set(labels.values()) if (place := place_of(label, outputs)) is not None}
    unknown = sorted(set(labels.values()) - set(found))
    if kind == OWN and unknown:
        raise StudyError(
            f'the head of {vit.model_name} does not know "{unknown[0]}"' + (
                f" and {len(unknown) - 1} more of the folder's labels" if unknown[1:] else ""
            ) + "; fit one on the folder with classifier probe"
        )  # fmt: skip
    if kind == OWN or (kind == AUTO and not unknown):
        return Classifier(partial(scores, vit), found, dict(labels), {}, "its own head")
    return _probe(vit, labels, seed, batch_size, progress, notes)


def _probe(
    vit: AdaptedModel, labels: Mapping[str, str], seed: int, batch_size: int, progress: bool, notes: Notes | None
) -> Classifier:
    fit, test, left_out = split(labels, seed)
    classes = sorted(set(fit.values()))
    if len(classes) < 2:
        raise StudyError(
            "a classifier needs two classes with two images each; put images into folders named after them"
        )
    targets = {label: place for place, label in enumerate(classes)}
    crop = eval_crop(vit)
    fitted = measure_images(
        list(fit),
        lambda file: crop(open_rgb(file)),
        lambda pixels, files: {
            "features": features(vit, vit.preprocessing.normalize(pixels.to(vit.device, vit.dtype)))
        },
        title="Fitting a classifier",
        batch_size=batch_size,
        progress=progress,
        notes=notes,
    )
    places = [targets[fit[file]] for file in fitted.used]
    if len(set(places)) < 2:
        raise StudyError("images of two classes are needed to fit a classifier, and can be read of fewer")
    rows = torch.from_numpy(fitted.values["features"])
    weight, bias = (part.to(vit.device) for part in ridge(rows, torch.tensor(places), len(classes)))
    left_out |= {**dict.fromkeys(fitted.used, FITTED), **fitted.left_out}
    words = f"linear probe, ridge {RIDGE}, fitted on {len(places)} images"

    def of_features(rows: Tensor) -> Tensor:
        return rows.float() @ weight + bias

    return Classifier(lambda images: of_features(features(vit, images)), targets, test, left_out, words, of_features)


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


def ridge(rows: Tensor, places: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Ridge regression of each class, one against the rest.

    Parameters
    ----------
    rows
        Features, ``(N, C)``.
    places
        The class of each, ``(N,)``.
    classes
        How many there are.

    Returns
    -------
    weight, bias
        ``(C, classes)`` and ``(classes,)``.
    """
    # On the CPU in double precision: small, and not every accelerator has it.
    inputs = rows.cpu().double()
    wanted = functional.one_hot(places.cpu(), classes).double()
    mean, centred = inputs.mean(0), inputs - inputs.mean(0)
    gram = centred.T @ centred
    # Features that do not differ at all tell nothing, and the matrix is still solved.
    penalty = RIDGE * gram.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    weight = torch.linalg.solve(gram + penalty * torch.eye(len(gram)), centred.T @ (wanted - wanted.mean(0)))
    bias = wanted.mean(0) - mean @ weight
    return weight.to(rows), bias.to(rows)
