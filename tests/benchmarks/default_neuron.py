"""Chooses the neuron that ``captum-vit card`` shows where none is named, by a criterion that no hand is in.

Of every neuron of the default model, on the crops that cards choose from:

1. What its photos share. Of its four strongest crops, of different photos, the teacher (DINOv2) embeds the whole (its
   class token) and the nine patches around the peak. *Shared* is the mean cosine of the six pairs, of both; it must be
   above 99.9 % of 10,000 draws of four places in four photos. The peaks must hold something: pixels whose standard
   deviation is at least 0.1, so that four clear skies do not count.
2. Whether maps peak. *Contrast* is 1 less the mean of a map (its positive part) over its largest cell, the mean of the
   four; each must be at least a half, and the fourth photo must excite at least 0.4 times as much as the first.
3. Those with the largest product of the two are rendered as cards are. The render must excite the neuron more than the
   strongest photo does at its worst view too.

The largest product of shared, contrast and agreement is chosen.

    python tests/benchmarks/default_neuron.py [--render 12]
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import captum_vit
from captum_vit.cards.agreement import agreements
from captum_vit.cards.card import rank_photos
from captum_vit.cli.model import DEFAULT_MODEL
from captum_vit.data.crop import eval_crop
from captum_vit.data.images import open_rgb
from captum_vit.models import default_crops, default_photos
from captum_vit.models.training.teacher import load_teacher

PHOTOS, PARTS = len(default_photos()), len(default_crops()) // len(default_photos())
TOP, DRAWS = 4, 10_000
CONTRAST, VARIETY, FOURTH = 0.5, 0.1, 0.4  # at least
PATCH, SIDE = 14, 8  # of the teacher, and cells along each side of the default model's maps


@torch.no_grad()
def peaks(vit: captum_vit.AdaptedModel, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, contrast and place of the peak of every neuron's map on every crop, ``(N, units)`` each."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for batch in pixels.split(48):
        with vit.collect([site.name for site in vit.sites]) as maps:
            vit(vit.preprocessing.normalize(batch))
        cells = torch.cat([maps[site.name] for site in vit.sites], dim=1).flatten(2)
        largest, place = cells.max(dim=2)
        found.append((cells.mean(2), 1 - cells.relu().mean(2) / largest.clamp(min=1e-6), place))
    mean, contrast, place = (torch.cat(parts) for parts in zip(*found, strict=True))
    return mean, contrast, place


@torch.no_grad()
def teachers(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's unit vectors of whole crops, ``(N, D)``, and of the nine patches around cells, ``(N, cells, D)``.

    Its channels differ in scale a hundredfold; standardized, each counts. At borders the nine are moved inwards.
    """
    teacher, mean, std = load_teacher(), torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    tokens = []
    for batch in pixels.split(48):
        large = functional.interpolate(batch, size=(SIDE * PATCH, SIDE * PATCH), mode="bicubic", antialias=True)
        images = (large.clamp(0, 1) - mean[:, None, None]) / std[:, None, None]
        tokens.append(teacher.forward_features(images))
    whole, cells = torch.cat(tokens).split([1, SIDE * SIDE], dim=1)
    whole, cells = ((part - part.mean((0, 1))) / part.std((0, 1)) for part in (whole, cells))
    return functional.normalize(whole[:, 0], dim=1), functional.normalize(nine(cells.transpose(1, 2)), dim=1).mT


def nine(cells: Tensor) -> Tensor:
    """Means over three by three cells around each of ``(N, D, cells)``, moved inwards at borders."""
    middles = functional.avg_pool2d(cells.unflatten(2, (SIDE, SIDE)), 3, stride=1)
    return functional.pad(middles, [1] * 4, mode="replicate").flatten(2)


def variety(pixels: Tensor) -> Tensor:
    """Standard deviation of the brightness of the pixels around each cell, ``(N, cells)``."""
    grey = pixels.mean(1, keepdim=True)
    cell = pixels.shape[-1] // SIDE
    mean, square = (nine(functional.avg_pool2d(values, cell).flatten(2)) for values in (grey, grey**2))
    return (square - mean**2).clamp(min=0).sqrt()[:, 0]


def shared(vectors: Tensor) -> Tensor:
    """Mean cosine of the pairs of ``(..., n, D)`` unit vectors."""
    count = vectors.shape[-2]
    return ((vectors.sum(-2) ** 2).sum(-1) - count) / (count * (count - 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", type=int, default=12, help="how many neurons to render")
    arguments = parser.parse_args()
    vit = captum_vit.adapt(captum_vit.load(DEFAULT_MODEL))
    crop = eval_crop(vit)
    pixels = torch.stack([crop(open_rgb(path)) for path in default_crops()])
    mean, contrast, place = peaks(vit, pixels)
    whole, around = teachers(pixels)

    best, part = mean.unflatten(0, (PHOTOS, PARTS)).max(dim=1)  # of each photo
    activations, photos = best.topk(TOP, dim=0)
    crops = photos * PARTS + part.gather(0, photos)  # (TOP, units)
    peak = place.gather(0, crops)
    alike = (shared(whole[crops].transpose(0, 1)) + shared(around[crops, peak].transpose(0, 1))) / 2
    contrasts, varieties = contrast.gather(0, crops), variety(pixels)[crops, peak]
    draw = np.random.default_rng(0)
    null = [draw.choice(PHOTOS, TOP, replace=False) * PARTS + draw.integers(PARTS, size=TOP) for _ in range(DRAWS)]
    any_crops, any_cells = (
        torch.from_numpy(np.array(null)),
        torch.from_numpy(draw.integers(SIDE * SIDE, size=(DRAWS, TOP))),
    )
    chance = (shared(whole[any_crops]) + shared(around[any_crops, any_cells])) / 2
    above = float(chance.quantile(0.999))
    fit = (alike > above) & (contrasts.amin(0) >= CONTRAST) & (varieties.amin(0) >= VARIETY)
    fit &= (activations[-1] > 0) & (activations[-1] >= FOURTH * activations[0])
    score = torch.where(fit, alike * contrasts.mean(0), 0)
    print(f"{DEFAULT_MODEL}: {len(score)} neurons, {len(pixels)} crops of {PHOTOS} photos; shared by chance: ", end="")
    print(f"mean {chance.mean():.2f}, 99.9 % below {above:.2f}; {int(fit.sum())} neurons fit", flush=True)

    addresses = [f"{site.name}:{unit}" for site in vit.sites for unit in range(site.units)]
    order = score.topk(min(arguments.render, int(fit.sum()))).indices.tolist()
    chosen = [addresses[index] for index in order]
    renders = captum_vit.render(vit, chosen, progress=False)
    agreed = agreements(vit, renders, rank_photos(vit, chosen, default_crops(), progress=False), progress=False)
    print("| neuron | shared | contrast | render | worst view | agreement | score | photos |\n" + "|---" * 8 + "|")
    rows = []
    for index, made, agreement in zip(order, renders, agreed, strict=True):
        ratios = [value / float(activations[0, index]) for value in (made.activation, made.worst)]
        final = float(score[index]) * agreement.value * (made.problem is None and ratios[1] > 1)
        names = ", ".join(default_photos()[photo].stem for photo in photos[:, index].tolist())
        shown = (float(alike[index]), float(contrasts[:, index].mean()), *ratios, agreement.value, final)
        rows.append((final, addresses[index]))
        print(f"| {addresses[index]} | {' | '.join(f'{value:.2f}' for value in shown)} | {names} |", flush=True)
    print(f"chosen: {max(rows)[1]}")


if __name__ == "__main__":
    main()
