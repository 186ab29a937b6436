"""What an atlas will take, told before the long work starts: from a short calibration on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_vit.atlas.images import read_bytes
from captum_vit.atlas.making import Undertaking
from captum_vit.atlas.manifest import Manifest
from captum_vit.atlas.naming.asked import LEXICON
from captum_vit.atlas.naming.crops import CROPS
from captum_vit.atlas.naming.words import TEMPLATES
from captum_vit.atlas.pieces import NamePiece, PhotoPiece, RankingPiece, RenderPiece
from captum_vit.atlas.reading import PhotoReader
from captum_vit.atlas.worker import computing_with
from captum_vit.optvis.plan import PlanSettings, RenderPlan
from captum_vit.optvis.timing import seconds_of_batch
from captum_vit.probes.adapted import AdaptedModel

# Bytes, measured: a pixel of a render and of a thumbnail in WebP, a cell of a map in a table and in the page, what else
# is known of a neuron in rankings, records, table and page, and of an image in the list.
_RENDER_PIXEL, _PHOTO_PIXEL, _CELL, _NEURON, _IMAGE = 0.3, 0.22, 1.7, 3000, 40

# Crops and texts of which a CLIP's time is told.
_ROWS = 8


@dataclass(frozen=True)
class Estimate:
    """What is left to do of an atlas.

    Attributes
    ----------
    neurons
        To render.
    images
        To rank.
    photos
        To map, at most.
    passes
        Of one image forward and backward through the model, for the renders.
    names
        Neurons to name.
    ranking_seconds, photo_seconds, render_seconds, name_seconds
        Of one worker.
    workers
        How many share the work.
    gigabytes
        That the whole atlas will take on the disk.
    """

    neurons: int
    images: int
    photos: int
    passes: int
    names: int
    ranking_seconds: float
    photo_seconds: float
    render_seconds: float
    name_seconds: float
    workers: int
    gigabytes: float

    @property
    def seconds(self) -> float:
        """How long the work takes, if workers do not slow one another down."""
        return (self.ranking_seconds + self.photo_seconds + self.render_seconds + self.name_seconds) / self.workers


def estimate(undertaking: Undertaking, workers: int) -> Estimate:
    """Estimate what is left to do, from a batch of images and a few steps at the first and the last site.

    Parameters
    ----------
    undertaking
        The atlas.
    workers
        How many share the work.
    """
    manifest, vit = undertaking.manifest, undertaking.vit.to(undertaking.job.device)
    missing = undertaking.missing
    images = sum(piece.amount for piece in missing if isinstance(piece, RankingPiece))
    renders = [piece for piece in missing if isinstance(piece, RenderPiece)]
    parts = {piece.part for piece in missing if isinstance(piece, PhotoPiece)}
    looked_through = sum(piece.amount for piece in missing if isinstance(piece, PhotoPiece))
    ranked = manifest.k * len(manifest.rankings) * sum(_neurons(manifest, part) for part in parts)
    photos = min(looked_through, ranked)
    neurons = sum(piece.amount for piece in renders)
    names = sum(piece.amount for piece in missing if isinstance(piece, NamePiece))
    with computing_with(manifest.work.threads):
        an_image = _seconds_an_image(undertaking, vit) if images or photos else 0.0
        a_neuron = _seconds_a_neuron(undertaking, vit, renders)
        naming = _naming_seconds(undertaking, names)
    return Estimate(
        neurons=neurons,
        images=images,
        photos=photos,
        passes=neurons * manifest.renders["steps"],
        ranking_seconds=images * an_image,
        photo_seconds=photos * an_image,
        render_seconds=sum(piece.amount * a_neuron[piece.site] for piece in renders),
        names=names,
        name_seconds=naming,
        workers=max(1, min(workers, len(missing))),
        gigabytes=_bytes(manifest) / 1e9,
    )


def _neurons(manifest: Manifest, part: int) -> int:
    return sum(last - first + 1 for pieces in manifest.parts[part].values() for runs in pieces for first, last in runs)


def _seconds_an_image(undertaking: Undertaking, vit: AdaptedModel) -> float:
    """To read an image and pass it through the model."""
    reader = PhotoReader(vit, undertaking.images.places)
    entries = undertaking.images.entries[: undertaking.manifest.work.images_a_batch]
    for entry in entries[:1]:
        read_bytes(undertaking.images.places, entry)
    begin = time.perf_counter()
    for batch in reader.batches(entries, len(entries)):
        if batch.pixels is not None:
            with torch.no_grad(), vit.collect([site.name for site in vit.sites]):
                vit(vit.preprocessing.normalize(batch.pixels.to(vit.device, vit.dtype)))
    return (time.perf_counter() - begin) / len(entries)


def _seconds_a_neuron(undertaking: Undertaking, vit: AdaptedModel, renders: Iterable[RenderPiece]) -> dict[str, float]:
    """To render a neuron of each site, as if the time grew evenly from the first site that is left to the last."""
    manifest = undertaking.manifest
    depths = {site.name: depth for depth, site in enumerate(manifest.sites)}
    left = sorted({piece.site for piece in renders}, key=depths.__getitem__)
    if not left:
        return {}
    said: PlanSettings = {**manifest.said, "recipe": undertaking.job.recipe}
    plan = RenderPlan.of(vit, **said)
    ends = {}
    for name in dict.fromkeys((left[0], left[-1])):
        units = manifest.units(name)[: manifest.work.units_a_batch]
        ends[name] = seconds_of_batch(vit, [f"{name}:{unit}" for unit in units], plan) / len(units)
    first, last = depths[left[0]], depths[left[-1]]
    return {
        name: ends[left[0]] + (ends[left[-1]] - ends[left[0]]) * (depths[name] - first) / max(1, last - first)
        for name in left
    }


def _naming_seconds(undertaking: Undertaking, names: int) -> float:
    """To name so many neurons by their photos' crops, and to see random crops and words before."""
    naming = undertaking.job.naming
    if naming is None or not names:
        return 0.0
    clip = naming.clip
    a_crop = _seconds_a_row(lambda rows: clip.encode_images(torch.zeros(rows, 3, *clip.size, device=clip.device)))
    crops, texts = names * undertaking.manifest.k, 0
    if not (undertaking.folder / LEXICON).exists():
        crops, texts = crops + CROPS, len(naming.words) * len(TEMPLATES)
    a_text = _seconds_a_row(lambda rows: clip.encode_texts([naming.words[0]] * rows)) if texts else 0.0
    return crops * a_crop + texts * a_text


def _seconds_a_row(encode: Callable[[int], Tensor]) -> float:
    """Of a second batch, as the first one warms up."""
    encode(1)
    begin = time.perf_counter()
    encode(_ROWS).cpu()
    return (time.perf_counter() - begin) / _ROWS


def _bytes(manifest: Manifest) -> float:
    """Of a finished atlas."""
    pictures, measures = manifest.pictures, len(manifest.rankings)
    neurons = sum(len(manifest.units(site.name)) for site in manifest.sites)
    cells = sum(len(manifest.units(site.name)) * site.grid[0] * site.grid[1] for site in manifest.sites)
    shown = min(manifest.images.count, neurons * manifest.k * measures)
    height, width = pictures.render_size
    renders = neurons * height * width * _RENDER_PIXEL
    photos = shown * pictures.photo_size[0] * pictures.photo_size[1] * _PHOTO_PIXEL
    maps = cells * min(manifest.k, manifest.images.count) * measures * _CELL
    return renders + photos + maps + neurons * _NEURON + manifest.images.count * _IMAGE
