"""Accuracy under several views of the same images: what the studies of a classifier share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_vit.checks import check_adapted, whole_number
from captum_vit.data.labels import labelled_files
from captum_vit.errors import ImageError, StudyError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.progress import progress_bar
from captum_vit.studies.bootstrap import interval
from captum_vit.studies.classifier import Classifier, find_classifier

WHOLE = "full"
# Columns of :func:`accuracies`, without the ends of their intervals.
ACCURACIES = ("top-1", "top-1 of full", "top-5", "top-5 of full")


@dataclass(frozen=True)
class Hits:
    """Which images were classified rightly, under each view.

    Attributes
    ----------
    top1, top5
        By the name of the view, whether the label has the best score, or one of the best five, shape ``(N,)``.
    extra
        By the name of the view, whatever else was measured of each image, shape ``(N,)``.
    model
        What the record says of the model.
    """

    top1: Mapping[str, NDArray[np.bool_]]
    top5: Mapping[str, NDArray[np.bool_]]
    extra: Mapping[str, NDArray[np.float64]]
    model: Mapping[str, Any]


# From images (B, C, H, W), pixels in [0, 1], to views of them by name, each with a number for each image or None.
Views = Callable[[Tensor], Mapping[str, tuple[Tensor, Tensor | None]]]


def measure(
    vit: AdaptedModel,
    images: str | Path | Mapping[str, str],
    read: Callable[[str], Tensor],
    views: Views,
    *,
    classifier: str = "auto",
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = True,
) -> Hits:
    """Classify views of a folder's images.

    Parameters
    ----------
    vit
        The adapted model.
    images
        A folder with a folder for each class, or files and their labels.
    read
        From a file to what ``views`` takes of it, ``(C, H, W)``; an error of this package leaves the image out.
    views
        From a batch of these to views, one of them called ``"full"``.
    classifier, seed, batch_size, progress
        As for :func:`captum_vit.studies.find_classifier`.

    Raises
    ------
    StudyError
        No image can be used.
    """
    check_adapted(vit)
    vit.check_takes_photos()
    whole_number("batch_size", batch_size, error=StudyError)
    labels = images if isinstance(images, Mapping) else labelled_files(images)
    found = find_classifier(vit, labels, classifier, seed=seed, batch_size=batch_size, progress=progress)
    left_out, batches = dict(found.left_out), []
    files = list(found.files)
    with torch.inference_mode(), progress_bar("Classifying images", len(files), disable=not progress) as advance:
        for start in range(0, len(files), batch_size):
            pixels, places = [], []
            for file in files[start : start + batch_size]:
                try:
                    pixels.append(read(file))
                except (ImageError, StudyError) as error:
                    left_out[file] = str(error)
                else:
                    places.append(found.targets[found.files[file]])
            if pixels:
                batches.append(_classified(vit, found, views, torch.stack(pixels), places))
            advance(min(batch_size, len(files) - start))
    if not batches:
        raise StudyError(f"none of {len(files)} images can be used; {next(iter(left_out.values()), 'there are none')}")
    top1, top5, extra = (
        {name: np.concatenate([batch[part][name] for batch in batches]) for name in batches[0][part]}
        for part in range(3)
    )
    model = {
        "parameters": sum(parameter.numel() for parameter in vit.model.parameters()),
        "input_size": list(vit.preprocessing.size),
        "classifier": found.words,
        "classes": len(found.targets),
        "top-1": float(top1[WHOLE].mean()),
        "images": len(top1[WHOLE]),
        "left_out": left_out,
    }
    return Hits(top1, top5, extra, model)


def accuracies(hits: Hits, view: str, seed: int) -> dict[str, float | None]:
    """Top-1 and top-5 of a view, and both as shares of the full image's, each with its interval."""
    columns: dict[str, float | None] = {}
    for name, of_view in (("top-1", hits.top1), ("top-5", hits.top5)):
        columns |= _with_interval(name, float(of_view[view].mean()), interval(of_view[view], seed=seed))
        whole = of_view[WHOLE].sum()
        share = float(of_view[view].sum() / whole) if whole else None
        columns |= _with_interval(f"{name} of full", share, interval(of_view[view], of_view[WHOLE], seed))
    return columns


def _with_interval(name: str, value: float | None, ends: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = ends or (None, None)
    return {name: value, f"low {name}": low, f"high {name}": high}


def _classified(
    vit: AdaptedModel, found: Classifier, views: Views, pixels: Tensor, places: list[int]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    top1, top5, extra = {}, {}, {}
    wanted = torch.tensor(places, device=vit.device)[:, None]
    for name, (view, number) in views(pixels.to(vit.device)).items():
        scores = found.scores(vit.preprocessing.normalize(view.to(vit.dtype)))
        right = scores.topk(min(5, scores.shape[1]), dim=1).indices == wanted
        top1[name], top5[name] = right[:, 0].cpu().numpy(), right.any(1).cpu().numpy()
        if number is not None:
            extra[name] = number.double().cpu().numpy()
    return top1, top5, extra
