"""One pass over a dataset that finds the most activating images of every unit of every site at once."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from captum_vit.errors import DatasetError, ImageError, RankingError
from captum_vit.probes.adapted import AdaptedModel
from captum_vit.probes.devices import warn_if_idle
from captum_vit.progress import progress_bar
from captum_vit.ranking import measure as measures
from captum_vit.ranking.batches import ImageBatches
from captum_vit.ranking.measure import ACTIVATION, find_reduction, kind_of, resolve_measure
from captum_vit.ranking.partial import PartialRanking
from captum_vit.ranking.ranker import Ranker
from captum_vit.ranking.relevance import RELEVANCE
from captum_vit.ranking.result import Histogram, TopImage, TopImages
from captum_vit.ranking.topk import UnitRanking
from captum_vit.storage.fingerprint import weights_sha256

__all__ = ["REDUCTIONS", "Histogram", "TopImage", "TopImages", "find_reduction", "top_images"]

REDUCTIONS = measures.REDUCTIONS[ACTIVATION]


def top_images(
    vit: AdaptedModel,
    dataset: Any,
    k: int = 10,
    *,
    sites: Sequence[str] | None = None,
    by: str = ACTIVATION,
    reduction: str | None = None,
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
    by
        What is measured of a unit: its ``"activation"``, or its ``"relevance"``, what it contributes to the model's
        own output: activation times gradient, as Captum's ``LayerGradientXActivation`` gives it and as in RelMax
        (Achtibat et al. 2023, doi 10.1038/s42256-023-00711-8). The output is the image's top logit, and of models
        without a classifier the embedding's norm; ``"relevance:281"`` is to output 281, ``"relevance:top"``,
        ``"relevance:norm"`` and ``"relevance:sum"`` to what they say. Of patches only, not of prefix tokens.
    reduction
        ``"mean"`` over the patches, the default for activation, as in Ghiasi et al. (2022, arXiv 2212.06727, section
        3); ``"sum"``, the default for relevance, as contributions add up; or ``"max"``, which also tells the patch.
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
        For each unit its images, best first, and a histogram of what was measured.

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
        ``k``, ``batch_size``, ``by`` or ``reduction`` means nothing, or the model has no such output.

    Warns
    -----
    StalePartialWarning
        The file ``partial`` is damaged or of other arguments; the pass starts anew.
    IdleAcceleratorWarning
        The model is on the CPU, and the machine has an accelerator.
    ZeroAttributionWarning
        A site's patches never reach the model's output, so that their relevance to it is zero.
    """
    if checkpoint is not None:
        warnings.warn("top_images(checkpoint=) is now called partial=", DeprecationWarning, stacklevel=2)
        partial = checkpoint if partial is None else partial
    by = resolve_measure(vit, by)
    reduction = reduction or next(iter(measures.REDUCTIONS[kind_of(by)]))
    _check(k, batch_size, workers)
    find_reduction(reduction, by)
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
    if kind_of(by) == RELEVANCE:
        for site in chosen:
            vit.layer(site.name)  # warns where relevance is zero
    result = TopImages(
        k=k,
        reduction=reduction,
        images=0,
        positions=batches.length,
        skipped=(),
        settings=_settings(vit, by, origin or {}),
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
    ranker = Ranker(vit, find_reduction(result.reduction, result.by), result.units, by=result.by)
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


def _check(k: int, batch_size: int, workers: int | None) -> None:
    for name, value, least in (("k", k, 1), ("batch_size", batch_size, 1), ("workers", workers or 0, 0)):
        if value < least:
            raise RankingError(f"{name} is {value}; it must be at least {least}")


def _settings(vit: AdaptedModel, by: str, origin: Mapping[str, Any]) -> dict[str, Any]:
    """What tells the ranking's model, preprocessing and measure from others, as it comes back from a file."""
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
            # Rankings by activation have no word for it, as before there were others.
            | ({} if by == ACTIVATION else {"by": by})
        )
    )
    return settings
