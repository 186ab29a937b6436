"""Accuracy under several views of the same images: what the studies of a classifier share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_vit.checks import check_adapted, whole_number
from captum_vit.data.labels import labelled_files
from captum_vit.errors import StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.studies.bootstrap import interval
from captum_vit.studies.classifier import Classifier, find_classifier
from captum_vit.studies.keeping import Kept, files_sha256
from captum_vit.studies.passes import measure_images
from captum_vit.studies.study import with_interval

WHOLE = "full"

# A view's name, the scores of the classes in it, (B, classes) or (B, P, classes), and a number for each image or None.
Scored = tuple[str, Tensor, Tensor | None]


@dataclass(frozen=True)
class Hits:
    """Which images were classified rightly, under each view.

    Attributes
    ----------
    top1, top5
        By the name of the view, whether the label has the best score, or one of the best five, shape ``(N,)``; of a
        view with scores for ``P`` places, ``(N, P)``.
    extra
        By the name of the view, whatever else was measured of each image, shape ``(N,)``.
    facts
        What the record says of the model.
    """

    top1: Mapping[str, NDArray[Any]]
    top5: Mapping[str, NDArray[Any]]
    extra: Mapping[str, NDArray[np.float64]]
    facts: Mapping[str, Any]


def labels_of(images: str | Path | Mapping[str, str]) -> Mapping[str, str]:
    """Image files and their labels: those of a folder with a folder for each class, or as they are."""
    return images if isinstance(images, Mapping) else labelled_files(images)


def check_asked(vit: AdaptedModel, batch_size: int) -> None:
    """Make sure that a model can be measured on photos, in batches of that size."""
    check_adapted(vit)
    vit.check_takes_photos()
    whole_number("batch_size", batch_size, error=StudyError)


@dataclass(frozen=True)
class Classification:
    """What the studies of a classifier are all asked: a model, labelled images, and how it is to tell them apart.

    Attributes
    ----------
    vit
        The adapted model.
    labels
        Image files and their labels.
    classifier, seed, batch_size, progress
        As for :func:`captum_vit.studies.find_classifier`.
    """

    vit: AdaptedModel
    labels: Mapping[str, str]
    classifier: str
    seed: int
    batch_size: int
    progress: bool

    @property
    def settings(self) -> dict[str, Any]:
        """What of it the answer depends on, and is the same for all models."""
        return {"classifier": self.classifier, "seed": self.seed, "images": files_sha256(self.labels)}

    def measure(
        self,
        read: Callable[[str], Tensor],
        scored: Callable[[Tensor, Classifier], Iterable[Scored]],
        kept: Kept,
        whole: str = WHOLE,
    ) -> Hits:
        """Classify views of the images.

        Parameters
        ----------
        read
            From a file to what ``scored`` takes of it, ``(C, H, W)``; an error of this package leaves the image out.
        scored
            From a batch of these, on the model's device, and the classifier to the scores of the views.
        kept
            Where passes keep how far they have come.
        whole
            The view whose accuracy is the model's own.

        Raises
        ------
        StudyError
            There is no classifier, or no image can be used.
        """
        found = find_classifier(
            self.vit,
            self.labels,
            self.classifier,
            seed=self.seed,
            batch_size=self.batch_size,
            progress=self.progress,
            notes=kept.notes("fit"),
        )

        def hits(pixels: Tensor, files: Sequence[str]) -> dict[str, Tensor]:
            places = torch.tensor([found.targets[found.files[file]] for file in files], device=self.vit.device)
            values: dict[str, Tensor] = {}
            for view, scores, number in scored(pixels.to(self.vit.device), found):
                values[f"top-1 {view}"], values[f"top-5 {view}"] = among_best(scores, places)
                if number is not None:
                    values[f"extra {view}"] = number
            return values

        measured = measure_images(
            list(found.files),
            read,
            hits,
            title="Classifying images",
            batch_size=self.batch_size,
            progress=self.progress,
            notes=kept.notes("classify"),
        )
        left_out = {**found.left_out, **measured.left_out}
        if not measured.used:
            raise StudyError(
                f"none of {len(self.labels)} images can be used; {next(iter(left_out.values()), 'there are none')}"
            )
        top1, top5, extra = (
            {name.removeprefix(part): each for name, each in measured.values.items() if name.startswith(part)}
            for part in ("top-1 ", "top-5 ", "extra ")
        )
        extra = {view: each.astype(np.float64) for view, each in extra.items()}
        facts = {
            "classifier": found.words,
            "classes": len(found.targets),
            "top-1": float(top1[whole].mean()),
            "images": len(measured.used),
            "left_out": left_out,
        }
        return Hits(top1, top5, extra, facts)


def among_best(scores: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the label's class has the best score, and whether it has one of the best five.

    Parameters
    ----------
    scores
        Scores of the classes, ``(B, classes)``, or for ``P`` places, ``(B, P, classes)``. A class with minus infinity,
        which no neighbour is of, is never among the best, however few others there are.
    places
        Each label's place among the classes, ``(B,)``.

    Returns
    -------
    top1, top5
        Of bool, ``(B,)`` or ``(B, P)``.
    """
    best = scores.topk(min(5, scores.shape[-1]), dim=-1)
    right = (best.indices == places.view(-1, *[1] * (scores.dim() - 1))) & (best.values > -torch.inf)
    return right[..., 0], right.any(-1)


def columns_of(whole: str = WHOLE) -> tuple[str, ...]:
    """Columns of :func:`accuracies`, without the ends of their intervals."""
    return "top-1", f"top-1 of {whole}", "top-5", f"top-5 of {whole}"


def accuracies(hits: Hits, view: str, seed: int, whole: str = WHOLE) -> dict[str, float | None]:
    """Top-1 and top-5 of a view, and both as shares of the whole's, each with its interval.

    Of a view with several places, each image counts by the share of the places that are right.
    """
    columns: dict[str, float | None] = {}
    for name, of_view in (("top-1", hits.top1), ("top-5", hits.top5)):
        right = of_view[view].reshape(len(of_view[view]), -1).mean(1)
        columns |= with_interval(name, float(right.mean()), interval(right, seed=seed))
        total = of_view[whole].sum()
        share = float(right.sum() / total) if total else None
        columns |= with_interval(f"{name} of {whole}", share, interval(right, of_view[whole], seed))
    return columns
