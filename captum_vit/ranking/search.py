"""One pass over a dataset that finds the most activating images of every unit of every site at once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_vit.errors import CaptumViTError, DatasetError, ImageError, RankingError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.progress import progress_bar
from captum_vit.ranking.batches import ImageBatches
from captum_vit.ranking.partial import RankingCheckpoint
from captum_vit.ranking.result import Histogram, TopImage, TopImages
from captum_vit.ranking.topk import UnitRanking
from captum_vit.storage.fingerprint import weights_sha256

__all__ = ["REDUCTIONS", "Histogram", "TopImage", "TopImages", "find_reduction", "top_images"]

# From maps (B, units, rows, columns) to one activation for each image and unit, (B, units).
REDUCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda maps: maps.mean(dim=(2, 3), dtype=torch.float32),
    "max": lambda maps: maps.amax(dim=(2, 3)).float(),
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
    workers: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    origin: Mapping[str, Any] | None = None,
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
        Images in a forward pass, and processes that read them. Neither changes the result, but for the last bits of
        activations: matrix products may be rounded differently at another batch size.
    checkpoint
        File in which to note, every few seconds, how far the pass has come; a pass that is started again with the same
        arguments goes on from there, and ends with the same result. It stays when the pass is finished: delete it once
        the result is saved. Files are recognized by path and size; of datasets that tell no files, the class, the
        number of images, and the first and last image.
    progress
        Whether to show a progress bar with images per second and the time left.
    origin
        What tells this model from others of its class, such as its name; recorded in the settings.

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
        The checkpoint cannot be written.
    RankingError
        ``k``, ``batch_size`` or ``reduction`` means nothing.

    Warns
    -----
    StaleCheckpointWarning
        The checkpoint is damaged or of other arguments; the pass starts anew.
    """
    _check(k, batch_size, workers, reduction)
    wanted = {vit.site(name).name for name in sites} if sites is not None else {site.name for site in vit.sites}
    if not wanted:
        raise RankingError("no site to look at; name some, or leave sites out for all of them")
    chosen = [site for site in vit.sites if site.name in wanted]
    batches = ImageBatches(dataset, vit, batch_size, workers)
    if batches.is_stream and checkpoint is not None:
        raise DatasetError(
            "a pass over an IterableDataset cannot go on in its middle, as its images have no positions; leave the "
            "checkpoint out, or rank parts of the data and merge them"
        )
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
    notes = None if checkpoint is None else RankingCheckpoint(Path(checkpoint), result, batches.fingerprint())
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
    notes: RankingCheckpoint | None,
    progress: bool,
) -> TopImages:
    """The ranking after all batches, going on after the first ``done`` of them, which are in ``result``."""
    ranked = len(result.sources)  # and not all that were seen: memory must not grow with the dataset
    completed = result.images + len(result.skipped)
    with progress_bar("Ranking", batches.images, not progress, completed=completed, rate="images") as advance:
        for batch in batches.read(done):
            if batch.images is not None:
                _rank(vit, result, batch.images, np.array(batch.positions, dtype=np.int64))
            done += 1
            result.sources.update(zip(batch.positions, batch.sources, strict=True))
            result = replace(
                result,
                images=result.images + len(batch.positions),
                positions=max([result.positions, *(position + 1 for position in batch.positions)]),  # a stream's grow
                skipped=result.skipped + tuple(batch.skipped),
            )
            if len(result.sources) > 2 * ranked + 10_000:
                result = result.pruned()
                ranked = len(result.sources)
            if notes is not None:
                notes.take(result, done)
            advance(len(batch.positions) + len(batch.skipped))
    if notes is not None:
        notes.write(result, done)
    return result.pruned()


@torch.no_grad()
def _rank(vit: AdaptedModel, result: TopImages, images: Tensor, positions: NDArray[np.int64]) -> None:
    """Pass a batch through the model as far as the last site, and rank what each unit makes of it."""
    reduce, thread = find_reduction(result.reduction), threading.get_ident()
    arrived = set()

    # Each map is reduced as soon as it is there, so that no two are in memory.
    def hook(name: str, probe: nn.Module, inputs: Any, maps: Tensor) -> None:
        if threading.get_ident() == thread:  # and not another's pass through the same model
            arrived.add(name)
            ranking = result.units[name]
            find = partial(_peaks, maps) if ranking.patches.size else None
            ranking.add(reduce(maps).cpu().numpy(), positions, find)

    parameter = next(vit.parameters())
    with ExitStack() as hooks, vit.until(result.sites[-1]):
        for name in result.sites:
            hooks.callback(vit.ffn[vit.site(name).key].register_forward_hook(partial(hook, name)).remove)
        vit(images.to(parameter.device, parameter.dtype))
    if missed := [name for name in result.sites if name not in arrived]:
        raise CaptumViTError(f"the forward pass of {vit.model_name} ended without reaching {', '.join(missed)}")


def _peaks(maps: Tensor, units: NDArray[np.intp], images: NDArray[np.intp]) -> NDArray[np.int16]:
    """Where units peak in images, (row, column); the first in row-major order of several."""
    peaks = maps[torch.from_numpy(images).to(maps.device), torch.from_numpy(units).to(maps.device)].flatten(1).argmax(1)
    return np.stack(np.divmod(peaks.cpu().numpy(), maps.shape[3]), axis=1).astype(np.int16)


def _check(k: int, batch_size: int, workers: int, reduction: str) -> None:
    for name, value, least in (("k", k, 1), ("batch_size", batch_size, 1), ("workers", workers, 0)):
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
