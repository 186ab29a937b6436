"""What the paper says of depth, measured on the embedded models: structure of renders, position, and the last block.

*Frequency*: mean spatial frequency of the renders of live neurons, as ``captum-vit study depth`` measures it on any
model; lower is larger structure. Renders that mean little are left out and counted. *Position*: correlation of patch
maps of two views of a photo that are a quarter of their width apart, once compared place by place in the scene, once
place by place in the view; a map that keeps position follows the scene. *Variance*: share of the variance of a unit's
map, over patches and photos, that lies between the patches of one photo; the rest tells photos apart. All three also at
random weights, to tell what was learned from what the architecture gives.

    python tests/benchmarks/depth.py [MODEL...] [--neurons 8] [--control-neurons 8] [--recipe fourier] [--seed 0]
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from scipy.stats import bootstrap, spearmanr
from torch import Tensor

import captum_vit
from captum_vit.models import available
from captum_vit.models.registry import MODELS
from captum_vit.models.training.photos import held_out_photos
from captum_vit.probes.grid import PatchGrid
from captum_vit.studies.rendered import measure_all

SIDE, SHIFT = 64, 16


def views(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two views ``(count, 3, 64, 64)`` in [0, 1] of photos that no model saw, the second 16 pixels to the right."""
    rng = np.random.default_rng(seed)
    photos = [photo.read() for photo in held_out_photos()]
    pairs = []
    for _ in range(count):
        photo = photos[rng.integers(len(photos))]
        scale = rng.uniform(0.3, 0.8) * min(photo.size) / SIDE
        width, height = (SIDE + SHIFT) * scale, SIDE * scale
        left, top = rng.uniform(0, photo.width - width), rng.uniform(0, photo.height - height)
        both = photo.resize((SIDE + SHIFT, SIDE), box=(left, top, left + width, top + height))
        pairs.append(torch.from_numpy(np.array(both)).permute(2, 0, 1).float() / 255)
    wide = torch.stack(pairs)
    return wide[..., :SIDE], wide[..., SHIFT:]


def correlation(first: Tensor, second: Tensor) -> float:
    """Mean over units of the correlation of two arrays ``(B, units, rows, columns)``."""
    first, second = (maps.transpose(0, 1).flatten(1) for maps in (first, second))
    first, second = (values - values.mean(1, keepdim=True) for values in (first, second))
    product = (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1)).clamp(min=1e-12)
    return float(product.mean())


@torch.no_grad()
def maps_of(vit: captum_vit.AdaptedModel, images: Tensor) -> dict[str, Tensor]:
    """Maps of all sites, by name."""
    with vit.collect([site.name for site in vit.sites]) as maps:
        vit(vit.preprocessing.normalize(images))
    return dict(maps)


def scene_and_view(grid: PatchGrid, left: Tensor, right: Tensor) -> tuple[float | None, float]:
    """Correlation of two views' maps ``(B, units, rows, columns)``, place by place in the scene and in the view.

    There is none in the scene where cells are larger than the shift.
    """
    centres = grid.centres((SIDE, SIDE))[1]
    shift = int(SHIFT / (centres[1] - centres[0]))  # cells
    first = left[..., shift:]
    scene = correlation(first, right[..., :-shift]) if shift else None
    return scene, correlation(first, right[..., shift:])


@dataclass
class SiteStudy:
    """What was measured at a site."""

    frequencies: list[float]
    silenced: int
    scene: float | None
    view: float
    within: float


def study(
    vit: captum_vit.AdaptedModel, left: Tensor, right: Tensor, neurons: int, recipe: str, steps: int | None, seed: int
) -> dict[str, SiteStudy]:
    """Measure every site of a model."""
    of_left, of_right = maps_of(vit, left), maps_of(vit, right)
    found = {}
    for site in vit.sites:
        first, second = of_left[site.name], of_right[site.name]
        scene, view = scene_and_view(site.grid, first, second)
        live = (first.mean(dim=(2, 3)).amax(0) > 0).nonzero().flatten().tolist()
        units = sorted(random.Random(f"{seed} {site.name}").sample(live, min(neurons, len(live))))
        addresses = [f"{site.name}:{unit}" for unit in units]
        renders = captum_vit.render(vit, addresses, recipe=recipe, steps=steps, seed=seed, progress=False)
        found[site.name] = SiteStudy(
            frequencies=[neuron.frequency for neuron in measure_all(renders) if neuron.counts],
            silenced=len(renders.problems),
            scene=scene,
            view=view,
            within=float(
                (first.var(dim=(2, 3), unbiased=False).mean(0) / first.var(dim=(0, 2, 3), unbiased=False)).nanmean()
            ),
        )
    return found


def interval(values: list[float]) -> str:
    """The median with its 95 % bootstrap interval."""
    if len(values) < 3:
        return "–"
    ends = bootstrap((values,), np.median, method="percentile", rng=np.random.default_rng(0)).confidence_interval
    return f"{median(values):.1f} ({ends.low:.1f}–{ends.high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=available())
    parser.add_argument("--neurons", type=int, default=8, help="to render at each site")
    parser.add_argument("--control-neurons", type=int, default=8, help="the same at random weights")
    parser.add_argument("--recipe", default="fourier")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--views", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    left, right = views(arguments.views, arguments.seed)
    how = (arguments.recipe, arguments.steps, arguments.seed)
    print("| model, site | grid | frequency | silenced | frequency, random weights ", end="")
    print("| scene | view | variance | variance, random weights |")
    print("|---|---|---|---|---|---|---|---|---|")
    for model in arguments.models:
        vit = captum_vit.adapt(captum_vit.load(model))
        torch.manual_seed(arguments.seed)
        learned = study(vit, left, right, arguments.neurons, *how)
        untrained = study(captum_vit.adapt(MODELS[model].build()), left, right, arguments.control_neurons, *how)
        for site in vit.sites:
            here, there = learned[site.name], untrained[site.name]
            scene = "–" if here.scene is None else f"{here.scene:.2f}"
            print(
                f"| {model} {site.name} | {'×'.join(map(str, site.grid((SIDE, SIDE))))} | {interval(here.frequencies)} "
                f"| {here.silenced} | {interval(there.frequencies)} | {scene} | {here.view:.2f} "
                f"| {here.within:.2f} | {there.within:.2f} |",
                flush=True,
            )
        for name, studied in ((model, learned), (f"{model} at random weights", untrained)):
            pairs = [(depth, value) for depth, here in enumerate(studied.values()) for value in here.frequencies]
            if pairs:
                found = spearmanr(*zip(*pairs, strict=True))
                print(f"{name}: frequency against depth, rank correlation {found.statistic:.2f} (p {found.pvalue:.2g})")


if __name__ == "__main__":
    main()
