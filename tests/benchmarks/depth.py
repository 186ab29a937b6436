"""What the paper says of depth, measured on the embedded models: structure of renders, position, and the last block.

Three figures a site. *Frequency*: mean spatial frequency of the renders of live neurons, weighted by power, in cycles
per image; lower is larger structure. *Position*: correlation of patch maps of two views of a photo that are a quarter
of their width apart, once compared place by place in the scene, once place by place in the view; a map that keeps
position follows the scene. *Variance*: share of the variance of a unit's map, over patches and photos, that lies
between the patches of one photo; the rest tells photos apart.

    python tests/benchmarks/depth.py [MODEL...] [--neurons 8] [--views 200] [--seed 0]
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor

import captum_vit
from captum_vit.models import available
from captum_vit.models.training.photos import held_out_photos

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


def frequency(images: np.ndarray) -> float:
    """Mean spatial frequency of images ``(N, H, W, 3)``, weighted by power, in cycles per image."""
    grey = images.mean(axis=3)
    power = np.abs(np.fft.fft2(grey - grey.mean(axis=(1, 2), keepdims=True))) ** 2
    radius = SIDE * np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij"))
    return float(np.median((power * radius).sum(axis=(1, 2)) / power.sum(axis=(1, 2))))


@torch.no_grad()
def maps_of(vit: captum_vit.AdaptedModel, images: Tensor) -> dict[str, Tensor]:
    """Maps of all sites, by name."""
    with vit.collect([site.name for site in vit.sites]) as maps:
        vit(vit.preprocessing.normalize(images))
    return dict(maps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=available())
    parser.add_argument("--neurons", type=int, default=8, help="to render at each site")
    parser.add_argument("--views", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    left, right = views(arguments.views, arguments.seed)
    print("| model, site | grid | frequency of renders | follows the scene | stays in the view | variance in a photo |")
    print("|---|---|---|---|---|---|")
    for model in arguments.models:
        vit = captum_vit.adapt(captum_vit.load(model))
        of_left, of_right = maps_of(vit, left), maps_of(vit, right)
        for site in vit.sites:
            first, second = of_left[site.name], of_right[site.name]
            rows, columns = first.shape[2:]
            shift = columns * SHIFT // SIDE
            scene = correlation(first[..., shift:], second[..., : columns - shift]) if shift else float("nan")
            view = correlation(first[..., shift:], second[..., shift:])
            within = first.var(dim=(2, 3), unbiased=False).mean(0) / first.var(dim=(0, 2, 3), unbiased=False)
            live = (first.mean(dim=(2, 3)).amax(0) > 0).nonzero().flatten().numpy()
            chosen = np.random.default_rng(arguments.seed).choice(
                live, min(arguments.neurons, len(live)), replace=False
            )
            addresses = [f"{site.name}:{unit}" for unit in sorted(chosen)]
            renders = captum_vit.render(vit, addresses, recipe="fourier", seed=arguments.seed, progress=False)
            print(
                f"| {model} {site.name} | {rows}×{columns} | {frequency(renders.images):.1f} "
                f"| {scene:.2f} | {view:.2f} | "
                f"{float(within.nanmean()):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
