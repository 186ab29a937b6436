"""One pass over a dataset that finds the most activating images of every unit of every site at once."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_vit.errors import DatasetError, ImageError, RankingError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.devices import warn_if_idle
from captum_vit.progress import progress_bar
from captum_vit.ranking.batches import ImageBatches
from captum_vit.ranking.partial import PartialRanking
from captum_vit.ranking.ranker import Ranker
from captum_vit.ranking.result import Histogram, TopImage, TopImages
from captum_vit.ranking.topk import UnitRanking, row_maxima
from captum_vit.storage.fingerprint import weights_sha256

__all__ = ["REDUCTIONS", "Histogram", "TopImage", "TopImages", "find_reduction", "top_images"]

# From maps (B, units, rows, columns) to one activation for each image and unit, (B, units).
REDUCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda maps: maps.mean(dim=(2, 3), dtype=torch.float32),
    "max": lambda maps: row_maxima(maps).amax(dim=2).float(),
}


def find_reduction(name: str) -> Callable[[Tensor], Tensor]:
    """The reduction of that name: maps ``(B, units, rows, columns)`` to activations ``(B, units)``.

    Raises
    ------
    RankingError
        There is no such reduction.
    """
    if name not in REDUCTIONS:
        raise RankingError(f'no reduction "{name}"; there are: {", ".join(REDUCTIONS)}')
    return REDUCTIONS[name]


def top_images(
    vit: AdaptedModel,
    dataset: Any,
    k: int = 10,
    *,
    sites: Sequence[str] | None = None,
    reduction: str = "mean",
    batch_size: int = 32,
    workers: int | None = None,
    partial: str | Path | None = None,
    progress: bool = True,
    origin: Mapping[str, Any] | None = None,
    checkpoint: str | Path | None = None,
) -> TopImages:
    """Find the most activating images of every unit of every site in one pass.

    Parameters
    ----------
    vit
        The adapted model.
    dataset
        Paths of image files, or a folder of them, which are resized and cropped as timm's evaluation transform for
        the model does; files that cannot be read are skipped. Or a PyTorch ``Dataset`` of image tensors, or of tuples
        that begin with one, or a ``DataLoader`` of such, with images ``(3, H, W)`` as the model expects them
        (``vit.preprocessing.normalize(pixels)``). A loader keeps its batch size, workers and ``collate_fn``; the images
        that its sampler draws are each seen once, in the dataset's order, also those that ``drop_last`` would drop.
        The images of an ``IterableDataset`` are numbered as they arrive.
    k
        Number of images to keep for each unit.
    sites
        Names of the sites; all when not given.
    reduction
        ``"mean"`` over the patches, as in Ghiasi et al. (2022, arXiv 2212.06727, section 3), or ``"max"``, which also
        tells the patch.
    batch_size, workers
        Images in a forward pass, and processes that read them; when not given, none for a model on the CPU, and for
        one on an accelerator, where the dataset tells its files, as many as there are processors, at most 8 (on
        Linux; elsewhere none). Neither changes the result, but for the last bits of activations: matrix products may
        be rounded differently at another batch size.
    partial
        File in which to note, every few seconds, how far the pass has come; a pass that is started again with the same
        arguments goes on from there, and ends with the same result. It stays when the pass is finished: delete it once
        the result is saved. Files are recognized by path and size; of datasets that tell no files, the class, the
        number of images, and the first and last image.
    progress
        Whether to show a progress bar with images per second and the time left.
    origin
        What tells this model from others of its class, such as its name; recorded in the settings.
    checkpoint
        Deprecated name of ``partial``.

    Returns
    -------
    TopImages
        For each unit its images, best first, and a histogram of its activation.

    Raises
    ------
    AddressError
        There is no such site.
    DatasetError
        The dataset does not give images, or its images cannot be told apart.
    ImageError
        There is no image that can be read.
    OutputError
        The file ``partial`` cannot be written.
    RankingError
        ``k``, ``batch_size`` or ``reduction`` means nothing.

    Warns
    -----
    StalePartialWarning
        The file ``partial`` is damaged or of other arguments; the pass starts anew.
    IdleAcceleratorWarning
        The model is on the CPU, and the machine has an accelerator.
    """
    if checkpoint is not None:
        warnings.warn("top_images(checkpoint=) is now called partial=", DeprecationWarning, stacklevel=2)
        partial = checkpoint if partial is None else partial
    _check(k, batch_size, workers, reduction)
    wanted = {vit.site(name).name for name in sites} if sites is not None else {site.name for site in vit.sites}
    if not wanted:
        raise RankingError("no site to look at; name some, or leave sites out for all of them")
    chosen = [site for site in vit.sites if site.name in wanted]
    batches = ImageBatches(dataset, vit, batch_size, workers)
    if batches.is_stream and partial is not None:
        raise DatasetError(
            "a pass over an IterableDataset cannot go on in its middle, as its images have no positions; leave "
            "partial out, or rank parts of the data and merge them"
        )
    warn_if_idle(vit)
    result = TopImages(
        k=k,
        reduction=reduction,
        images=0,
        positions=batches.length,
        skipped=(),
        settings=_settings(vit, origin or {}),
        units={site.name: UnitRanking.empty(site.units, k, with_patches=reduction == "max") for site in chosen},
        sources={},
    )
    notes = None if partial is None else PartialRanking(Path(partial), result, batches.fingerprint())
    done = 0
    if notes is not None:
        result, done = notes.resume()
    result = _pass(vit, batches, result, done, notes, progress)
    if not result.images and result.skipped:
        raise ImageError(f"none of {len(result.skipped)} files can be read as an image; {result.skipped[0]}")
    if not result.images:
        raise ImageError("the dataset is empty; give at least one image")
    return result


def _pass(
    vit: AdaptedModel,
    batches: ImageBatches,
    result: TopImages,
    done: int,
    notes: PartialRanking | None,
    progress: bool,
) -> TopImages:
    """The ranking after all batches, going on after the first ``done`` of them, which are in ``result``."""
    ranker = Ranker(vit, find_reduction(result.reduction), result.units)
    ranked = len(result.sources)  # and not all that were seen: memory must not grow with the dataset
    completed = result.images + len(result.skipped)
    with progress_bar("Ranking", batches.images, not progress, completed=completed, rate="images") as advance:
        for batch in batches.read(done):
            if batch.images is not None:
                ranker.add(batch.images, batch.positions)
            done += 1
            result.sources.update(zip(batch.positions, batch.sources, strict=True))
            result = replace(
                result,
                images=result.images + len(batch.positions),
                positions=max([result.positions, *(position + 1 for position in batch.positions)]),  # a stream's grow
                skipped=result.skipped + tuple(batch.skipped),
            )
            if len(result.sources) > 2 * ranked + 10_000:
                result = replace(result, units=ranker.units()).pruned()
                ranked = len(result.sources)
            if notes is not None and notes.is_due:
                notes.write(replace(result, units=ranker.units()), done)
            advance(len(batch.positions) + len(batch.skipped))
    result = replace(result, units=ranker.units()).pruned()
    if notes is not None:
        notes.write(result, done)
    return result


def _check(k: int, batch_size: int, workers: int | None, reduction: str) -> None:
    for name, value, least in (("k", k, 1), ("batch_size", batch_size, 1), ("workers", workers or 0, 0)):
        if value < least:
            raise RankingError(f"{name} is {value}; it must be at least {least}")
    find_reduction(reduction)


def _settings(vit: AdaptedModel, origin: Mapping[str, Any]) -> dict[str, Any]:
    """What tells the ranking's model and preprocessing from others, as it comes back from a file."""
    settings: dict[str, Any] = json.loads(
        json.dumps(
            {
                "model": vit.model_name,
                "weights_sha256": weights_sha256(vit.model),
                "size": vit.preprocessing.size,
                "mean": vit.preprocessing.mean,
                "std": vit.preprocessing.std,
                "origin": dict(origin),
                "versions": {name: version(name) for name in ("captum-vit", "timm", "torch")},
            }
        )
    )
    return settings
